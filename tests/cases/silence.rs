//! Processes that stop: the kernel still takes connections, and nobody answers them.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::*;

/// Two checks without an answer take a backend down, each waited for so long.
const CHECK: Duration = Duration::from_secs(1);

/// All timeouts of requests are the defaults: minutes.
fn checked(sims: &[&Sim]) -> Setup {
    let urls: Vec<String> = sims.iter().map(|sim| sim.url.clone()).collect();
    Setup::urls(&urls)
        .set("fleet.health.timeout", json!("1s"))
        .set("fleet.resume", json!(true))
}

async fn slow_sim() -> Sim {
    Sim::start(&["--decode-tps", "20"]).await
}

/// Regression: they waited for `timeouts.first_event` and `inter_token`, ten and two minutes.
#[tokio::test]
async fn requests_on_a_stopped_process_go_on_elsewhere() {
    let (stopped, well) = (slow_sim().await, slow_sim().await);
    let gateway = checked(&[&stopped, &well]).start().await;
    let ask = |more| {
        let addr = gateway.addr;
        async move { Client::connect(addr).await.ask(&chat(more)).await }
    };
    let mut streams = JoinSet::new();
    for _ in 0..2 {
        streams.spawn(ask(json!({"stream": true, "max_tokens": 40})));
    }
    sleep(Duration::from_millis(500)).await;
    stopped.signal("-STOP").await;
    let began = Instant::now();
    let mut answers = JoinSet::new();
    for _ in 0..4 {
        answers.spawn(ask(json!({"max_tokens": 4})));
    }
    for response in answers.join_all().await {
        assert_eq!(response.status, 200, "{}", response.text());
    }
    for response in streams.join_all().await {
        response.assert_complete_stream();
    }
    println!("SIGSTOP: all served after {:?}", began.elapsed());
    assert!(began.elapsed() < 10 * CHECK, "{:?}", began.elapsed());
    let resumed = r#"why="resume""#;
    eventually("the stream there was resumed", || async {
        (gateway.metric("drover_attempts_total", resumed).await == 1.0).then_some(())
    })
    .await;
    // It was down, and nothing else is held against it.
    stopped.signal("-CONT").await;
    gateway.backend_is("b0", "ready").await;
    assert_eq!(gateway.metric("drover_backend_ejected", "").await, 0.0);
}

/// It may come back, and nobody else could answer.
#[tokio::test]
async fn requests_that_can_go_nowhere_else_wait_for_it() {
    let stopped = slow_sim().await;
    let gateway = checked(&[&stopped]).start().await;
    let addr = gateway.addr;
    let answer = tokio::spawn(async move {
        let request = chat(json!({"stream": true, "max_tokens": 40}));
        Client::connect(addr).await.ask(&request).await
    });
    sleep(Duration::from_millis(500)).await;
    stopped.signal("-STOP").await;
    gateway.backend_is("b0", "down").await;
    sleep(3 * CHECK).await;
    stopped.signal("-CONT").await;
    answer.await.unwrap().assert_complete_stream();
}
