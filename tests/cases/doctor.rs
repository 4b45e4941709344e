//! `drover doctor`: every finding, on a server that gives cause for it and on one that gives none.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::AbortHandle;

use crate::support::*;

/// What a server answers: by path, a status and a body.
type Answers = BTreeMap<&'static str, (u16, Value)>;

/// A server without fault.
fn sound() -> Answers {
    let props = json!({
        "default_generation_settings": {"params": {}, "n_ctx": 65536}, "total_slots": 2,
        "model_alias": "coder", "build_info": "b11434-abc", "chat_template": "{{ messages }}",
        "chat_template_caps": {"supports_tools": true, "supports_tool_calls": true},
        "endpoint_slots": true, "endpoint_metrics": true, "is_sleeping": false,
        "cors_proxy_enabled": false,
    });
    let meta = json!({"n_vocab": 1000, "n_params": 7, "ftype": "Q4", "n_ctx_train": 131072});
    let slots = json!([{"id": 0, "n_ctx": 65536, "is_processing": false, "speculative": false},
        {"id": 1, "n_ctx": 65536, "is_processing": false, "speculative": false}]);
    BTreeMap::from([
        ("/health", (200, json!({"status": "ok"}))),
        ("/props", (200, props)),
        ("/slots", (200, slots)),
        ("/metrics", (200, json!("llamacpp:requests_processing 0"))),
        (
            "/v1/models",
            (200, json!({"data": [{"id": "coder", "meta": meta}]})),
        ),
    ])
}

/// The same with `value` at `pointer` of what `path` answers; a list gets it as one item more.
fn with(path: &'static str, pointer: &str, value: Value) -> Answers {
    let mut answers = sound();
    let (at, last) = pointer.rsplit_once('/').unwrap();
    let body = &mut answers.get_mut(path).unwrap().1;
    let parent = body.pointer_mut(at).unwrap();
    match parent.as_array_mut() {
        Some(list) => list.push(value),
        None => parent[last] = value,
    }
    answers
}

/// The same, but `path` answers this status.
fn refusing(path: &'static str, status: u16) -> Answers {
    let mut answers = sound();
    answers.insert(path, (status, json!({"error": {"code": status}})));
    answers
}

struct Server {
    addr: SocketAddr,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(answers: Answers) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let n = socket.read(&mut head).await.unwrap_or(0);
            let line = String::from_utf8_lossy(&head[..n]).into_owned();
            let target = line.split(' ').nth(1).unwrap_or_default();
            let path = target.split('?').next().unwrap_or_default();
            let about_one = target.contains("?model=").then(|| format!("{path}?model"));
            let about_one = about_one.and_then(|path| answers.get(&*path));
            let answer = about_one.or_else(|| answers.get(path)).cloned();
            let (status, body) = answer.unwrap_or((404, json!({})));
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    Server {
        addr,
        task: task.abort_handle(),
    }
}

/// A pool of these backends: each with its address, and what more is configured of it.
async fn doctor(backends: &[(String, Value)], arguments: &[&str]) -> Output {
    let pool = json!({"name": "p", "models": ["*"], "backends": listed(backends)});
    examine(
        json!({"pools": [pool], "health": {"timeout": "1s"}}),
        arguments,
    )
    .await
}

fn listed(backends: &[(String, Value)]) -> Vec<Value> {
    let listed = backends.iter().enumerate().map(|(n, (url, more))| {
        let mut backend = json!({"name": format!("b{n}"), "url": url});
        backend
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        backend
    });
    listed.collect()
}

