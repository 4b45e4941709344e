//! Backends that come from elsewhere than the configuration.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::*;

const NAME: &str = "gpus.test.";

/// A gateway whose only pool gets its backends from `source`.
fn discovering(source: Value) -> Setup {
    Setup::pools(json!([{"name": "p", "models": ["*"], "discovery": source}]))
        .set("fleet.selection.slow_start", json!("0s"))
}

fn dns(server: &Dns, port: u16, refresh: &str) -> Setup {
    discovering(json!({"dns": {
        "name": NAME, "port": port, "server": server.server(), "refresh": refresh,
    }}))
}

fn ips(backends: &[&Backend]) -> Vec<IpAddr> {
    backends.iter().map(|backend| backend.addr().ip()).collect()
}

/// The names of the backends that `/api/backends` shows as configured.
async fn names(gateway: &Gateway) -> BTreeSet<String> {
    let listed = gateway.admin_get("/api/backends").await.json();
    let listed = listed["backends"].as_array().unwrap().iter();
    let staying = listed.filter(|backend| backend["leaving"] != true);
    staying
        .map(|b| b["id"].as_str().unwrap().to_owned())
        .collect()
}

async fn becomes(gateway: &Gateway, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    eventually(&format!("the backends are {wanted:?}"), || async {
        (names(gateway).await == wanted).then_some(())
    })
    .await;
}

async fn told(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("drover_discovery_total", result).await
}

async fn tells(gateway: &Gateway, result: &'static str) {
    eventually(&format!("discovery tells {result}"), || async {
        (told(gateway, result).await > 0.0).then_some(())
    })
    .await;
}

/// Puts a list of backends into a file in one step.
fn write(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}

fn list(backends: &[(&str, &Backend)]) -> String {
    let list = backends
        .iter()
        .map(|(name, backend)| json!({"name": name, "url": backend.url()}));
    Value::from_iter(list).to_string()
}

fn from_file(path: &Path) -> Setup {
    discovering(json!({"file": {"path": path, "every": "20ms"}}))
}

