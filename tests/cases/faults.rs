//! Faults under load: of a thousand requests none is lost that had not received a byte, and the backend
//! that failed serves again soon after it works again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::script::{role, text};
use crate::support::*;

const REQUESTS: usize = 1000;
const AT_ONCE: usize = 8;

/// Clients that ask one after the other until all requests are made.
struct Load {
    clients: JoinSet<Vec<Response>>,
    done: Arc<AtomicUsize>,
    /// Goes on until told, however many requests that takes.
    enough: Arc<AtomicBool>,
}

impl Load {
    fn on(gateway: &Gateway) -> Self {
        let (done, enough) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let mut clients = JoinSet::new();
        for n in 0..AT_ONCE {
            let (addr, done, enough) = (gateway.addr, Arc::clone(&done), Arc::clone(&enough));
            clients.spawn(async move {
                let mut client = Client::connect(addr).await;
                let mut responses = Vec::new();
                while done.load(Ordering::Relaxed) < REQUESTS || !enough.load(Ordering::Relaxed) {
                    responses.push(client.ask(&chat(json!({"stream": n % 2 == 0}))).await);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                responses
            });
        }
        Self {
            clients,
            done,
            enough,
        }
    }

    async fn reached(&self, count: usize) {
        eventually(&format!("{count} requests"), || async {
            (self.done.load(Ordering::Relaxed) >= count).then_some(())
        })
        .await;
    }

    /// All answers, once everything has happened.
    async fn end(self) -> Vec<Response> {
        self.enough.store(true, Ordering::Relaxed);
        self.clients.join_all().await.concat()
    }
}

fn all_answered(responses: &[Response]) {
    assert!(responses.len() >= REQUESTS, "{}", responses.len());
    for response in responses {
        assert_eq!(response.status, 200, "{}", response.text());
        if response.headers.get("content-type") == Some("application/json") {
            assert_eq!(
                response.json()["choices"][0]["message"]["content"],
                "Hello there!"
            );
        } else {
            response.assert_complete_stream();
            assert_eq!(response.said(), "Hello there!");
        }
    }
}

fn setup(backends: &[&Backend]) -> Setup {
    Setup::to(backends)
        .set("timeouts.first_event", json!("500ms"))
        .set("fleet.health.eject_for", json!("300ms"))
        .set("fleet.selection.slow_start", json!("0s"))
        .set("reload.watch", json!(false))
}

async fn three() -> [Backend; 3] {
    [
        Backend::start().await,
        Backend::start().await,
        Backend::start().await,
    ]
}

/// The time from now until `backend` has been asked again.
async fn recovery(fault: &str, backend: &Backend) {
    let (began, before) = (Instant::now(), backend.requests().len());
    eventually("a request to the backend that works again", || async {
        (backend.requests().len() > before).then_some(())
    })
    .await;
    println!("{fault}: asked again after {:?}", began.elapsed());
}

/// SIGSTOP: the kernel goes on accepting connections, and nobody answers.
#[tokio::test]
async fn a_backend_is_stopped_and_goes_on_later() {
    let processes = [Sim::start(&[]).await, Sim::start(&[]).await];
    let urls = processes.each_ref().map(|sim| sim.url.clone());
    let gateway = Setup::urls(&urls)
        .set("timeouts.first_event", json!("500ms"))
        .set("timeouts.inter_token", json!("500ms"))
        .set("fleet.health.eject_for", json!("300ms"))
        .set("fleet.health.timeout", json!("500ms"))
        .set("fleet.selection.slow_start", json!("0s"))
        .start()
        .await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    processes[0].signal("-STOP").await;
    let began = Instant::now();
    gateway.backend_is("b0", "down").await;
    println!("stopped: known after {:?}", began.elapsed());
    processes[0].signal("-CONT").await;
    let began = Instant::now();
    gateway.backend_is("b0", "ready").await;
    println!("stopped: back after {:?}", began.elapsed());
    let responses = load.end().await;
    assert!(responses.len() >= REQUESTS);
    for response in &responses {
        assert_eq!(response.status, 200, "{}", response.text());
        let streams = response.headers.get("content-type") != Some("application/json");
        if streams && response.dones() == 0 {
            assert!(
                !response.said().is_empty(),
                "only what had begun may be cut"
            );
        }
    }
}

fn works() -> Reply {
    Reply::says(&["Hello", " there", "!"])
}

#[tokio::test]
async fn a_backend_is_killed() {
    let backends = three().await;
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 3).await;
    backends[0].kill().await;
    let began = Instant::now();
    gateway.backend_is("b0", "down").await;
    println!("killed: known after {:?}", began.elapsed());
    all_answered(&load.end().await);
}