/// With these settings of the fleet.
async fn examine(fleet: Value, arguments: &[&str]) -> Output {
    let config = json!({ "fleet": fleet });
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("drover.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(DROVER);
    command
        .arg("doctor")
        .arg("--config")
        .arg(&file)
        .args(arguments)
        .kill_on_drop(true);
    patiently("the doctor", command.output()).await.unwrap()
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{error}"))
}

fn found(report: &Value) -> Vec<(String, String)> {
    let findings = report["findings"].as_array().unwrap();
    let text = |finding: &Value, key: &str| {
        let text = finding[key].as_str().unwrap().to_owned();
        assert!(!text.is_empty(), "{finding}");
        text
    };
    let told = |finding: &Value| {
        for key in ["what", "why", "remedy", "pool"] {
            text(finding, key);
        }
        (text(finding, "severity"), text(finding, "id"))
    };
    findings.iter().map(told).collect()
}

#[tokio::test]
async fn a_sound_server_gives_no_cause() {
    let server = serve(sound()).await;
    let backend = [(format!("http://{}", server.addr), json!({}))];
    let output = doctor(&backend, &["--json"]).await;
    let report = report(&output);
    assert_eq!(found(&report), [], "{report}");
    assert_eq!(output.status.code(), Some(0));
    let text = doctor(&backend, &[]).await;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert_eq!(text.trim(), "backends: 1, errors: 0, warnings: 0");
}

const CAPS: &str = "/chat_template_caps/supports_tools";
const CTX: &str = "/default_generation_settings/n_ctx";

/// Router mode tells the arguments of each model.
fn router_model() -> Answers {
    with(
        "/v1/models",
        "/data/0/status",
        json!({"args": ["-np", "2", "--context-shift", "--spec-type", "ngram-map-k"]}),
    )
}

/// Router mode tells that the model was started so.
fn started(args: &[&str]) -> Answers {
    with(
        "/v1/models",
        "/data/0/status",
        json!({"value": "loaded", "args": args}),
    )
}

fn four_slots() -> Answers {
    let mut answers = with("/props", "/total_slots", json!(4));
    let slot = answers["/slots"].1[0].clone();
    answers.get_mut("/slots").unwrap().1 = json!(vec![slot; 4]);
    answers
}

fn small() -> Answers {
    let mut answers = with("/props", CTX, json!(8192));
    answers.get_mut("/slots").unwrap().1 = json!([]);
    answers.get_mut("/props").unwrap().1["total_slots"] = json!(2);
    answers.remove("/slots");
    answers.insert("/slots", (501, json!({})));
    answers
}

#[rstest]
#[case::unhealthy(refusing("/health", 418), json!({}), &[("error", "unhealthy")], 2)]
#[case::loading(refusing("/health", 503), json!({}), &[("warning", "loading")], 1)]
#[case::key(refusing("/props", 401), json!({}), &[("error", "api_key")], 2)]
#[case::no_props(refusing("/props", 400), json!({}), &[("warning", "no_props")], 1)]
#[case::router(with("/props", "/role", json!("router")), json!({}), &[("error", "router_without_model")], 2)]
#[case::preset(with("/v1/models", "/data/1", json!({"id": "other"})), json!({"model": "third"}), &[("error", "unknown_preset")], 2)]
#[case::slot_count(sound(), json!({"slots": 7}), &[("warning", "slot_count")], 1)]
#[case::no_slots(refusing("/slots", 501), json!({}), &[("warning", "no_slots")], 1)]
#[case::no_metrics(refusing("/metrics", 501), json!({}), &[("warning", "no_metrics")], 1)]
#[case::small_context(small(), json!({}), &[("warning", "no_slots"), ("warning", "small_context")], 1)]
#[case::training(with("/v1/models", "/data/0/meta/n_ctx_train", json!(4096)), json!({}), &[("warning", "context_beyond_training")], 1)]
#[case::alias(with("/props", "/model_alias", json!("/m/x.gguf")), json!({}), &[("info", "no_alias")], 0)]
#[case::tools(with("/props", CAPS, json!(false)), json!({}), &[("error", "no_tool_support")], 2)]
#[case::cors(with("/props", "/cors_proxy_enabled", json!(true)), json!({}), &[("warning", "cors_proxy")], 1)]
#[case::writable(with("/props", "/endpoint_props", json!(true)), json!({}), &[("info", "props_writable")], 0)]
#[case::prompts(with("/slots", "/0/prompt", json!("a secret")), json!({}), &[("warning", "slots_show_prompts")], 1)]
#[case::checkpoints(started(&["-np", "2", "--ctx-checkpoints", "0"]), json!({}), &[("warning", "no_checkpoints")], 1)]
#[case::synthetic(started(&["-np", "2", "--spec-synth-len", "3"]), json!({}), &[("error", "synthetic_acceptance")], 2)]
#[case::unified(started(&["-np", "2", "--kv-unified"]), json!({}), &[("warning", "kv_auto_unified")], 1)]
#[case::unified_by_default(started(&["--metrics"]), json!({}), &[("warning", "kv_auto_unified")], 1)]
#[case::not_split(started(&["--metrics"]), json!({"kv": "split"}), &[("warning", "kv_layout")], 1)]
#[case::not_unified(started(&["-np", "2"]), json!({"kv": "unified"}), &[("warning", "kv_layout")], 1)]
#[case::kv_unknown(four_slots(), json!({}), &[("info", "kv_unknown")], 0)]
#[case::bad_build(with("/props", "/build_info", json!("b8329-abc")), json!({}), &[("warning", "known_bad_build")], 1)]
#[case::older_build(with("/props", "/build_info", json!("b8330-abc")), json!({}), &[("info", "older_build")], 0)]
#[case::unknown_build(with("/props", "/build_info", json!("b0-unknown")), json!({}), &[("info", "unknown_build")], 0)]
#[case::spec_off(sound(), json!({"profile": "draft-simple"}), &[("error", "spec_silently_off")], 2)]
#[case::spec_on(with("/slots", "/0/speculative", json!(true)), json!({"profile": "none"}), &[("warning", "spec_unexpected")], 1)]
#[case::shared(with("/slots", "/0/params", json!({"speculative.types": "none,ngram-mod"})), json!({}), &[("info", "shared_ngram_pool")], 0)]
#[case::ngram_map(with("/slots", "/0/params", json!({"speculative.types": "none,ngram-map-k"})), json!({}), &[("info", "ngram_map")], 0)]
#[case::shift(router_model(), json!({}), &[("error", "context_shift_with_ngram_map")], 2)]
#[tokio::test]
async fn what_is_wrong_with_one(
    #[case] answers: Answers,
    #[case] configured: Value,
    #[case] expected: &[(&str, &str)],
    #[case] code: i32,
) {
    let server = serve(answers).await;
    let backend = [(format!("http://{}", server.addr), configured)];
    let output = doctor(&backend, &["--json"]).await;
    let report = report(&output);
    let found = found(&report);
    let found: Vec<(&str, &str)> = found.iter().map(|(s, id)| (&**s, &**id)).collect();
    assert_eq!(found, expected, "{report}");
    assert_eq!(report["findings"][0]["backend"], "b0");
    assert_eq!(output.status.code(), Some(code));
    let text = doctor(&backend, &[]).await;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for (severity, id) in expected {
        assert!(
            text.contains(severity) && text.contains(&format!("[{id}]")),
            "{text}"
        );
    }
}

/// A router that tells of one model, `coder`, which is not in memory.
fn unloaded(more: Value) -> Answers {
    let refused = json!({"error": {"code": 400, "message": "model is not loaded"}});
    let mut status = json!({"value": "unloaded",
        "args": ["--metrics", "--parallel", "2", "--ctx-size", "131072", "--spec-type", "ngram-mod"]});
    status
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let listed = json!({"data": [{"id": "coder", "aliases": ["stable"], "status": status}]});
    BTreeMap::from([
        ("/health", (200, json!({"status": "ok"}))),
        (
            "/props",
            (
                200,
                json!({"role": "router", "models_autoload": true, "max_instances": 1, "build_info": "b11434-abc"}),
            ),
        ),
        ("/props?model", (400, refused.clone())),
        ("/slots", (400, refused.clone())),
        ("/metrics", (400, refused)),
        ("/v1/models", (200, listed)),
    ])
}

#[rstest]
#[case::unloaded(json!({}), "coder", &[("info", "model_unloaded")])]
#[case::alias(json!({}), "stable", &[("info", "model_unloaded")])]
#[case::failed(json!({"failed": true, "exit_code": 1}), "coder", &[("error", "model_failed")])]
#[case::unknown(json!({}), "nope", &[("error", "unknown_preset")])]
#[case::loaded_by(json!({"args": ["--parallel", "2", "--ctx-size", "8192", "--no-slots"]}), "coder",
    &[("info", "model_unloaded"), ("warning", "no_slots"), ("warning", "no_metrics"), ("warning", "small_context")])]
