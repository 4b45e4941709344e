//! SIGTERM: no new requests, the open ones are finished, then the process ends by itself.

use serde_json::json;
use tokio::net::TcpStream;

use crate::support::script::{role, text};
use crate::support::*;

async fn refuses_connections(gateway: &Gateway) {
    eventually("the listener is closed", || async {
        TcpStream::connect(gateway.addr)
            .await
            .is_err()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_live_stream_is_finished_and_then_the_process_ends() {
    let gate = Gate::new();
    let backend = Backend::replying(Reply::held(&gate)).await;
    let mut gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    assert_eq!(answer.content().await, "a");

    gateway.terminate().await;
    refuses_connections(&gateway).await;
    let ready = gateway.admin_get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["in_flight"]), (503, &json!(1)));
    assert_eq!(gateway.admin_get("/livez").await.status, 200);

    gate.open();
    let response = answer.rest().await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "ab");
    assert_eq!(gateway.exited().await.code(), Some(0));
}

#[tokio::test]
async fn whole_answers_and_http2_streams_are_finished_too() {
    let gate = Gate::new();
    let backend = Backend::replying(Reply::held(&gate)).await;
    let mut gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client.send(&chat(json!({}))).await;
    let mut h2 = gateway.connect_h2().await;
    let mut answer = h2.open(&stream()).await;
    answer.piece().await.unwrap().unwrap();
    backend.request(1).await;

    gateway.terminate().await;
    refuses_connections(&gateway).await;
    gate.open();
    let whole = client.answer().await.rest().await;
    assert_eq!(whole.json()["choices"][0]["message"]["content"], "ab");
    let streamed = answer.rest().await;
    streamed.assert_complete_stream();
    assert_eq!(streamed.said(), "ab");
    assert_eq!(gateway.exited().await.code(), Some(0));
}

#[tokio::test]
async fn new_requests_on_open_connections_are_refused() {
    let gate = Gate::new();
    let backend = Backend::replying(Reply::held(&gate)).await;
    let mut gateway = Setup::to(&[&backend]).start().await;
    let mut busy = gateway.connect().await;
    busy.send(&stream()).await;
    backend.request(0).await;
    let mut idle = gateway.connect().await;
    assert_eq!(idle.ask(&get("/v1/models")).await.status, 200);
    gateway.terminate().await;
    refuses_connections(&gateway).await;
    // Either it is told, or the idle connection is closed: both make a client go elsewhere.
    idle.send(&stream()).await;
    if let Some((status, headers)) = idle.try_head().await {
        assert_eq!(status, 503);
        assert!(headers.closes());
        assert!(headers.get("retry-after").is_some());
    }
    gate.open();
    busy.answer().await.rest().await.assert_complete_stream();
    assert_eq!(gateway.exited().await.code(), Some(0));
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_process() {
    let backend = Backend::start().await;
    let mut gateway = Setup::to(&[&backend]).start().await;
    let mut idle = gateway.connect().await;
    idle.ask(&stream()).await.assert_complete_stream();
    let mut h2 = gateway.connect_h2().await;
    h2.ask(&stream()).await.assert_complete_stream();
    let _never_used = gateway.connect().await;
    gateway.idle().await;
    let asked = tokio::time::Instant::now();
    gateway.terminate().await;
    assert_eq!(gateway.exited().await.code(), Some(0));
    assert!(
        asked.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let backend = Backend::replying(Reply::stream().event(&role()).event(&text("a")).hang()).await;
    let mut gateway = Setup::to(&[&backend])
        .set("timeouts.drain", json!("500ms"))
        .start()
        .await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    client.answer().await.content().await;
    gateway.terminate().await;
    gateway.exited().await;
    backend.cancelled(0).await;
}

#[tokio::test]
async fn a_turn_may_still_fail_over_while_draining() {
    let gate = Gate::new();
    let bad = Backend::replying(Reply::new().gate(&gate).close()).await;
    let good = Backend::replying(Reply::new().gate(&gate).close()).await;
    let mut gateway = Setup::to(&[&bad, &good]).start().await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    eventually("the request at a backend", || async {
        (bad.requests().len() + good.requests().len() == 1).then_some(())
    })
    .await;
    gateway.terminate().await;
    refuses_connections(&gateway).await;
    bad.always(Reply::says(&["saved"]));
    good.always(Reply::says(&["saved"]));
    gate.open();
    let response = client.answer().await.rest().await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "saved");
    assert_eq!(gateway.exited().await.code(), Some(0));
}
