//! HTTP/2 without TLS, on the same port.

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::script::{role, text};
use crate::support::*;

#[tokio::test]
async fn streams_and_whole_answers() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut h2 = gateway.connect_h2().await;
    let streamed = h2.ask(&stream()).await;
    streamed.assert_complete_stream();
    assert_eq!(streamed.said(), "Hello there!");
    for name in ["connection", "transfer-encoding", "keep-alive"] {
        assert_eq!(streamed.headers.get(name), None, "{name} is not for HTTP/2");
    }
    let whole = h2.ask(&chat(json!({}))).await;
    assert_eq!(
        whole.json()["choices"][0]["message"]["content"],
        "Hello there!"
    );
    assert_eq!(
        h2.ask(&get("/health")).await.json(),
        json!({"status": "ok"})
    );
}

#[tokio::test]
async fn tokens_arrive_one_by_one() {
    let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
    let mut reply = Reply::stream().event(&role());
    for (n, gate) in gates.iter().enumerate() {
        reply = reply.event(&text(&format!("t{n}"))).gate(gate);
    }
    let backend = Backend::replying(reply.ends("stop")).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut answer = gateway.connect_h2().await.open(&stream()).await;
    for (n, gate) in gates.iter().enumerate() {
        let wanted = format!("t{n}");
        loop {
            let piece = answer.piece().await.unwrap().unwrap();
            if String::from_utf8_lossy(&piece).contains(&wanted) {
                break;
            }
        }
        gate.open();
    }
    answer.rest().await.assert_complete_stream();
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut h2 = gateway.connect_h2().await;
    let mut answers = JoinSet::new();
    for _ in 0..50 {
        let answer = h2.open(&stream()).await;
        answers.spawn(answer.rest());
    }
    while let Some(response) = answers.join_next().await {
        response.unwrap().assert_complete_stream();
    }
}

#[tokio::test]
async fn errors_have_the_same_shape() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("limits.max_body_bytes", json!("64KiB"))
        .start()
        .await;
    let mut h2 = gateway.connect_h2().await;
    h2.ask(&post("/v1/chat/completions", "{"))
        .await
        .assert_error(400);
    h2.ask(&get("/nope")).await.assert_error(404);
    h2.ask(&post("/v1/chat/completions", "x".repeat(100 << 10)))
        .await
        .assert_error(413);
    h2.ask(&stream()).await.assert_complete_stream();
}

#[tokio::test]
async fn a_failed_stream_ends_with_an_error_event() {
    let backend = Backend::replying(Reply::stream().event(&text("a")).reset()).await;
    let gateway = Setup::to(&[&backend]).start().await;
    gateway
        .connect_h2()
        .await
        .ask(&stream())
        .await
        .assert_failed_stream();
}