#[case::shift(json!({"args": ["--metrics", "-np", "2", "--context-shift", "--spec-type", "ngram-map-k"]}), "coder",
    &[("info", "model_unloaded"), ("error", "context_shift_with_ngram_map")])]
#[tokio::test]
async fn what_is_wrong_with_a_model_of_a_router(
    #[case] more: Value,
    #[case] model: &str,
    #[case] expected: &[(&str, &str)],
) {
    let server = serve(unloaded(more)).await;
    let backend = [(format!("http://{}", server.addr), json!({"model": model}))];
    let report = report(&doctor(&backend, &["--json"]).await);
    let mut found = found(&report);
    let mut expected: Vec<(String, String)> = expected
        .iter()
        .map(|(s, id)| ((*s).into(), (*id).into()))
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "{report}");
}

#[tokio::test]
async fn a_router_that_is_too_small_and_one_that_loads_nothing() {
    let mut answers = unloaded(json!({}));
    answers.get_mut("/props").unwrap().1["models_autoload"] = json!(false);
    let other = json!({"id": "other", "status": {"value": "unloaded", "args": ["--metrics", "--parallel", "2"]}});
    answers.get_mut("/v1/models").unwrap().1["data"]
        .as_array_mut()
        .unwrap()
        .push(other);
    let server = serve(answers).await;
    let url = || format!("http://{}", server.addr);
    let backends = [
        (url(), json!({"model": "coder"})),
        (url(), json!({"model": "other"})),
    ];
    let report = report(&doctor(&backends, &["--json"]).await);
    let mut found = found(&report);
    found.sort();
    let warning = |id: &str| ("warning".to_owned(), id.to_owned());
    let for_good = warning("model_unloaded_for_good");
    assert_eq!(
        found,
        [for_good.clone(), for_good, warning("router_too_small")],
        "{report}"
    );
}