#[tokio::test]
async fn a_backend_falls_silent_though_its_checks_are_good() {
    let backends = three().await;
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    backends[0].always(Reply::new().hang());
    eventually("it is ejected", || async {
        let listed = gateway.admin_get("/api/backends").await.json();
        (listed["backends"][0]["ejected"] == true).then_some(())
    })
    .await;
    backends[0].always(works());
    recovery("silent", &backends[0]).await;
    all_answered(&load.end().await);
}

#[tokio::test]
async fn a_backend_resets_connections_in_mid_stream() {
    let backends = three().await;
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    // Its client has received nothing of the answer yet.
    backends[0].always(Reply::stream().event(&role()).comment().reset());
    load.reached(REQUESTS / 2).await;
    backends[0].always(works());
    recovery("resets", &backends[0]).await;
    all_answered(&load.end().await);
}

#[tokio::test]
async fn a_backend_loads_its_model_again() {
    let backends = three().await;
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    backends[0].set_health(Health::Loading);
    backends[0].always(Reply::loading());
    gateway.backend_is("b0", "loading").await;
    sleep(Duration::from_millis(300)).await;
    backends[0].set_health(Health::Ok);
    backends[0].always(works());
    recovery("loading", &backends[0]).await;
    all_answered(&load.end().await);
}

#[tokio::test]
async fn a_backend_starts_late() {
    let backends = three().await;
    backends[0].set_health(Health::Loading);
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    assert!(
        backends[0].requests().is_empty(),
        "nothing before it is ready"
    );
    backends[0].set_health(Health::Ok);
    recovery("late start", &backends[0]).await;
    all_answered(&load.end().await);
}

#[tokio::test]
async fn the_configuration_changes_again_and_again() {
    let backends = three().await;
    let [a, b, c] = backends.each_ref();
    let gateway = setup(&[a, b]).start().await;
    let load = Load::on(&gateway);
    let sets: [&[&Backend]; 4] = [&[b, c], &[c], &[a, b, c], &[a]];
    for (n, set) in sets.into_iter().cycle().take(8).enumerate() {
        load.reached(n * REQUESTS / 10).await;
        gateway.write(&setup(set));
        let told = gateway.admin_post("/api/reload").await.json();
        assert_eq!(told["result"], "applied", "{told}");
    }
    all_answered(&load.end().await);
    gateway.idle().await;
}

#[tokio::test]
async fn only_what_had_begun_is_cut() {
    let backends = three().await;
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    backends[0].always(Reply::stream().event(&role()).event(&text("Hello")).reset());
    load.reached(REQUESTS / 2).await;
    backends[0].always(works());
    let (whole, cut): (Vec<Response>, Vec<Response>) =
        load.end().await.into_iter().partition(|response| {
            response.headers.get("content-type") == Some("application/json")
                || response.dones() == 1
        });
    println!("cut: {} of {}", cut.len(), whole.len() + cut.len());
    for response in &cut {
        response.assert_failed_stream();
        assert_eq!(response.said(), "Hello");
    }
    assert!(whole.iter().all(|response| response.status == 200));
    // A few in a row eject it.
    assert!(cut.len() < REQUESTS / 4, "{}", cut.len());
}

/// One backend leaves the name and dies once it has nothing to do, another one joins it.
#[tokio::test]
async fn a_name_changes_its_addresses() {
    const NAME: &str = "gpus.test.";
    let all = Backend::on_one_port(3).await;
    let ip = |n: usize| all[n].addr().ip();
    let server = Dns::start().await;
    server.addresses(NAME, 1, &[ip(0), ip(1)]);
    let source = json!({"dns": {
        "name": NAME, "port": all[0].addr().port(), "server": server.server(), "refresh": "1h",
    }});
    let gateway = setup(&[])
        .set(
            "fleet.pools",
            json!([{"name": "p", "models": ["*"], "discovery": source}]),
        )
        .start()
        .await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    server.addresses(NAME, 1, &[ip(1), ip(2)]);
    let changed = Instant::now();
    let gone = all[0].addr().to_string();
    eventually("the old backend has gone", || async {
        let listed = gateway.admin_get("/api/backends").await.text();
        (!listed.contains(&gone)).then_some(())
    })
    .await;
    println!(
        "dns: the old backend is out of use after {:?}",
        changed.elapsed()
    );
    all[0].kill().await;
    recovery("dns", &all[2]).await;
    let before = all[1].requests().len();
    let responses = load.end().await;
    all_answered(&responses);
    assert!(all[1].requests().len() >= before);
    let served: usize = all.iter().map(|backend| backend.requests().len()).sum();
    assert_eq!(served, responses.len(), "each was sent once");
}
