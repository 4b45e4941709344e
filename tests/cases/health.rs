//! What the gateway answers itself: models, health, root; and how it watches its backends.

use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn models_are_those_a_client_may_ask_for() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = Setup::pools(json!([
        pool("coder", &["coder", "qwen-*"], &[one.url()]),
        pool("rest", &["*"], &[two.url()]),
    ]))
    .start()
    .await;
    let response = gateway.ask(&get("/v1/models?limit=1000")).await;
    assert_eq!(
        (response.status, response.headers.get("content-type")),
        (200, Some("application/json"))
    );
    let body = response.json();
    assert_eq!(body["object"], "list");
    let data = body["data"].as_array().unwrap();
    let ids: Vec<_> = data
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["backend-model", "coder"]);
    for model in data {
        assert_eq!(model["object"], "model");
        assert!(model["created"].is_u64() && model["owned_by"].is_string());
        assert_eq!(model["meta"]["n_ctx"], N_CTX);
    }
    assert_eq!(gateway.ask(&get("/models")).await.json(), body);
}

#[tokio::test]
async fn health_follows_the_backends() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for path in ["/health", "/v1/health"] {
        let health = gateway.ask(&get(path)).await;
        assert_eq!(
            (health.status, health.json()),
            (200, json!({"status": "ok"}))
        );
    }
    backend.set_health(Health::Loading);
    gateway.backend_is("b0", "loading").await;
    let health = gateway.ask(&get("/health")).await;
    health.assert_error(503);
    assert!(health.headers.get("retry-after").is_some());
    backend.kill().await;
    gateway.backend_is("b0", "down").await;
    gateway.ask(&get("/health")).await.assert_error(503);
    assert_eq!(gateway.admin_get("/readyz").await.status, 503);
}

#[tokio::test]
async fn head_gets_the_head_alone() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    for path in ["/", "/health", "/v1/models"] {
        client.send(&get(path).method("HEAD")).await;
        let (status, headers) = client.head().await;
        assert_eq!(status, 200);
        assert!(
            headers.length().is_some_and(|length| length > 0),
            "as GET would have it"
        );
    }
    // The connection is still in step.
    assert_eq!(
        client.ask(&get("/health")).await.json(),
        json!({"status": "ok"})
    );
    assert_eq!(client.ask(&get("/")).await.json()["name"], "drover");
}

#[tokio::test]
async fn a_backend_that_comes_back_is_used_again() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = Setup::to(&[&one, &two]).start().await;
    one.set_health(Health::Loading);
    gateway.backend_is("b0", "loading").await;
    for _ in 0..3 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    assert_eq!((one.requests().len(), two.requests().len()), (0, 3));
    one.set_health(Health::Ok);
    gateway.backend_is("b0", "ready").await;
    for _ in 0..2 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    assert_eq!((one.requests().len(), two.requests().len()), (1, 4));
}

#[tokio::test]
async fn the_least_busy_backend_is_asked() {
    let gate = Gate::new();
    let held = Reply::new()
        .gate(&gate)
        .head()
        .event(&script::text("a"))
        .ends("stop");
    let (one, two) = (
        Backend::replying(held.clone()).await,
        Backend::replying(held).await,
    );
    let gateway = Setup::to(&[&one, &two]).start().await;
    let mut clients = Vec::new();
    for n in 1..=6 {
        let mut client = gateway.connect().await;
        client.send(&stream()).await;
        clients.push(client);
        eventually("the request at a backend", || async {
            (one.requests().len() + two.requests().len() == n).then_some(())
        })
        .await;
    }
    assert_eq!((one.requests().len(), two.requests().len()), (3, 3));
    gate.open();
    for mut client in clients {
        client.answer().await.rest().await.assert_complete_stream();
    }
}

#[tokio::test]
async fn the_gateway_is_not_ready_before_the_first_check() {
    let backend = Backend::start().await;
    backend.set_health(Health::Loading);
    let gateway = Setup::to(&[&backend]).start_unready().await;
    let ready = gateway.admin_get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(!ready.json()["reasons"].as_array().unwrap().is_empty());
    backend.set_health(Health::Ok);
    eventually("readiness", || async {
        (gateway.admin_get("/readyz").await.status == 200).then_some(())
    })
    .await;
}
