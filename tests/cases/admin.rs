//! The admin address.

use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn probes_metrics_and_index_answer() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    gateway.ask(&stream()).await.assert_complete_stream();
    for path in ["/", "/livez", "/readyz", "/api/backends", "/api/config"] {
        let response = gateway.admin_get(path).await;
        assert_eq!(response.status, 200, "{path}");
        let _: Value = response.json();
    }
    assert_eq!(gateway.admin_get("/nope").await.status, 404);
    assert_eq!(gateway.admin_post("/livez").await.status, 405);
    let metrics = gateway.admin_get("/metrics").await;
    assert!(
        metrics
            .headers
            .get("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    for line in metrics.text().lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[tokio::test]
async fn backends_show_what_is_known_of_them() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let seen = eventually("the facts of the backend", || async {
        let listed = gateway.admin_get("/api/backends").await.json()["backends"][0].clone();
        (listed["build"] == "b11434-test").then_some(listed)
    })
    .await;
    assert_eq!(
        (&seen["id"], &seen["pool"]),
        (&json!("b0"), &json!("default"))
    );
    assert_eq!(
        (&seen["state"], &seen["available"]),
        (&json!("ready"), &json!(true))
    );
    assert_eq!(
        (&seen["n_ctx"], &seen["total_slots"]),
        (&json!(N_CTX), &json!(4))
    );
}

#[tokio::test]
async fn a_drained_backend_gets_no_new_requests() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = Setup::to(&[&one, &two]).start().await;
    assert_eq!(
        gateway.admin_post("/api/backends/b0/drain").await.status,
        200
    );
    for _ in 0..4 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    assert_eq!((one.requests().len(), two.requests().len()), (0, 4));
    assert_eq!(
        gateway.admin_post("/api/backends/b1/drain").await.status,
        200
    );
    gateway.ask(&stream()).await.assert_error(503);
    assert_eq!(
        gateway.admin_post("/api/backends/b0/undrain").await.status,
        200
    );
    gateway.ask(&stream()).await.assert_complete_stream();
    assert_eq!(
        gateway.admin_post("/api/backends/nope/drain").await.status,
        404
    );
    assert_eq!(
        gateway.admin_get("/api/backends/b0/drain").await.status,
        405
    );
}

#[tokio::test]
async fn names_that_are_not_this_machine_are_refused() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let rebound = get("/api/config").host("evil.example");
    assert_eq!(
        Client::connect(gateway.admin)
            .await
            .ask(&rebound)
            .await
            .status,
        403
    );
    let foreign = post("/api/backends/b0/drain", "")
        .host(&gateway.admin.to_string())
        .header("Origin", "https://evil.example");
    assert_eq!(
        Client::connect(gateway.admin)
            .await
            .ask(&foreign)
            .await
            .status,
        403
    );
    gateway.ask(&stream()).await.assert_complete_stream();
}

#[tokio::test]
async fn a_token_is_asked_for_where_one_is_configured() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("admin.token_env", json!("TEST_ADMIN_TOKEN"))
        .env("TEST_ADMIN_TOKEN", "open-sesame")
        .start()
        .await;
    assert_eq!(gateway.admin_get("/metrics").await.status, 401);
    assert_eq!(gateway.admin_get("/readyz").await.status, 200);
    let with = |token: &str| {
        get("/metrics")
            .host("anything")
            .header("Authorization", &format!("Bearer {token}"))
    };
    assert_eq!(
        Client::connect(gateway.admin)
            .await
            .ask(&with("open-sesame"))
            .await
            .status,
        200
    );
    assert_eq!(
        Client::connect(gateway.admin)
            .await
            .ask(&with("nope"))
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn the_client_address_does_not_serve_the_admin_api() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for path in [
        "/metrics",
        "/api/backends",
        "/api/config",
        "/readyz",
        "/livez",
    ] {
        gateway.ask(&get(path)).await.assert_error(404);
    }
}
