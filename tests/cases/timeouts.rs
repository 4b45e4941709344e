//! Deadlines.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::script::{role, text};
use crate::support::*;

/// The configured deadline in these tests, and what may pass until it is told.
const DEADLINE: Duration = Duration::from_millis(400);
const LATE: Duration = Duration::from_millis(2500);

fn with(backends: &[&Backend], name: &str) -> Setup {
    Setup::to(backends).set(&format!("timeouts.{name}"), json!("400ms"))
}

fn assert_in_time(asked: Instant) {
    let took = asked.elapsed();
    assert!(
        took >= DEADLINE - Duration::from_millis(20) && took < LATE,
        "{took:?}"
    );
}

#[rstest]
#[case::no_head(Reply::new().hang())]
#[case::head_only(Reply::stream().hang())]
#[case::role_only(Reply::stream().event(&role()).hang())]
#[tokio::test]
async fn a_backend_that_never_begins_is_given_up(
    #[case] reply: Reply,
    #[values(true, false)] streams: bool,
) {
    let backend = Backend::replying(reply).await;
    let gateway = with(&[&backend], "first_event").start().await;
    let asked = Instant::now();
    let response = gateway.ask(&chat(json!({"stream": streams}))).await;
    assert_in_time(asked);
    backend.cancelled(0).await;
    if response.status == 200 {
        response.assert_failed_stream();
    } else {
        response.assert_error(504);
    }
    assert_eq!(response.error()["code"], "timeout");
    gateway.idle().await;
}

#[tokio::test]
async fn comments_of_a_wedged_backend_are_no_first_event() {
    let reply = (0..40).fold(Reply::stream(), |r, _| {
        r.comment().pause(Duration::from_millis(50))
    });
    let backend = Backend::replying(reply.hang()).await;
    let gateway = with(&[&backend], "first_event").start().await;
    let asked = Instant::now();
    let response = gateway.ask(&chat(json!({}))).await;
    assert_in_time(asked);
    response.assert_error(504);
    backend.cancelled(0).await;
}

#[tokio::test]
async fn another_backend_takes_over_from_one_that_never_begins() {
    let wedged = Backend::replying(Reply::new().hang()).await;
    let good = Backend::replying(Reply::says(&["saved"])).await;
    let gateway = with(&[&wedged, &good], "first_event").start().await;
    for _ in 0..2 {
        let response = gateway.ask(&stream()).await;
        response.assert_complete_stream();
        assert_eq!(response.said(), "saved");
    }
    wedged.cancelled(0).await;
}

#[tokio::test]
async fn silence_between_tokens_ends_a_stream() {
    let reply = Reply::stream().event(&role()).event(&text("a")).hang();
    let backend = Backend::replying(reply).await;
    let gateway = with(&[&backend], "inter_token").start().await;
    let asked = Instant::now();
    let response = gateway.ask(&stream()).await;
    assert_in_time(asked);
    response.assert_failed_stream();
    assert_eq!(response.error()["code"], "timeout");
    backend.cancelled(0).await;
    gateway.idle().await;
    assert_eq!(
        gateway
            .metric("drover_requests_total", r#"outcome="timeout""#)
            .await,
        1.0
    );
}

#[tokio::test]
async fn comments_of_a_wedged_backend_are_no_tokens() {
    let begun = Reply::stream().event(&role()).event(&text("a"));
    let reply = (0..40).fold(begun, |r, _| r.comment().pause(Duration::from_millis(50)));
    let backend = Backend::replying(reply.hang()).await;
    let gateway = with(&[&backend], "inter_token").start().await;
    let asked = Instant::now();
    gateway.ask(&stream()).await.assert_failed_stream();
    assert_in_time(asked);
    backend.cancelled(0).await;
}

#[tokio::test]
async fn slow_tokens_are_no_silence() {
    let mut reply = Reply::stream().event(&role());
    for _ in 0..8 {
        reply = reply.pause(Duration::from_millis(120)).event(&text("x"));
    }
    let backend = Backend::replying(reply.ends("stop")).await;
    let gateway = with(&[&backend], "inter_token").set("timeouts.first_event", json!("400ms"));
    let response = gateway.start().await.ask(&stream()).await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "x".repeat(8));
}

#[rstest]
#[tokio::test]
async fn a_turn_ends_at_its_total(#[values(true, false)] streams: bool) {
    let begun = Reply::stream().event(&role());
    let reply = (0..100).fold(begun, |r, _| {
        r.event(&text("x")).pause(Duration::from_millis(50))
    });
    let backend = Backend::replying(reply.ends("stop")).await;
    let gateway = with(&[&backend], "total").start().await;
    let asked = Instant::now();
    let response = gateway.ask(&chat(json!({"stream": streams}))).await;
    assert_in_time(asked);
    if streams {
        response.assert_failed_stream();
    } else {
        response.assert_error(504);
    }
    backend.cancelled(0).await;
}

#[tokio::test]
async fn the_total_covers_all_attempts() {
    let mut backends = Vec::new();
    for _ in 0..4 {
        backends
            .push(Backend::replying(Reply::new().pause(Duration::from_millis(250)).close()).await);
    }
    let all: Vec<&Backend> = backends.iter().collect();
    let gateway = with(&all, "total").start().await;
    let asked = Instant::now();
    gateway.ask(&stream()).await.assert_error(504);
    assert_in_time(asked);
    assert_eq!(
        backends.iter().map(|b| b.requests().len()).sum::<usize>(),
        2
    );
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let backend = Backend::start().await;
    let gateway = with(&[&backend], "request_body").start().await;
    let mut client = gateway.connect().await;
    let request = stream();
    client.write(request.head().as_bytes()).await.unwrap();
    let asked = Instant::now();
    client.write(&request.body[..10]).await.unwrap();
    let response = client.answer().await.rest().await;
    assert_in_time(asked);
    response.assert_error(408);
    client.closed().await;
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn a_body_that_drips_is_not_waited_for_either() {
    let backend = Backend::start().await;
    let gateway = with(&[&backend], "request_body").start().await;
    let mut client = gateway.connect().await;
    let request = stream();
    client.write(request.head().as_bytes()).await.unwrap();
    let asked = Instant::now();
    for byte in &request.body[..20] {
        if client.write(&[*byte]).await.is_err() || asked.elapsed() > DEADLINE * 2 {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    client.answer().await.rest().await.assert_error(408);
    assert_eq!(backend.requests().len(), 0);
}
