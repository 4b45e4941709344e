//! Backends that pass their checks while their slots get nowhere.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::*;

/// Longest time a look at `/slots` is away (`slots_every` of the setup), and the time between checks.
const LOOK: Duration = Duration::from_millis(2500);

fn watched(sims: &[&Sim]) -> Setup {
    let urls: Vec<String> = sims.iter().map(|sim| sim.url.clone()).collect();
    Setup::urls(&urls)
        .set("fleet.selection.slow_start", json!("0s"))
        .set("fleet.watchdog.stuck_after", json!("3s"))
        .set("fleet.watchdog.close_for", json!("1s"))
        .set("fleet.watchdog.drain_for", json!("1s"))
}

async fn slow_sim() -> Sim {
    Sim::start(&["--decode-tps", "20"]).await
}

/// A request that had received nothing goes on elsewhere long before its deadline, which is minutes away.
#[tokio::test]
async fn requests_on_a_stuck_backend_go_on_elsewhere() {
    let (stuck, well) = (slow_sim().await, slow_sim().await);
    let gateway = watched(&[&stuck, &well]).start().await;
    stuck.told("wedge").await;
    let began = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let addr = gateway.addr;
        asking.spawn(async move {
            let request = chat(json!({"stream": true, "max_tokens": 4}));
            Client::connect(addr).await.ask(&request).await
        });
    }
    for response in asking.join_all().await {
        response.assert_complete_stream();
        assert!(!response.said().is_empty());
    }
    println!("all four served after {:?}", began.elapsed());
    let closed = r#"step="close""#;
    assert_eq!(
        gateway.metric("drover_watchdog_heals_total", closed).await,
        1.0
    );
    let found = r#"backend="b0",finding="stuck""#;
    assert_eq!(
        gateway
            .metric("drover_watchdog_findings_total", found)
            .await,
        1.0
    );
}

/// A slot that stays stuck although nobody waits for it: the backend gets nothing until it gets on again.
#[tokio::test]
async fn a_stuck_backend_is_left_its_hook_is_run_and_it_is_used_again() {
    let (stuck, well) = (slow_sim().await, slow_sim().await);
    let told = tempfile::tempdir().unwrap();
    let file = told.path().join("told");
    let script = r#"echo "$DROVER_BACKEND $DROVER_ADDRESS $DROVER_FINDING ${HOME-none}" > "$0""#;
    let hook = json!(["sh", "-c", script, file]);
    let gateway = watched(&[&stuck, &well])
        .set("fleet.watchdog.hook", hook)
        .start()
        .await;
    // Somebody else's request, past the gateway.
    let mut others = stuck.connect().await;
    others.send(&chat(json!({"stream": true}))).await;
    others.answer().await.event().await;
    stuck.told("wedge").await;
    // One of ours makes the gateway look at the slots.
    let asked = chat(json!({"max_tokens": 2}));
    for _ in 0..2 {
        Client::connect(gateway.addr).await.ask(&asked).await;
    }
    gateway.backend_is("b0", "wedged").await;
    let trouble = gateway.admin_get("/api/backends").await.json()["backends"][0]["trouble"].clone();
    assert_eq!(trouble, "a slot is busy and makes no progress");
    let address = stuck.url.strip_prefix("http://").unwrap();
    let expected = format!("b0 {address} stuck none\n");
    eventually("the hook has run", || async {
        (read(&file) == expected).then_some(())
    })
    .await;
    let began = Instant::now();
    for _ in 0..4 {
        let response = Client::connect(gateway.addr).await.ask(&asked).await;
        assert_eq!(response.headers.get("x-drover-backend"), Some("b1"));
    }
    assert!(
        began.elapsed() < LOOK * 4,
        "nobody waits for it: {:?}",
        began.elapsed()
    );

    stuck.told("resume").await;
    gateway.backend_is("b0", "ready").await;
    let wedged = r#"backend="b0",from="wedged""#;
    counted(&gateway, "drover_backend_recovery_seconds_count", wedged).await;
    drop(others);
}

/// It happened once. What happened is counted by the next scrape.
async fn counted(gateway: &Gateway, name: &str, labels: &str) {
    eventually(name, || async {
        (gateway.metric(name, labels).await == 1.0).then_some(())
    })
    .await;
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}