#[tokio::test]
async fn a_file_changes_under_load_and_no_request_is_lost() {
    let all = [
        Backend::start().await,
        Backend::start().await,
        Backend::start().await,
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gpus.json");
    let write_some = |which: &[usize]| {
        let named: Vec<(String, &Backend)> =
            which.iter().map(|n| (format!("n{n}"), &all[*n])).collect();
        let named: Vec<(&str, &Backend)> = named.iter().map(|(n, b)| (n.as_str(), *b)).collect();
        write(&path, &list(&named));
    };
    write_some(&[0]);
    let gateway = from_file(&path).start().await;
    let load = async {
        for _ in 0..50 {
            for n in 0..4 {
                let response = gateway.ask(&chat(json!({"stream": n % 2 == 0}))).await;
                assert_eq!(response.status, 200, "{}", response.text());
            }
        }
    };
    let changes = async {
        for set in [&[1][..], &[0, 1, 2], &[2], &[0, 1]] {
            write_some(set);
            let wanted: Vec<String> = set.iter().map(|n| format!("n{n}")).collect();
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            becomes(&gateway, &wanted).await;
        }
    };
    tokio::join!(load, changes);
    let served: usize = all.iter().map(|backend| backend.requests().len()).sum();
    assert_eq!(served, 200);
    assert!(told(&gateway, "applied").await >= 5.0);
}

#[tokio::test]
async fn a_live_stream_outlives_the_backend_that_is_no_longer_found() {
    let gate = Gate::new();
    let held = Reply::held(&gate);
    let (old, new) = (Backend::replying(held).await, Backend::start().await);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gpus.yaml");
    write(&path, &list(&[("old", &old)]));
    let gateway = from_file(&path).start().await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    assert_eq!(answer.content().await, "a");
    write(&path, &list(&[("new", &new)]));
    becomes(&gateway, &["new"]).await;
    gateway.ask(&stream()).await.assert_complete_stream();
    assert_eq!((old.requests().len(), new.requests().len()), (1, 1));
    gate.open();
    let response = answer.rest().await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "ab");
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gpus.yaml");
    write(&path, &list(&[("one", &one)]));
    let gateway = from_file(&path).start().await;
    for (text, result) in [
        ("[]".to_owned(), "empty"),
        ("- {name: two}".to_owned(), "failed"),
        (list(&[("two", &two), ("two", &one)]), "invalid"),
    ] {
        write(&path, &text);
        tells(&gateway, result).await;
        becomes(&gateway, &["one"]).await;
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    gateway
        .logs(&["missing field `url`", "those known stay"])
        .await;
    write(&path, &list(&[("two", &two)]));
    becomes(&gateway, &["two"]).await;
}

#[tokio::test]
async fn a_pool_that_has_found_nobody_yet_is_not_ready_and_refuses() {
    let backend = Backend::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gpus.yaml");
    let gateway = from_file(&path).start_unready().await;
    tells(&gateway, "failed").await;
    assert_eq!(gateway.admin_get("/readyz").await.status, 503);
    gateway.ask(&stream()).await.assert_error(503);
    assert_eq!(gateway.ask(&get("/v1/models")).await.status, 200);
    write(&path, &list(&[("one", &backend)]));
    gateway.backend_is("one", "ready").await;
    gateway.ask(&stream()).await.assert_complete_stream();
    assert_eq!(gateway.admin_get("/readyz").await.status, 200);
}

#[tokio::test]
async fn addresses_of_a_name_are_backends_and_follow_it() {
    let all = Backend::on_one_port(3).await;
    let (a, b, c) = (&all[0], &all[1], &all[2]);
    let port = a.addr().port();
    let name = |backend: &Backend| backend.addr().to_string();
    let server = Dns::start().await;
    // Asked again because the answer is good for a second only.
    server.addresses(NAME, 1, &ips(&[a, b]));
    let gateway = dns(&server, port, "1h").start().await;
    becomes(&gateway, &[&name(a), &name(b)]).await;
    server.addresses(NAME, 1, &ips(&[b, c]));
    becomes(&gateway, &[&name(b), &name(c)]).await;
    gateway.backend_is(&name(c), "ready").await;
    for _ in 0..4 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    assert_eq!(a.requests().len(), 0);
    assert!(!b.requests().is_empty() && !c.requests().is_empty());

    // An empty answer, no such name, and a server that fails.
    server.addresses(NAME, 1, &[]);
    tells(&gateway, "empty").await;
    server.fails(true);
    tells(&gateway, "failed").await;
    becomes(&gateway, &[&name(b), &name(c)]).await;
    gateway.ask(&stream()).await.assert_complete_stream();
    server.fails(false);
    server.addresses(NAME, 1, &ips(&[a]));
    becomes(&gateway, &[&name(a)]).await;
}

/// While a stream runs on it, a backend leaves and comes back: its slot is still the one that is taken.
#[tokio::test]
async fn a_name_that_flaps_during_a_stream_does_not_double_its_backend() {
    let (gate, all) = (Gate::new(), Backend::on_one_port(2).await);
    let (a, b) = (&all[0], &all[1]);
    let name = |backend: &Backend| backend.addr().to_string();
    let server = Dns::start().await;
    server.addresses(NAME, 1, &ips(&[a]));
    let found = json!({
        "dns": {"name": NAME, "port": a.addr().port(), "server": server.server(), "refresh": "1h"},
        "backend": {"slots": 1},
    });
    let gateway = discovering(found).start().await;
    becomes(&gateway, &[&name(a)]).await;
    a.then(Reply::held(&gate));
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    assert_eq!(answer.content().await, "a");
    server.addresses(NAME, 1, &ips(&[b]));
    becomes(&gateway, &[&name(b)]).await;
    server.addresses(NAME, 1, &ips(&[a, b]));
    becomes(&gateway, &[&name(a), &name(b)]).await;
    let listed = gateway.admin_get("/api/backends").await.json();
    let listed = listed["backends"].as_array().unwrap();
    let of_a: Vec<&Value> = listed.iter().filter(|one| one["id"] == name(a)).collect();
    assert_eq!(
        (of_a.len(), &of_a[0]["inflight"]),
        (1, &json!(1)),
        "{of_a:?}"
    );
    for _ in 0..3 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    assert_eq!((a.requests().len(), b.requests().len()), (1, 3));
    gate.open();
    assert_eq!(answer.rest().await.said(), "ab");
    gateway.idle().await;
    gateway.backend_is(&name(a), "ready").await;
}

#[tokio::test]
async fn a_name_is_asked_for_as_often_as_its_answer_and_the_configuration_say() {
    let all = Backend::on_one_port(2).await;
    let port = all[0].addr().port();
    let (patient, eager) = (Dns::start().await, Dns::start().await);
    for server in [&patient, &eager] {
        server.addresses(NAME, 3600, &ips(&[&all[0]]));
    }
    let first = dns(&patient, port, "1h").start().await;
    let second = dns(&eager, port, "1s").start().await;
    eager.addresses(NAME, 3600, &ips(&[&all[1]]));
    becomes(&second, &[&all[1].addr().to_string()]).await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(patient.asked(), 2, "A and AAAA, once, for an hour");
    becomes(&first, &[&all[0].addr().to_string()]).await;
}

#[tokio::test]
async fn targets_of_a_service_record_are_backends_with_their_port_and_weight() {
    let (one, two, spare) = (
        Backend::start().await,
        Backend::start().await,
        Backend::start().await,
    );
    let port = |backend: &Backend| backend.addr().port();
    let server = Dns::start().await;
    for name in ["one.test.", "two.test."] {
        server.addresses(name, 1, &["127.0.0.1".parse().unwrap()]);
    }
    let service = "_llama._tcp.test.";
    server.services(
        service,
        1,
        &[
            (10, 3, "one.test.", port(&one)),
            (10, 0, "two.test.", port(&two)),
            (20, 1, "two.test.", port(&spare)),
        ],
    );
    let source =
        json!({"srv": {"name": service, "server": server.server()}, "backend": {"slots": 2}});
    let gateway = discovering(source).start().await;
    let named = |target: &str, backend: &Backend| format!("{target}.test:{}", port(backend));
    becomes(&gateway, &[&named("one", &one), &named("two", &two)]).await;
    let listed = gateway.admin_get("/api/backends").await.json();
    let of = |key: &str| -> Vec<Value> {
        let all = listed["backends"].as_array().unwrap().iter();
        all.map(|backend| backend[key].clone()).collect()
    };
    assert_eq!(of("weight"), [json!(3), json!(1)]);
    assert_eq!(of("total_slots"), [json!(2), json!(2)]);
    server.services(service, 1, &[(20, 1, "two.test.", port(&spare))]);
    becomes(&gateway, &[&named("two", &spare)]).await;
    gateway.ask(&stream()).await.assert_complete_stream();
    assert_eq!(spare.requests().len(), 1);
}

/// A gateway whose pool is the pods of one service.
fn in_kubernetes(api: &Kubernetes) -> Setup {
    let service = json!({"service": "llama", "namespace": "ai", "server": api.url()});
    discovering(json!({"kubernetes": service}))
}

#[tokio::test]
async fn pods_of_a_service_come_and_go() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let api = Kubernetes::start().await;
    api.pod("gpu-0", &one, false);
    let gateway = in_kubernetes(&api).start().await;
    assert_eq!(
        api.first(),
        "/apis/discovery.k8s.io/v1/namespaces/ai/endpointslices\
         ?labelSelector=kubernetes.io%2Fservice-name%3Dllama"
    );
    becomes(&gateway, &["gpu-0"]).await;
    api.pod("gpu-1", &two, false);
    becomes(&gateway, &["gpu-0", "gpu-1"]).await;
    api.pod("gpu-0", &one, true);
    becomes(&gateway, &["gpu-1"]).await;
    api.gone("gpu-0");
    gateway.ask(&stream()).await.assert_complete_stream();
    assert_eq!(two.requests().len(), 1);

    // A watch that breaks off is begun anew, and misses nothing.
    api.cut();
    api.pod("gpu-2", &one, false);
    becomes(&gateway, &["gpu-1", "gpu-2"]).await;
}

