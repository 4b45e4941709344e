//! What a hostile client or web page might try.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::script::text;
use crate::support::*;

#[tokio::test]
async fn nothing_after_a_malformed_chunk_is_read_as_a_request() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for chunk in ["zz\r\n\r\n", "-5\r\n", "5\r\nhelloXX"] {
        let mut client = gateway.connect().await;
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n\
             {chunk}GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n"
        );
        client.write(request.as_bytes()).await.unwrap();
        let response = client.answer().await.rest().await;
        assert_eq!(response.status, 400, "{chunk:?}");
        client.closed().await;
    }
    gateway.idle().await;
}

#[tokio::test]
async fn an_early_error_arrives_on_http2() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let large = "x".repeat(4 << 20);
    let mut h2 = gateway.connect_h2().await;
    h2.ask(&post("/nope", large.clone()))
        .await
        .assert_error(404);
    h2.ask(&stream()).await.assert_complete_stream();
    gateway.ask(&post("/nope", large)).await.assert_error(404);
}

#[tokio::test]
async fn an_answered_expectation_keeps_the_connection() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let request = stream().header("Expect", "100-continue");
    let response = gateway.ask(&request).await;
    assert_ne!(response.headers.get("connection"), Some("close"));
}

#[tokio::test]
async fn without_keys_pages_of_other_origins_are_refused() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for origin in ["http://evil.example:8080", "null"] {
        let request = stream().header("Origin", origin);
        gateway.ask(&request).await.assert_error(403);
    }
    let own = stream().header("Origin", "http://localhost:3000");
    gateway.ask(&own).await.assert_complete_stream();
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn a_body_that_only_the_backend_would_read_does_not_pass() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set(
            "fleet.passthrough",
            json!([{"path": "/completion", "pool": "default"}]),
        )
        .start()
        .await;
    for body in [
        "\u{feff}{\"id_slot\":0,\"prompt\":\"a\"}",
        "{\"id_slot\":0,\"prompt\":\"a\"}\0",
    ] {
        gateway
            .ask(&post("/completion", body))
            .await
            .assert_error(400);
    }
    assert!(
        backend
            .requests()
            .iter()
            .all(|request| request.body.is_empty()),
        "the slot reached the backend"
    );
}

#[tokio::test]
async fn a_header_that_comes_byte_by_byte_is_not_waited_for() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("timeouts.client_idle", json!("1s"))
        .set("timeouts.request_header", json!("200ms"))
        .start()
        .await;
    let mut client = gateway.connect().await;
    let begun = Instant::now();
    let mut header = b"GET /v1/models HTTP/1.1\r\nX-Slow: ".to_vec();
    header.extend([b'x'; 400]);
    for byte in header {
        sleep(Duration::from_millis(10)).await;
        if client.write(&[byte]).await.is_err() {
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "closed meanwhile");
    // A whole answer may take longer than its header.
    let slow = Reply::stream().pause(Duration::from_millis(1500));
    backend.always(slow.event(&text("late")).ends("stop"));
    gateway.ask(&stream()).await.assert_complete_stream();
    gateway.idle().await;
}

#[tokio::test]
async fn connections_beyond_their_number_are_closed_at_once() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("limits.max_connections", json!(2))
        .start()
        .await;
    let (mut one, mut two) = (gateway.connect().await, gateway.connect().await);
    assert_eq!(one.ask(&get("/health")).await.status, 200);
    assert_eq!(two.ask(&get("/health")).await.status, 200);
    gateway.connect().await.closed().await;
    assert_eq!(
        gateway.metric("drover_connections_refused_total", "").await,
        1.0
    );
    drop(one);
    eventually("a free place", || async {
        let mut client = gateway.connect().await;
        client.send(&get("/health")).await;
        client.try_head().await.filter(|(status, _)| *status == 200)
    })
    .await;
}
