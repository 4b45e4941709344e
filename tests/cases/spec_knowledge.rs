//! What is found out about the speculation of backends: whether they honour a wish, what changed on them and when, and
//! what of it outlives the gateway.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::*;

fn speculating(backend: &Backend) -> Setup {
    backend.set_health(Health::Speculates);
    let mut setup = Setup::to(&[backend]);
    setup.config["fleet"]["pools"][0]["backends"][0]["profile"] = json!("draft-simple");
    setup
}

/// Answers as a build up to 2025 does: no drafts where it is asked for none.
fn honours(body: &[u8]) -> Reply {
    let asked: Value = serde_json::from_slice(body).unwrap();
    let mut measured = Measured::usual(0);
    if asked["speculative.n_max"] == 0 {
        measured.drafted = 0;
    }
    whole_or_stream(&asked, measured)
}

/// Answers as builds of 2026 do, which read past the field.
fn reads_past(body: &[u8]) -> Reply {
    whole_or_stream(&serde_json::from_slice(body).unwrap(), Measured::usual(0))
}

fn whole_or_stream(asked: &Value, measured: Measured) -> Reply {
    match asked["stream"] == true {
        true => measured.reply(),
        false => Reply::json(200, &measured.timings(measured.steps)),
    }
}

async fn ask(gateway: &Gateway, wish: &str) -> String {
    let body = json!({"model": "m", "stream": true, "max_tokens": 64,
        "messages": [{"role": "user", "content": "Tell me a story about the sea."}]});
    let request = post("/v1/chat/completions", body.to_string()).header("x-drover-spec", wish);
    let answer = gateway.ask(&request).await;
    assert_eq!(answer.status, 200);
    gateway.idle().await;
    answer.headers.get("x-drover-spec").unwrap().to_owned()
}

async fn spec(gateway: &Gateway) -> Value {
    gateway.admin_get("/api/spec").await.json()
}

async fn honoured(gateway: &Gateway, is: &str) {
    eventually(&format!("that it honours the wish: {is}"), || async {
        (spec(gateway).await["backends"][0]["honours_off"] == is).then_some(())
    })
    .await;
}

/// Nothing is asked of the backend: its answers tell.
#[tokio::test]
async fn answers_prove_that_a_wish_is_honoured() {
    let backend = Backend::start().await;
    backend.plays(true, honours);
    let gateway = speculating(&backend).start().await;
    honoured(&gateway, "unknown").await;
    assert_eq!(
        ask(&gateway, "off").await,
        "draft-simple",
        "unknown until proven"
    );
    for _ in 0..40 {
        ask(&gateway, "auto").await;
    }
    for _ in 0..8 {
        ask(&gateway, "off").await;
    }
    honoured(&gateway, "yes").await;
    assert_eq!(ask(&gateway, "off").await, "none");
    assert_eq!(ask(&gateway, "auto").await, "draft-simple");
    // One draft where there was to be none, and it is no longer believed.
    backend.plays(true, reads_past);
    ask(&gateway, "off").await;
    honoured(&gateway, "no").await;
    assert_eq!(ask(&gateway, "off").await, "draft-simple");
    let found = gateway.admin_get("/api/spec/findings").await.json();
    assert_eq!(
        found["findings"],
        json!([]),
        "turns without drafts by order are no loss"
    );
}

/// `spec.probe`: known before the first turn, and anew for another build.
#[tokio::test]
async fn a_probe_tells_and_another_build_is_probed_anew() {
    let backend = Backend::start().await;
    backend.plays(true, honours);
    let gateway = speculating(&backend)
        .set("spec.probe", json!(true))
        .start()
        .await;
    honoured(&gateway, "yes").await;
    assert_eq!(backend.requests().len(), 2, "once each way");
    assert_eq!(ask(&gateway, "off").await, "none");
    let probe = spec(&gateway).await["backends"][0]["probe"].clone();
    assert_eq!(
        (&probe["drafted"], &probe["drafted_though_off"]),
        (&json!(64), &json!(0))
    );
    backend.plays(true, reads_past);
    backend.set_health(Health::Rebuilt);
    honoured(&gateway, "no").await;
    assert_eq!(ask(&gateway, "off").await, "draft-simple");
}

