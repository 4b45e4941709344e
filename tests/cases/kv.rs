//! Servers whose slots share one KV cache: turns go only where they fit, and an overflow is one fault.

use std::time::Duration;

use drover::sim::{self, Patch, SimConfig, SimHandle};
use serde_json::{Value, json};

use crate::support::*;

/// Words of the prompts and answers below come to about a token each.
const ANSWER: usize = 150;

/// `count` servers with four slots on one cache of `n_ctx` tokens.
async fn unified(count: usize, n_ctx: usize) -> Vec<SimHandle> {
    let mut sims = Vec::new();
    for n in 0..count {
        let config = SimConfig {
            name: format!("b{n}"),
            n_ctx,
            kv_unified: true,
            decode_tps: 400.0,
            ..SimConfig::default()
        };
        sims.push(sim::bind(config, "127.0.0.1:0").await.unwrap());
    }
    sims
}

/// Their answers take a second and a half, so that they can be met at work.
fn slowly(sims: &[SimHandle]) {
    let slow = Patch {
        decode_tps: Some(100.0),
        ..Patch::default()
    };
    for sim in sims {
        sim.patch(slow.clone()).unwrap();
    }
}

fn setup(sims: &[SimHandle], kv: &str, reserve: bool) -> Setup {
    let urls: Vec<String> = sims.iter().map(SimHandle::url).collect();
    let mut setup = Setup::urls(&urls).set("fleet.reserve", json!(reserve));
    for backend in setup.config["fleet"]["pools"][0]["backends"]
        .as_array_mut()
        .unwrap()
    {
        backend["kv"] = json!(kv);
    }
    setup
}

/// A turn of about 100 tokens that is answered with [`ANSWER`].
fn turn(n: usize) -> Request {
    let said = format!("number {n}: {}", "tell me more of it ".repeat(18));
    let steps = json!([{"repeat": {"text": " word", "times": ANSWER}}]);
    let script = json!({"steps": steps, "repeat": true});
    let body = json!({
        "model": "m", "stream": true, "max_tokens": ANSWER + 20,
        "messages": [{"role": "user", "content": format!("{said} [[sim {script}]]")}],
    });
    post("/v1/chat/completions", body.to_string())
}

/// All of them at once, and what became of each.
async fn all(gateway: &Gateway, turns: usize) -> Vec<Response> {
    let mut clients = Vec::new();
    for n in 0..turns {
        let mut client = gateway.connect().await;
        client.send(&turn(n)).await;
        clients.push(client);
    }
    let mut responses = Vec::new();
    for mut client in clients {
        responses.push(client.answer().await.rest().await);
    }
    responses
}

fn complete(responses: &[Response]) -> usize {
    let complete = |response: &&Response| response.text().contains("[DONE]");
    responses.iter().filter(complete).count()
}

async fn overflows(gateway: &Gateway) -> (f64, f64) {
    (
        gateway.metric("drover_kv_overflows_total", "backend").await,
        gateway
            .metric("drover_kv_overflow_answers_total", "backend")
            .await,
    )
}

#[tokio::test]
async fn without_reservations_streams_die_and_with_them_none_does() {
    for reserve in [false, true] {
        let sims = unified(1, 700).await;
        let gateway = setup(&sims, "unified", reserve).start().await;
        let responses = all(&gateway, 8).await;
        let (faults, lost) = overflows(&gateway).await;
        if reserve {
            assert_eq!((complete(&responses), faults, lost), (8, 0.0, 0.0));
            let backend = &gateway.admin_get("/api/backends").await.json()["backends"][0];
            assert_eq!(
                (&backend["kv_tokens"], &backend["kv_held"]),
                (&json!(700), &json!(0)),
                "all of it is given back"
            );
        } else {
            assert!(complete(&responses) < 8);
            assert!(faults >= 1.0 && lost > faults, "{faults} {lost}");
        }
        gateway.idle().await;
    }
}

#[tokio::test]
async fn an_overflow_tells_an_unknown_server_and_is_one_fault() {
    let sims = unified(1, 700).await;
    let gateway = setup(&sims, "auto", true)
        .set("fleet.resume", json!(true))
        .start()
        .await;
    let kv = async || {
        let told = gateway.admin_get("/api/backends").await.json();
        told["backends"][0]["kv"].clone()
    };
    assert_eq!(kv().await, "auto");
    // Each goes on at the same backend, the only one, when there is room for it.
    let responses = all(&gateway, 6).await;
    assert_eq!(complete(&responses), 6);
    let (faults, lost) = overflows(&gateway).await;
    // Those that a simulated server fails do not fail in one instant: what goes on may meet the end of it.
    assert!(
        (1.0..=2.0).contains(&faults) && lost > faults,
        "{faults} {lost}"
    );
    assert_eq!(kv().await, "unified");
    assert_eq!(complete(&all(&gateway, 6).await), 6);
    assert_eq!(overflows(&gateway).await, (faults, lost), "it was learnt");
    let backend = &gateway.admin_get("/api/backends").await.json()["backends"][0];
    assert_eq!(
        (&backend["ejected"], &backend["state"]),
        (&json!(false), &json!("ready"))
    );
}

