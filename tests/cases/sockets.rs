//! Backends behind unix sockets.

use serde_json::json;

use crate::support::script::{role, text};
use crate::support::*;

/// A gateway whose only backend, `gpu0.sock`, is behind a socket.
async fn behind_a_socket(backend: &Backend) -> (Gateway, Socket) {
    let socket = Socket::before(backend);
    let gateway = Setup::pools(json!([{
        "name": "default", "models": ["*"], "backends": [{"url": socket.url()}],
    }]))
    .set(
        "fleet.passthrough",
        json!([{"path": "/tokenize", "pool": "default"}]),
    );
    (gateway.start().await, socket)
}

#[tokio::test]
async fn it_is_checked_shown_and_serves() {
    let backend = Backend::start().await;
    let (gateway, socket) = behind_a_socket(&backend).await;
    let shown = gateway.admin_get("/api/backends").await.json()["backends"][0].clone();
    assert_eq!(
        (&shown["id"], &shown["address"], &shown["state"]),
        (&json!("gpu0.sock"), &json!(socket.url()), &json!("ready"))
    );
    assert_eq!(shown["total_slots"], 4, "read from its /props");
    for _ in 0..3 {
        let response = gateway.ask(&stream()).await;
        response.assert_complete_stream();
        assert_eq!(response.headers.get("x-drover-backend"), Some("gpu0.sock"));
    }
    let asked = backend.requests();
    assert_eq!(asked[0].headers.get("host"), Some("localhost"));
    // Connections to a socket are kept and used again like all others.
    assert!(asked.iter().all(|r| r.connection == asked[0].connection));
    let native = gateway.ask(&post("/tokenize", "{}")).await;
    assert_eq!(native.status, 200, "{}", native.text());
}

#[tokio::test]
async fn a_client_that_leaves_frees_it() {
    let held = Reply::stream().event(&role()).event(&text("a")).hang();
    let backend = Backend::replying(held).await;
    let (gateway, _socket) = behind_a_socket(&backend).await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    assert_eq!(answer.content().await, "a");
    drop(answer);
    drop(client);
    backend.cancelled(0).await;
}

#[tokio::test]
async fn a_socket_nobody_listens_on_is_down_until_it_is_back() {
    let (lost, kept) = (Backend::start().await, Backend::start().await);
    let mut socket = Socket::before(&lost);
    let gateway = Setup::urls(&[socket.url(), kept.url()]).start().await;
    gateway.backend_is("b0", "ready").await;
    socket.close().await;
    for _ in 0..4 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    gateway.backend_is("b0", "down").await;
    assert_eq!((lost.requests().len(), kept.requests().len()), (0, 4));
    socket.open();
    gateway.backend_is("b0", "ready").await;
}