/// Whoever says what the cache is like is believed, where nothing says otherwise.
#[rstest]
#[case(json!({"kv": "unified"}), true, &[])]
#[case(json!({"kv": "split"}), true, &[])]
#[case(json!({"kv": "unified"}), false, &[("warning", "kv_unreserved")])]
#[case(json!({"kv": "split"}), false, &[])]
#[tokio::test]
async fn one_cache_for_all_slots_and_nothing_reserved(
    #[case] configured: Value,
    #[case] reserve: bool,
    #[case] expected: &[(&str, &str)],
) {
    let server = serve(four_slots()).await;
    let backends = listed(&[(format!("http://{}", server.addr), configured)]);
    let pool = json!({"name": "p", "models": ["*"], "backends": backends});
    let output = examine(json!({"pools": [pool], "reserve": reserve}), &["--json"]).await;
    let report = report(&output);
    let found = found(&report);
    let found: Vec<(&str, &str)> = found.iter().map(|(s, id)| (&**s, &**id)).collect();
    assert_eq!(found, expected, "{report}");
}

/// Regression: only the backends of the list were looked at.
#[tokio::test]
async fn backends_that_are_found_are_examined_too() {
    let (wrong, sound) = (serve(refusing("/metrics", 501)).await, serve(sound()).await);
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("gpus.json");
    let url = |server: &Server| format!("http://{}", server.addr);
    let backends =
        json!([{"name": "found", "url": url(&wrong)}, {"name": "other", "url": url(&sound)}]);
    std::fs::write(&file, backends.to_string()).unwrap();
    let dns = Dns::start().await;
    let name = "gpus.test.";
    let port = sound.addr.port();
    dns.addresses(name, 60, &[sound.addr.ip()]);
    let file = json!({"name": "file", "models": ["a"], "discovery": {"file": {"path": file}}});
    let dns = json!({"name": "dns", "models": ["b"],
        "discovery": {"dns": {"name": name, "port": port, "server": dns.server()}}});
    let output = examine(json!({"pools": [file, dns]}), &["--json"]).await;
    let report = report(&output);
    let expected =
        ["no_metrics", "one_server_twice"].map(|id| ("warning".to_owned(), id.to_owned()));
    assert_eq!(found(&report), expected, "{report}");
    assert_eq!(report["findings"][0]["backend"], "found");
    assert_eq!(report["backends"], 3, "{report}");
}

#[tokio::test]
async fn sources_that_give_no_backends_are_told() {
    let server = serve(sound()).await;
    let taken = listed(&[(format!("http://{}", server.addr), json!({}))]);
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("gpus.json");
    std::fs::write(&file, json!(taken).to_string()).unwrap();
    let pools = json!([
        {"name": "none", "models": ["a"], "discovery": {"file": {"path": dir.path().join("none")}}},
        // The name is in the list already.
        {"name": "taken", "models": ["b"], "backends": taken, "discovery": {"file": {"path": file}}},
    ]);
    let output = examine(json!({"pools": pools}), &["--json"]).await;
    let report = report(&output);
    let told = |severity: &str| (severity.to_owned(), "not_discovered".to_owned());
    assert_eq!(found(&report), [told("error"), told("warning")], "{report}");
    let findings = &report["findings"];
    assert!(
        findings[0]["what"]
            .as_str()
            .unwrap()
            .contains("cannot be read")
    );
    assert!(
        findings[1]["what"].as_str().unwrap().contains("b0"),
        "{report}"
    );
    assert_eq!(
        (&report["backends"], output.status.code()),
        (&json!(1), Some(2))
    );
}

/// A plain server does not look at the model's name.
#[tokio::test]
async fn one_server_under_two_names() {
    let server = serve(sound()).await;
    let url = || format!("http://{}", server.addr);
    let backends = [
        (url(), json!({"model": "a"})),
        (url(), json!({"model": "b"})),
    ];
    let report = report(&doctor(&backends, &["--json"]).await);
    assert_eq!(
        found(&report),
        [("warning".into(), "one_server_twice".into())],
        "{report}"
    );
}