#[tokio::test]
async fn streams_lost_to_an_overflow_go_on_elsewhere() {
    let sims = unified(2, 4000).await;
    let gateway = setup(&sims, "unified", true)
        .set("fleet.resume", json!(true))
        .start()
        .await;
    let watch = async {
        // In the middle of the answers of the first.
        eventually("both at work", || async {
            sims.iter().all(|sim| sim.busy() >= 2).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let overflow = Patch {
            overflow: Some(true),
            ..Patch::default()
        };
        sims[0].patch(overflow).unwrap();
    };
    let (responses, ()) = tokio::join!(all(&gateway, 6), watch);
    assert_eq!(complete(&responses), 6);
    for response in &responses {
        assert_eq!(response.said(), " word".repeat(ANSWER), "without a gap");
    }
    let (faults, lost) = overflows(&gateway).await;
    assert!(faults == 1.0 && lost >= 2.0, "{faults} {lost}");
    let resumed = gateway
        .metric("drover_attempts_total", r#"why="resume""#)
        .await;
    assert_eq!(resumed, lost);
}

#[tokio::test]
async fn a_stream_that_cannot_go_on_is_told_why() {
    let sims = unified(1, 4000).await;
    let gateway = setup(&sims, "unified", true).start().await;
    let overflow = async {
        eventually("it is at work", || async {
            (sims[0].busy() == 1).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let overflow = Patch {
            overflow: Some(true),
            ..Patch::default()
        };
        sims[0].patch(overflow).unwrap();
    };
    let request = turn(1);
    let (response, ()) = tokio::join!(gateway.ask(&request), overflow);
    response.assert_failed_stream();
    assert_eq!(response.error()["code"], "kv_overflow");
    let line = gateway
        .access_line(response.headers.get("x-request-id").unwrap())
        .await;
    assert_eq!(line["error"], "kv_overflow");
}

#[tokio::test]
async fn what_can_never_fit_is_refused_at_once_in_the_known_words() {
    // Two fit, by what is expected of them.
    let sims = unified(1, 800).await;
    slowly(&sims);
    let gateway = setup(&sims, "unified", true)
        .set("guard.preset", json!("standard"))
        .set("guard.context.prune", json!(false))
        .start()
        .await;
    let others = all(&gateway, 2);
    let long = async {
        eventually("it is at work", || async {
            (sims[0].busy() == 2).then_some(())
        })
        .await;
        let body = json!({"model": "m", "max_tokens": 5, "messages": [
            {"role": "user", "content": "word ".repeat(1500)}]});
        gateway
            .ask(&post("/v1/chat/completions", body.to_string()))
            .await
    };
    let (others, refused) = tokio::join!(others, long);
    assert_eq!(refused.status, 400, "{}", refused.text());
    let text = refused.text();
    assert!(
        text.contains("prompt is too long: ") && text.contains("> 800 maximum"),
        "{text}"
    );
    assert_eq!(complete(&others), 2);
}

#[tokio::test]
async fn the_explanation_tells_of_room() {
    let sims = unified(2, 800).await;
    slowly(&sims);
    let gateway = setup(&sims, "unified", true).start().await;
    let mut clients = Vec::new();
    for n in 0..3 {
        let mut client = gateway.connect().await;
        client.send(&turn(n)).await;
        clients.push(client);
    }
    let mut running = Vec::new();
    for client in &mut clients {
        running.push(client.answer().await);
    }
    // Two on one, one on the other: a large one fits on neither, a small one on the second.
    let small =
        json!({"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]});
    let answer = gateway
        .ask(&post("/v1/chat/completions", small.to_string()))
        .await;
    let id = answer.headers.get("x-request-id").unwrap().to_owned();
    let told = gateway
        .admin_get(&format!("/api/explain/{id}"))
        .await
        .json();
    let candidates: Vec<Value> = told["decisions"][0]["candidates"]
        .as_array()
        .unwrap()
        .clone();
    let held: Vec<u64> = candidates
        .iter()
        .map(|c| c["kv_held"].as_u64().unwrap())
        .collect();
    assert!(held.iter().all(|held| *held > 0), "{told}");
    for answer in running {
        answer.rest().await.assert_complete_stream();
    }
}
