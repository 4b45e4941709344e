//! Signs of life to a client whose backend is silent.

use std::time::Duration;

use serde_json::json;

use crate::support::script::{role, text};
use crate::support::*;

const FIRST: Duration = Duration::from_millis(300);
const EVERY: Duration = Duration::from_millis(150);

fn pinging(backends: &[&Backend]) -> Setup {
    Setup::to(backends)
        .set("timeouts.ping_first", json!("300ms"))
        .set("timeouts.ping_every", json!("150ms"))
}

#[tokio::test]
async fn a_silent_backend_is_covered_by_real_events() {
    let gate = Gate::new();
    let backend = Backend::replying(Reply::new().gate(&gate)).await;
    backend.always(
        Reply::new()
            .gate(&gate)
            .head()
            .event(&role())
            .event(&text("late"))
            .ends("stop"),
    );
    let gateway = pinging(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    let asked = tokio::time::Instant::now();
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    assert_eq!(answer.status, 200);
    let mut at = Vec::new();
    for _ in 0..4 {
        let event = answer.event().await.unwrap();
        assert_eq!(
            event.content().as_deref(),
            Some(""),
            "an event that says nothing: {}",
            event.data
        );
        assert!(event.json()["choices"][0]["finish_reason"].is_null());
        at.push(event.at);
    }
    let first = at[0] - asked;
    assert!(first >= FIRST - Duration::from_millis(20), "{first:?}");
    assert!(first < FIRST * 2, "{first:?}");
    for pair in at.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap > EVERY / 2 && gap < EVERY * 3, "{gap:?}");
    }
    gate.open();
    let response = answer.rest().await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "late");
    let roles = response
        .chunks()
        .iter()
        .filter(|c| !c["choices"][0]["delta"]["role"].is_null())
        .count();
    assert_eq!(roles, 1, "the first ping carried it");
}

#[tokio::test]
async fn silence_in_the_middle_and_comments_are_covered_too() {
    let gate = Gate::new();
    let mut reply = Reply::stream().event(&role()).event(&text("a"));
    for _ in 0..12 {
        reply = reply.comment().pause(Duration::from_millis(50));
    }
    let backend = Backend::replying(reply.gate(&gate).event(&text("b")).ends("stop")).await;
    let gateway = pinging(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    assert_eq!(answer.content().await, "a");
    for _ in 0..3 {
        let event = answer.event().await.unwrap();
        assert_eq!(event.content().as_deref(), Some(""), "{}", event.data);
    }
    gate.open();
    let response = answer.rest().await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "ab");
}

#[tokio::test]
async fn a_lively_stream_is_not_pinged() {
    let mut reply = Reply::stream().event(&role());
    for _ in 0..15 {
        reply = reply.pause(Duration::from_millis(30)).event(&text("x"));
    }
    let backend = Backend::replying(reply.ends("stop")).await;
    let gateway = pinging(&[&backend]).start().await;
    let response = gateway.ask(&stream()).await;
    response.assert_complete_stream();
    let empty = response
        .events()
        .into_iter()
        .filter(|e| e.data != "[DONE]" && e.content().as_deref() == Some(""));
    assert_eq!(
        empty.count(),
        1,
        "the role chunk alone: {}",
        response.text()
    );
}

#[tokio::test]
async fn an_error_after_a_ping_is_told_in_the_stream() {
    let gate = Gate::new();
    let overflow = json!({"error": {"code": 400, "type": "exceed_context_size_error",
        "message": "request (931 tokens) exceeds the available context size (512 tokens), try increasing it",
        "n_prompt_tokens": 931, "n_ctx": 512}});
    let late = Reply::whole(400, "application/json", &overflow.to_string());
    let backend = Backend::replying(Reply::new().gate(&gate).and(late).close()).await;
    let gateway = pinging(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    assert_eq!(answer.status, 200);
    answer.event().await.unwrap();
    gate.open();
    let response = answer.rest().await;
    response.assert_failed_stream();
    assert_eq!(response.error()["code"], "context_length_exceeded");
}

#[tokio::test]
async fn a_turn_may_fail_over_after_pings() {
    let gate = Gate::new();
    let one = Backend::replying(Reply::new().gate(&gate).close()).await;
    let two = Backend::replying(Reply::new().gate(&gate).close()).await;
    let gateway = pinging(&[&one, &two]).start().await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    answer.event().await.unwrap();
    one.always(Reply::says(&["saved"]));
    two.always(Reply::says(&["saved"]));
    gate.open();
    let response = answer.rest().await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "saved");
}

#[tokio::test]
async fn a_client_that_does_not_stream_is_not_pinged() {
    let reply = Reply::new()
        .pause(FIRST * 3)
        .head()
        .event(&text("a"))
        .ends("stop");
    let backend = Backend::replying(reply).await;
    let gateway = pinging(&[&backend]).start().await;
    let response = gateway.ask(&chat(json!({}))).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.headers.length(), Some(response.text().len()));
    assert_eq!(response.json()["choices"][0]["message"]["content"], "a");
}

#[tokio::test]
async fn a_ping_reaches_http2_clients() {
    let backend = Backend::replying(Reply::new().hang()).await;
    let gateway = pinging(&[&backend]).start().await;
    let mut h2 = gateway.connect_h2().await;
    let mut answer = h2.open(&stream()).await;
    assert_eq!(answer.status, 200);
    for _ in 0..2 {
        let piece = answer.piece().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&piece).contains(r#""content":"""#));
    }
}
