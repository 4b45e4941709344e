//! Backends that pass their checks and answer requests with errors: out of use, without harm to anybody.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::script::{role, text};
use crate::support::*;

fn compute_error() -> Reply {
    Reply::error(500, "server_error", "Compute error.")
}

/// Some tokens, and then the error inside the stream.
fn error_in_the_middle() -> Reply {
    let error =
        json!({"error": {"code": 500, "message": "Compute error.", "type": "server_error"}});
    Reply::stream()
        .event(&role())
        .event(&text("Hel"))
        .event(&error)
        .end()
}

async fn is_ejected(gateway: &Gateway, at: usize) -> bool {
    let listed = gateway.admin_get("/api/backends").await.json();
    listed["backends"][at]["ejected"] == true
}

/// Regression: a broken GPU that answers 500 got every third request for ever.
#[tokio::test]
async fn a_backend_that_answers_every_request_with_an_error_is_ejected() {
    let backends = [
        Backend::replying(compute_error()).await,
        Backend::start().await,
        Backend::start().await,
    ];
    let gateway = Setup::to(&backends.each_ref())
        .set("fleet.health.eject_for", json!("60s"))
        .start()
        .await;
    for _ in 0..30 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    assert_eq!(backends[0].requests().len(), 3, "eject_after");
    assert!(is_ejected(&gateway, 0).await);
    let b0 = r#"backend="b0""#;
    assert_eq!(gateway.metric("drover_backend_ejected", b0).await, 1.0);
    assert_eq!(gateway.metric("drover_backend_ejected", "").await, 1.0);
    let ejections = "drover_backend_ejections_total";
    assert_eq!(gateway.metric(ejections, b0).await, 1.0);
}

/// The same inside streams: another backend goes on with them, which shows that they could be answered.
#[tokio::test]
async fn a_backend_whose_streams_end_with_errors_is_ejected() {
    let backends = [
        Backend::replying(error_in_the_middle()).await,
        Backend::start().await,
        Backend::start().await,
    ];
    let gateway = Setup::to(&backends.each_ref())
        .set("fleet.resume", json!(true))
        .set("fleet.health.eject_for", json!("60s"))
        .start()
        .await;
    for _ in 0..20 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    assert_eq!(backends[0].requests().len(), 3, "eject_after");
    assert!(is_ejected(&gateway, 0).await);
}

/// What no backend can answer is the request's fault.
#[tokio::test]
async fn a_request_that_fails_everywhere_ejects_nobody() {
    let backends = [
        Backend::start().await,
        Backend::start().await,
        Backend::start().await,
    ];
    for backend in &backends {
        backend.plays(false, |body| {
            match String::from_utf8_lossy(body).contains("poison") {
                true => Reply::error(500, "server_error", "a text that nobody knows"),
                false => Reply::says(&["Hello"]),
            }
        });
    }
    let gateway = Setup::to(&backends.each_ref()).start().await;
    let poison = chat(json!({"messages": [{"role": "user", "content": "poison"}]}));
    for _ in 0..6 {
        assert!(gateway.ask(&poison).await.status >= 500);
    }
    assert_eq!(gateway.metric("drover_backend_ejected", "").await, 0.0);
    assert_eq!(
        gateway.metric("drover_backend_ejections_total", "").await,
        0.0
    );
    gateway.ask(&stream()).await.assert_complete_stream();
}

/// Regression: the backend stayed at one request until the trial's answer was complete.
#[tokio::test]
async fn a_trial_is_decided_by_the_first_word_of_a_long_answer() {
    let backends = [
        Backend::replying(compute_error()).await,
        Backend::start().await,
        Backend::start().await,
    ];
    let gateway = Setup::to(&backends.each_ref())
        .set("fleet.health.eject_for", json!("200ms"))
        .slots(99)
        .start()
        .await;
    for _ in 0..9 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    assert!(gateway.metric("drover_backend_ejections_total", "").await >= 1.0);
    let gate = Gate::new();
    // Whoever is busy gets less: all of them are.
    for backend in &backends {
        backend.always(Reply::held(&gate));
    }
    let tried = backends[0].requests().len();
    // Its turn comes some time after the ejection.
    let mut clients = Vec::new();
    let began = Instant::now();
    while backends[0].requests().len() < tried + 3 {
        assert!(began.elapsed() < Duration::from_secs(20), "one at a time");
        let mut client = gateway.connect().await;
        client.send(&stream()).await;
        clients.push(client);
        sleep(Duration::from_millis(50)).await;
    }
    gate.open();
    for mut client in clients {
        client.answer().await.rest().await.assert_complete_stream();
    }
    assert_eq!(gateway.metric("drover_backend_ejected", "").await, 0.0);
}
