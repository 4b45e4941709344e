//! A client that leaves takes its generation with it.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

use crate::support::script::{role, text};
use crate::support::*;

/// The promise. One of a few tries must keep it: the machine has other work, too.
const PROMPTLY: Duration = Duration::from_millis(20);
const TRIES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// The backend has answered nothing yet.
    Silent,
    /// It has begun and pauses.
    Streaming,
    /// It sends as fast as the client takes it.
    Busy,
}

fn reply(when: When) -> Reply {
    let begun = Reply::stream().event(&role()).event(&text("a"));
    match when {
        When::Silent => Reply::new().hang(),
        When::Streaming => begun.hang(),
        When::Busy => (0..5_000).fold(begun, |reply, _| {
            reply.event(&text("b")).pause(Duration::from_millis(1))
        }),
    }
}

#[derive(Clone, Copy, Debug)]
enum How {
    Fin,
    Rst,
}

#[rstest]
#[tokio::test]
async fn http1_clients_that_leave_cancel_upstream(
    #[values(When::Silent, When::Streaming, When::Busy)] when: When,
    #[values(How::Fin, How::Rst)] how: How,
    #[values(true, false)] streams: bool,
) {
    let backend = Backend::replying(reply(when)).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut best = Duration::MAX;
    for index in 0..TRIES {
        let mut client = gateway.connect().await;
        client.send(&chat(json!({"stream": streams}))).await;
        backend.request(index).await;
        if streams && when != When::Silent {
            client.answer().await.content().await;
        }
        let left = Instant::now();
        match how {
            How::Fin => drop(client),
            How::Rst => client.reset(),
        }
        best = best.min(backend.cancelled(index).await - left);
        if best <= PROMPTLY {
            break;
        }
    }
    assert!(best <= PROMPTLY, "{best:?}");
    gateway.idle().await;
}

#[rstest]
#[tokio::test]
async fn http2_streams_that_are_reset_cancel_upstream(
    #[values(When::Silent, When::Streaming, When::Busy)] when: When,
    #[values(true, false)] streams: bool,
    #[values(true, false)] whole_connection: bool,
) {
    let backend = Backend::replying(reply(when)).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut best = Duration::MAX;
    for index in 0..TRIES {
        let mut h2 = gateway.connect_h2().await;
        let request = chat(json!({"stream": streams}));
        let pending = h2.send(&request).await;
        backend.request(index).await;
        let mut pending = Some(pending);
        let mut open = None;
        if streams && when != When::Silent {
            let answer = patiently("the head", pending.take().unwrap())
                .await
                .unwrap();
            open = Some(answer.into_body());
            patiently("a piece", open.as_mut().unwrap().data())
                .await
                .unwrap()
                .unwrap();
        }
        let left = Instant::now();
        if whole_connection {
            h2.abort();
            best = best.min(backend.cancelled(index).await - left);
        } else {
            drop((pending, open));
            best = best.min(backend.cancelled(index).await - left);
            h2.abort();
        }
        if best <= PROMPTLY {
            break;
        }
    }
    assert!(best <= PROMPTLY, "{best:?}");
    gateway.idle().await;
}

#[tokio::test]
async fn a_reset_stream_leaves_the_others_of_its_connection_alone() {
    let gate = Gate::new();
    let backend = Backend::start().await;
    backend.then(reply(When::Streaming));
    backend.then(Reply::held(&gate));
    let gateway = Setup::to(&[&backend]).start().await;
    let mut h2 = gateway.connect_h2().await;
    let doomed = h2.open(&stream()).await;
    let other = h2.open(&stream()).await;
    drop(doomed);
    backend.cancelled(0).await;
    gate.open();
    let response = other.rest().await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "ab");
}

#[tokio::test]
async fn a_hundred_clients_that_leave_leave_nothing_behind() {
    let backend = Backend::start().await;
    for n in 0..100 {
        backend.then(reply(if n % 2 == 0 {
            When::Streaming
        } else {
            When::Silent
        }));
    }
    let gateway = Setup::to(&[&backend]).slots(100).start().await;
    let mut clients = Vec::new();
    for n in 0..100 {
        let mut client = gateway.connect().await;
        client.send(&chat(json!({"stream": n % 3 != 0}))).await;
        clients.push(client);
    }
    backend.request(99).await;
    assert_eq!(gateway.metric("drover_inflight", "b0").await, 100.0);
    drop(clients);
    backend.all_cancelled(100).await;
    gateway.idle().await;
    gateway.ask(&stream()).await.assert_complete_stream();
    assert_eq!(
        gateway
            .metric("drover_requests_total", r#"outcome="client_gone""#)
            .await,
        100.0
    );
}

#[tokio::test]
async fn a_client_that_leaves_while_sending_its_body_is_no_request() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 1000\r\n\r\n{\"mess";
    client.write(head.as_bytes()).await.unwrap();
    eventually("the request", || async {
        (gateway.admin_get("/readyz").await.json()["in_flight"] == 1).then_some(())
    })
    .await;
    drop(client);
    gateway.idle().await;
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn a_client_that_takes_nothing_counts_as_gone() {
    let backend = Backend::replying(Reply::stream().event(&role()).flood().hang()).await;
    let gateway = Setup::to(&[&backend])
        .set("timeouts.write", json!("300ms"))
        .start()
        .await;
    let mut client = Client::connect_narrow(gateway.addr).await;
    client.send(&stream()).await;
    backend.cancelled(0).await;
    gateway.idle().await;
    drop(client);
}

#[tokio::test]
async fn an_http2_client_that_takes_nothing_counts_as_gone() {
    let backend = Backend::replying(Reply::stream().event(&role()).flood().hang()).await;
    let gateway = Setup::to(&[&backend])
        .set("timeouts.write", json!("300ms"))
        .start()
        .await;
    let mut h2 = gateway.connect_h2().await;
    // Its window is never opened again.
    let answer = h2.open(&stream()).await;
    backend.cancelled(0).await;
    gateway.idle().await;
    drop(answer);
}

#[tokio::test]
async fn nobody_is_asked_again_for_a_client_that_left() {
    let one = Backend::replying(reply(When::Silent)).await;
    let two = Backend::replying(reply(When::Silent)).await;
    let gateway = Setup::to(&[&one, &two]).start().await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    eventually("the request at a backend", || async {
        (one.requests().len() + two.requests().len() == 1).then_some(())
    })
    .await;
    drop(client);
    gateway.idle().await;
    assert_eq!(one.requests().len() + two.requests().len(), 1);
    assert_eq!(
        gateway
            .metric("drover_requests_total", r#"outcome="client_gone""#)
            .await,
        1.0
    );
}
