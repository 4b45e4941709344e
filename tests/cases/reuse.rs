//! Connections to backends are kept, and a stale one is no error.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::support::*;

#[tokio::test]
async fn a_second_request_uses_the_same_connection() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("pingora.threads", json!(1))
        .start()
        .await;
    for streams in [true, false, true, false] {
        assert_eq!(
            gateway.ask(&chat(json!({"stream": streams}))).await.status,
            200
        );
    }
    let connections: Vec<usize> = backend.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [0, 0, 0, 0]);
    let reused = gateway
        .metric("drover_upstream_connections_total", r#"reused="true""#)
        .await;
    assert_eq!(reused, 3.0);
}

#[tokio::test]
async fn a_connection_the_backend_closed_while_idle_is_no_error() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("pingora.threads", json!(1))
        .start()
        .await;
    for n in 0..5 {
        // Closes right after its answer, without having said so, as after 5 s of silence.
        backend.then(Reply::says(&["a"]).close());
        let response = gateway.ask(&stream()).await;
        response.assert_complete_stream();
        // With and without time for the close to be noticed.
        sleep(Duration::from_millis(10 * (n % 2))).await;
    }
    assert_eq!(backend.requests().len(), 5, "nobody answered twice");
}

#[tokio::test]
async fn a_connection_that_dies_under_a_reused_request_is_replaced() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("pingora.threads", json!(1))
        .start()
        .await;
    for n in 0..3 {
        gateway.ask(&stream()).await.assert_complete_stream();
        assert_eq!(backend.requests().last().unwrap().connection, n);
        // The request reaches it on the kept connection and gets no answer there.
        backend.then(if n % 2 == 0 {
            Reply::new().close()
        } else {
            Reply::new().reset()
        });
    }
    let response = gateway.ask(&stream()).await;
    response.assert_complete_stream();
    assert_eq!(
        response.headers.get("x-drover-attempts"),
        Some("1"),
        "a fresh connection, no failover"
    );
    assert_eq!(
        gateway
            .metric("drover_attempts_total", r#"why="stale""#)
            .await,
        3.0
    );
    gateway.backend_is("b0", "ready").await;
}

#[tokio::test]
async fn big_requests_survive_a_stale_connection() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("pingora.threads", json!(1))
        .start()
        .await;
    let long = "w".repeat(4 << 20);
    let big = chat(json!({"messages": [{"role": "user", "content": long}]}));
    assert_eq!(gateway.ask(&stream()).await.status, 200);
    backend.then(Reply::new().early().reset());
    let response = gateway.ask(&big).await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(backend.requests().last().unwrap().body.len() > 4 << 20);
}

#[tokio::test]
async fn a_connection_with_an_unfinished_answer_is_not_used_again() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("pingora.threads", json!(1))
        .start()
        .await;
    // The terminator has come, the end of the body has not.
    backend.then(
        Reply::stream()
            .event(&script::text("a"))
            .event(&script::finish("stop"))
            .piece(script::DONE)
            .hang(),
    );
    let response = gateway.ask(&stream()).await;
    response.assert_complete_stream();
    backend.cancelled(0).await;
    gateway.ask(&stream()).await.assert_complete_stream();
    assert_eq!(backend.requests()[1].connection, 1);
}

#[tokio::test]
async fn an_error_answer_that_closes_is_not_reused() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("pingora.threads", json!(1))
        .start()
        .await;
    backend.then(Reply::error(400, "invalid_request_error", "nope"));
    gateway.ask(&stream()).await.assert_error(400);
    gateway.ask(&stream()).await.assert_complete_stream();
    assert_eq!(
        gateway
            .metric("drover_attempts_total", r#"why="stale""#)
            .await,
        0.0
    );
}