#[tokio::test]
async fn what_is_too_old_for_kubernetes_is_listed_anew_and_failures_change_nothing() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let api = Kubernetes::start().await;
    api.pod("gpu-0", &one, false);
    let gateway = in_kubernetes(&api).start().await;
    eventually("a watch", || async { (api.asked().1 > 0).then_some(()) }).await;

    // 410 Gone: what happened meanwhile is in the list.
    let lists = api.asked().0;
    api.pod("gpu-1", &two, false);
    api.compact();
    becomes(&gateway, &["gpu-0", "gpu-1"]).await;
    eventually("another list", || async {
        (api.asked().0 > lists).then_some(())
    })
    .await;

    api.fails(true);
    tells(&gateway, "failed").await;
    becomes(&gateway, &["gpu-0", "gpu-1"]).await;
    gateway.ask(&stream()).await.assert_complete_stream();
    api.gone("gpu-0");
    api.fails(false);
    becomes(&gateway, &["gpu-1"]).await;

    // Nobody is left: those known stay until somebody else is there.
    api.gone("gpu-1");
    tells(&gateway, "empty").await;
    becomes(&gateway, &["gpu-1"]).await;
}

/// A gateway that finds API server, token and authority as a pod does, but for where the files are.
fn in_a_pod(api: &Kubernetes, token: &Path, authority: &Path) -> Setup {
    let at = api.url().strip_prefix("https://").unwrap();
    let (host, port) = at.rsplit_once(':').unwrap();
    let service = json!({
        "service": "llama", "namespace": "ai", "token_file": token, "ca_file": authority,
    });
    discovering(json!({"kubernetes": service}))
        .env("KUBERNETES_SERVICE_HOST", host)
        .env("KUBERNETES_SERVICE_PORT", port)
}