#[tokio::test]
async fn one_slot_is_worth_knowing() {
    let mut answers = with("/props", "/total_slots", json!(1));
    answers
        .get_mut("/slots")
        .unwrap()
        .1
        .as_array_mut()
        .unwrap()
        .pop();
    let server = serve(answers).await;
    let backend = [(format!("http://{}", server.addr), json!({}))];
    let report = report(&doctor(&backend, &["--json"]).await);
    assert_eq!(found(&report), [("info".into(), "single_slot".into())]);
}

#[tokio::test]
async fn who_does_not_answer_is_unreachable() {
    let output = doctor(&[(dead_url().await, json!({}))], &["--json"]).await;
    assert_eq!(
        found(&report(&output)),
        [("error".into(), "unreachable".into())]
    );
    // It accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let began = tokio::time::Instant::now();
    let output = doctor(&[(url, json!({}))], &["--json"]).await;
    assert_eq!(
        found(&report(&output)),
        [("error".into(), "unreachable".into())]
    );
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[rstest]
#[case("error", "mixed_models", with("/v1/models", "/data/0/meta/n_params", json!(8)))]
#[case("warning", "mixed_quantisation", with("/v1/models", "/data/0/meta/ftype", json!("Q8")))]
#[case("warning", "mixed_aliases", with("/props", "/model_alias", json!("chat")))]
#[case("warning", "mixed_builds", with("/props", "/build_info", json!("b11500-abc")))]
#[case("warning", "mixed_templates", with("/props", "/chat_template", json!("{{ x }}")))]
#[tokio::test]
async fn what_is_wrong_with_a_pool(
    #[case] severity: &str,
    #[case] id: &str,
    #[case] other: Answers,
) {
    let servers = [
        serve(sound()).await,
        serve(sound()).await,
        serve(other).await,
    ];
    let backends = servers
        .each_ref()
        .map(|s| (format!("http://{}", s.addr), json!({})));
    let report = report(&doctor(&backends, &["--json"]).await);
    assert_eq!(
        found(&report),
        [(severity.to_owned(), id.to_owned())],
        "{report}"
    );
    let finding = &report["findings"][0];
    assert!(finding["backend"].is_null() && finding["what"].as_str().unwrap().contains("b0, b1: "));
}

#[tokio::test]
async fn slots_of_different_sizes_in_a_pool() {
    let mut other = with("/props", CTX, json!(40_000));
    other.get_mut("/slots").unwrap().1 = json!([
        {"id": 0, "n_ctx": 40_000, "is_processing": false}, {"id": 1, "n_ctx": 40_000, "is_processing": false}]);
    let servers = [serve(sound()).await, serve(other).await];
    let backends = servers
        .each_ref()
        .map(|s| (format!("http://{}", s.addr), json!({})));
    let report = report(&doctor(&backends, &["--json"]).await);
    assert_eq!(
        found(&report),
        [("warning".into(), "mixed_context".into())],
        "{report}"
    );
}

#[tokio::test]
async fn an_invalid_configuration_is_no_finding() {
    let mut command = Command::new(DROVER);
    command.args(["doctor", "--config", "/nowhere/drover.yaml"]);
    let output = patiently("the doctor", command.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(64));
}

/// Every id the program can tell is explained, and nothing else is.
#[test]
fn every_finding_is_documented() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let documented: Vec<String> = read("docs/doctor.md")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    let mut told = Vec::new();
    for file in [
        "build",
        "discovery",
        "exposed",
        "kv",
        "one",
        "pool",
        "router",
        "speculation",
    ] {
        let text = read(&format!("src/doctor/{file}.rs"));
        // An id is the line after its severity, where that is not worked out.
        let worked_out = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("id: \""));
        told.extend(worked_out.filter_map(|line| Some(line.split_once('"')?.0.to_owned())));
        let mut lines = text.lines().map(str::trim).peekable();
        while let Some(line) = lines.next() {
            let severity = line
                .trim_start_matches("Some(said.find(")
                .trim_end_matches(',');
            if matches!(severity, "Error" | "Warning" | "Info") {
                let id = lines.peek().unwrap().trim_matches(['"', ',']).to_owned();
                told.push(id);
            }
        }
    }
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids.dedup();
        ids
    };
    let (told, documented) = (sorted(told), sorted(documented));
    assert!(told.len() > 25, "{told:?}");
    assert_eq!(told, documented);
}
