//! A second backend is asked when the first one stays silent for longer than its prompt takes.

use std::time::Duration;

use drover::sim::{self, SimConfig, SimHandle};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::*;

/// How long the stalled backend is silent before each answer.
const STALL: Duration = Duration::from_millis(2500);

async fn sims() -> Vec<SimHandle> {
    let mut sims = Vec::new();
    for n in 0..3 {
        let config = SimConfig {
            name: format!("b{n}"),
            prefill_tps: 50_000.0,
            // An answer takes 400 ms: long enough for the stalled one to be asked again and again.
            decode_tps: 20.0,
            ..SimConfig::default()
        };
        sims.push(sim::bind(config, "127.0.0.1:0").await.unwrap());
    }
    sims
}

fn setup(sims: &[SimHandle], share: f64) -> Setup {
    let urls: Vec<String> = sims.iter().map(SimHandle::url).collect();
    Setup::urls(&urls).set(
        "fleet.hedge",
        json!({"share": share, "factor": 2, "after": "200ms"}),
    )
}

/// A turn of about 200 tokens; the first backend stalls before it answers one that is `stalled`.
fn turn(n: usize, stalled: bool) -> Request {
    let script =
        json!({"steps": [{"sleep_ms": STALL.as_millis() as u64}, {"text": "slowly"}], "on": "b0"});
    let directive = match stalled {
        true => format!("[[sim {script}]]"),
        false => String::new(),
    };
    let text = format!("{n}: {} {directive}", "a line to be read ".repeat(40));
    let body = json!({"model": "m", "stream": true, "max_tokens": 8,
        "messages": [{"role": "user", "content": text}]});
    post("/v1/chat/completions", body.to_string())
}

/// Time to the first token of each of so many turns, six at a time, the shortest first.
async fn load(gateway: &Gateway, turns: usize) -> Vec<Duration> {
    // So that it is known how fast prompts are read.
    for n in 0..6 {
        gateway.ask(&turn(n, false)).await.assert_complete_stream();
    }
    let mut took = Vec::new();
    let mut running = JoinSet::new();
    for n in 0..turns {
        let addr = gateway.addr;
        running.spawn(async move {
            let mut client = Client::connect(addr).await;
            let sent = Instant::now();
            client.send(&turn(100 + n, true)).await;
            let mut answer = client.answer().await;
            answer.content().await;
            let took = sent.elapsed();
            answer.rest().await.assert_complete_stream();
            took
        });
        if running.len() == 6 {
            took.push(running.join_next().await.unwrap().unwrap());
        }
    }
    took.extend(running.join_all().await);
    took.sort();
    took
}

/// Turns that reached it; it is asked for renderings of its chat template, too.
fn turns_of(sim: &SimHandle) -> usize {
    let requests = sim.requests();
    let turn = |request: &&sim::Recorded| request.target == "/v1/chat/completions";
    requests.iter().filter(turn).count()
}

async fn hedges(gateway: &Gateway, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    gateway.metric("drover_hedges_total", &label).await
}

#[tokio::test]
async fn the_tail_is_cut_when_one_backend_stalls() {
    let mut p95 = Vec::new();
    for share in [0.0, 1.0] {
        let sims = sims().await;
        let gateway = setup(&sims, share).start().await;
        let took = load(&gateway, 60).await;
        p95.push(took[took.len() * 95 / 100]);
        eprintln!(
            "share {share}: p50 {:?}, p95 {:?}, longest {:?}",
            took[30], took[57], took[59]
        );
        let (won, all) = (
            hedges(&gateway, "won").await,
            gateway.metric("drover_hedges_total", "").await,
        );
        let asked: usize = sims.iter().map(turns_of).sum();
        match share > 0.0 {
            false => assert_eq!((all, asked), (0.0, 66), "off: nobody is asked twice"),
            true => assert!(won >= 5.0, "{won}"),
        }
        // The one that lost does not go on for nobody.
        eventually("all are idle", || async {
            sims.iter().all(|sim| sim.busy() == 0).then_some(())
        })
        .await;
        gateway.idle().await;
    }
    assert!(p95[0] >= STALL, "{p95:?}");
    assert!(p95[1] < STALL * 3 / 4, "{p95:?}");
}

#[tokio::test]
async fn no_more_than_the_share_is_hedged_and_it_is_told() {
    let sims = sims().await;
    let gateway = setup(&sims, 0.05).start().await;
    load(&gateway, 40).await;
    gateway.idle().await;
    let sent = hedges(&gateway, "won").await + hedges(&gateway, "lost").await;
    assert!((1.0..=3.0).contains(&sent), "{sent} of 46, and the first");
    assert!(hedges(&gateway, "refused").await > 0.0);
    let requests = gateway.admin_get("/api/requests").await.text();
    let attempts = gateway
        .metric("drover_attempts_total", r#"why="hedge""#)
        .await;
    assert_eq!(attempts, sent, "{requests}");
    let interventions = gateway
        .metric("drover_interventions_total", r#"kind="hedge""#)
        .await;
    assert_eq!(interventions, sent);
}

#[tokio::test]
async fn a_hedged_turn_explains_both_choices() {
    let sims = sims().await;
    let gateway = setup(&sims, 1.0)
        .set("guard.preset", json!("standard"))
        .start()
        .await;
    for n in 0..3 {
        gateway.ask(&turn(n, false)).await.assert_complete_stream();
    }
    for n in 0..9 {
        let response = gateway.ask(&turn(10 + n, true)).await;
        response.assert_complete_stream();
        if response.headers.get("x-drover-attempts") != Some("2") {
            continue;
        }
        assert_ne!(response.headers.get("x-drover-backend"), Some("b0"));
        assert_eq!(
            response.headers.get("x-drover-interventions"),
            Some("hedge")
        );
        let id = response.headers.get("x-request-id").unwrap();
        let told = gateway
            .admin_get(&format!("/api/explain/{id}"))
            .await
            .json();
        let decisions = told["decisions"].as_array().unwrap();
        assert_eq!(decisions.len(), 2, "{told}");
        assert_eq!(
            (&decisions[0]["chosen"], &decisions[1]["hedge"]),
            (&json!("b0"), &json!(true)),
            "{told}"
        );
        assert_eq!(decisions[0]["hedge"], false);
        return;
    }
    panic!("no turn was hedged");
}