/// A backend that drafts nothing in the probe, though its profile does so in every answer.
#[tokio::test]
async fn a_probe_without_a_draft_is_a_sign() {
    let backend = Backend::start().await;
    backend.plays(true, |body| {
        let asked: Value = serde_json::from_slice(body).unwrap();
        let mut measured = Measured::usual(0);
        measured.drafted = 0;
        whole_or_stream(&asked, measured)
    });
    let gateway = speculating(&backend)
        .set("spec.probe", json!(true))
        .start()
        .await;
    eventually("the finding", || async {
        let found = gateway.admin_get("/api/spec/findings").await.json();
        let found = &found["findings"][0];
        (found["signature"] == "spec_silently_off").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_changes_on_a_backend_is_on_the_timeline() {
    let backend = Backend::start().await;
    let gateway = speculating(&backend).start().await;
    let events = async |count: usize| {
        eventually("the timeline", || async {
            let told = spec(&gateway).await["timeline"].clone();
            (told.as_array().unwrap().len() == count).then_some(told)
        })
        .await
    };
    // Its slots are read after it was seen for the first time.
    let first = eventually("what it shows first", || async {
        let told = spec(&gateway).await["timeline"].clone();
        let text = told.to_string();
        (text.contains("b11434-test") && text.contains("draft-simple")).then_some(told)
    })
    .await;
    let before = first.as_array().unwrap().len();
    assert!(first.to_string().contains(r#""what":"n_ctx""#), "{first}");
    backend.set_health(Health::Rebuilt);
    let told = events(before + 1).await;
    let event = &told[0];
    assert_eq!(
        (&event["backend"], &event["pool"]),
        (&json!("b0"), &json!("default"))
    );
    assert_eq!(
        event["changes"],
        json!([{"what": "build", "from": "b11434-test", "to": "b99999-other"}])
    );
    assert!(event["at"].as_u64().unwrap() > 1_700_000_000);
    let labels = r#"backend="b0",pool="default",what="build""#;
    assert_eq!(
        gateway.metric("drover_backend_changes_total", labels).await,
        1.0
    );
}

/// The build changes while the gateway is away.
#[tokio::test]
async fn a_build_that_changed_during_a_restart_of_the_gateway_is_compared_all_the_same() {
    let backend = Backend::start().await;
    backend.plays(true, |body| {
        let asked: Value = serde_json::from_slice(body).unwrap();
        whole_or_stream(&asked, Measured::usual(0))
    });
    let room = tempfile::tempdir().unwrap();
    let store = json!({"kind": "file", "path": room.path().join("store.db")});
    let setup = speculating(&backend).set("store", store);
    let mut gateway = setup.clone().start().await;
    for _ in 0..40 {
        ask(&gateway, "auto").await;
    }
    // Everything older than this is written down.
    sleep(Duration::from_secs(12)).await;
    gateway.kill().await;

    backend.set_health(Health::Rebuilt);
    backend.plays(true, |body| {
        let asked: Value = serde_json::from_slice(body).unwrap();
        let measured = Measured {
            generated_ms: 3000.0,
            ..Measured::usual(0)
        };
        whole_or_stream(&asked, measured)
    });
    let gateway = setup.start().await;
    let told = eventually("the change", || async {
        let told = spec(&gateway).await["timeline"].clone();
        let is_it = told[0]["changes"][0]["from"] == "b11434-test";
        is_it.then_some(told)
    })
    .await;
    assert_eq!(told[0]["changes"][0]["to"], "b99999-other");
    for _ in 0..40 {
        ask(&gateway, "auto").await;
    }
    let found = gateway.admin_get("/api/spec/findings").await.json();
    let found = &found["findings"][0];
    assert_eq!(
        found["signature"], "throughput_collapse_after_build_change",
        "{found}"
    );
    assert_eq!(found["before"]["build"], "b11434-test");
}