#[tokio::test]
async fn over_tls_watches_go_on_and_what_is_too_old_is_listed_anew() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let token = dir.path().join("token");
    // As it is projected into a pod: some have a line's end.
    std::fs::write(&token, "t0ken-1\n").unwrap();
    let api = Kubernetes::start_tls(&authority, "t0ken-1").await;
    api.pod("gpu-0", &one, false);
    let gateway = in_a_pod(&api, &token, &authority.write(dir.path()));
    let gateway = gateway.start().await;
    becomes(&gateway, &["gpu-0"]).await;
    api.pod("gpu-1", &two, false);
    becomes(&gateway, &["gpu-0", "gpu-1"]).await;

    // A watch that breaks off goes on from where it was.
    let (lists, watches) = api.asked();
    api.cut();
    api.gone("gpu-0");
    becomes(&gateway, &["gpu-1"]).await;
    let now = api.asked();
    assert!(now.0 == lists && now.1 > watches, "{now:?}");

    // 410 Gone.
    api.pod("gpu-2", &one, false);
    api.compact();
    becomes(&gateway, &["gpu-1", "gpu-2"]).await;
    eventually("another list", || async {
        (api.asked().0 > lists).then_some(())
    })
    .await;
    gateway.ask(&stream()).await.assert_complete_stream();
    assert_eq!(api.refused(), 0);
    let log = gateway.log().join("\n");
    assert!(!log.contains("t0ken"), "the token is in the log");
}

/// A pod's token is exchanged by the kubelet before it expires.
#[tokio::test]
async fn the_token_is_read_anew_for_every_question() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let token = dir.path().join("token");
    std::fs::write(&token, "first").unwrap();
    let api = Kubernetes::start_tls(&authority, "first").await;
    api.pod("gpu-0", &one, false);
    let gateway = in_a_pod(&api, &token, &authority.write(dir.path()));
    let gateway = gateway.start().await;
    becomes(&gateway, &["gpu-0"]).await;

    // Exchanged in time: nobody notices.
    write(&token, "second");
    api.wants("second");
    api.cut();
    api.pod("gpu-1", &two, false);
    becomes(&gateway, &["gpu-0", "gpu-1"]).await;
    assert_eq!((api.refused(), told(&gateway, "failed").await), (0, 0.0));

    // Too late: what is known stays, until there is a token that is let in.
    api.wants("third");
    api.cut();
    tells(&gateway, "failed").await;
    assert!(api.refused() > 0);
    api.gone("gpu-0");
    becomes(&gateway, &["gpu-0", "gpu-1"]).await;
    gateway.ask(&stream()).await.assert_complete_stream();
    write(&token, "third");
    becomes(&gateway, &["gpu-1"]).await;
}

#[tokio::test]
async fn an_api_server_that_nobody_vouches_for_gets_no_token() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let token = dir.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let api = Kubernetes::start_tls(&Authority::new(), "secret").await;
    let gateway = in_a_pod(&api, &token, &authority.write(dir.path()));
    let gateway = gateway.start_unready().await;
    tells(&gateway, "failed").await;
    assert_eq!((api.asked(), api.refused()), ((0, 0), 0));
    gateway.logs(&["the API server: "]).await;
}

#[tokio::test]
async fn a_reload_changes_the_source_and_keeps_what_was_found_until_it_answers() {
    let (one, two, listed) = (
        Backend::start().await,
        Backend::start().await,
        Backend::start().await,
    );
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    write(&first, &list(&[("one", &one)]));
    let unwatched = |setup: Setup| setup.set("reload.watch", json!(false));
    let gateway = unwatched(from_file(&first)).start().await;
    let with_listed = |source: Value| {
        unwatched(Setup::pools(json!([{
            "name": "p", "models": ["*"], "discovery": source,
            "backends": [{"name": "listed", "url": listed.url()}],
        }])))
    };
    let reload = async |setup: Setup| {
        gateway.write(&setup);
        let answer = gateway.admin_post("/api/reload").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    reload(with_listed(
        json!({"file": {"path": second, "every": "20ms"}}),
    ))
    .await;
    becomes(&gateway, &["listed", "one"]).await;
    tells(&gateway, "failed").await;
    write(&second, &list(&[("two", &two)]));
    becomes(&gateway, &["listed", "two"]).await;
    reload(with_listed(Value::Null)).await;
    becomes(&gateway, &["listed"]).await;
}
