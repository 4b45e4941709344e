//! Keys.

use serde_json::{Value, json};

use crate::support::*;

fn two_pools(one: &Backend, two: &Backend) -> Setup {
    Setup::pools(json!([
        pool("coder", &["coder"], &[one.url()]),
        pool("chat", &["*"], &[two.url()]),
    ]))
    .set(
        "auth.keys",
        json!([
            {"name": "all", "key": "key-of-all"},
            {"name": "coders", "key_env": "TEST_CODERS_KEY", "pools": ["cod*"]},
        ]),
    )
    .env("TEST_CODERS_KEY", "key-of-coders")
}

fn model(name: &str) -> Request {
    chat(json!({"model": name}))
}

const USELESS: &[&[(&str, &str)]] = &[
    &[],
    &[("Authorization", "Bearer nope")],
    &[("x-api-key", "nope")],
    &[("Authorization", "Bearer ")],
    &[("Authorization", "key-of-all")],
    &[("Authorization", "Basic a2V5LW9mLWFsbA==")],
    &[("Authorization", "Bearer key-of-al")],
    &[("Authorization", "Bearer key-of-all2")],
];

#[tokio::test]
async fn without_a_valid_key_nothing_is_served() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = two_pools(&one, &two).start().await;
    for headers in USELESS {
        let with = |request| {
            headers
                .iter()
                .fold(request, |r: Request, (n, v)| r.header(n, v))
        };
        for request in [
            model("coder"),
            stream(),
            get("/v1/models"),
            post("/v1/embeddings", "{}"),
        ] {
            let error = gateway.ask(&with(request)).await.assert_error(401);
            assert_eq!(error["code"], "invalid_api_key", "{headers:?}");
        }
    }
    assert_eq!(one.requests().len() + two.requests().len(), 0);
    gateway.idle().await;
    let denied = gateway
        .metric("drover_requests_total", r#"outcome="denied""#)
        .await;
    assert_eq!(denied, 4.0 * USELESS.len() as f64);
}

#[tokio::test]
async fn a_key_opens_by_either_header() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = two_pools(&one, &two).start().await;
    let headers = [
        ("Authorization", "Bearer key-of-all"),
        ("authorization", "bearer key-of-all"),
        ("x-api-key", "key-of-all"),
        ("X-Api-Key", "key-of-all"),
    ];
    for (name, value) in headers {
        for wanted in ["coder", "anything"] {
            let response = gateway.ask(&model(wanted).header(name, value)).await;
            assert_eq!(response.status, 200, "{name}: {}", response.text());
        }
    }
    assert_eq!((one.requests().len(), two.requests().len()), (4, 4));
}

#[tokio::test]
async fn without_a_key_no_body_is_read() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = two_pools(&one, &two).start().await;
    let mut client = gateway.connect().await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 1000000\r\n\r\n";
    client.write(head.as_bytes()).await.unwrap();
    client.answer().await.rest().await.assert_error(401);
    client.closed().await;
}

#[tokio::test]
async fn a_key_reaches_its_own_pools_only() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = two_pools(&one, &two).start().await;
    let key = |request: Request| request.header("Authorization", "Bearer key-of-coders");
    assert_eq!(gateway.ask(&key(model("coder"))).await.status, 200);
    let error = gateway.ask(&key(model("anything"))).await.assert_error(403);
    assert_eq!(error["code"], "forbidden");
    assert_eq!(two.requests().len(), 0);
    let listed = gateway.ask(&key(get("/v1/models"))).await.json();
    let ids: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].clone())
        .collect();
    assert_eq!(ids, ["coder"]);
}

#[tokio::test]
async fn health_is_public_and_says_nothing_else() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = two_pools(&one, &two).start().await;
    let health = gateway.ask(&get("/health")).await;
    assert_eq!(
        (health.status, health.json()),
        (200, json!({"status": "ok"}))
    );
    assert_eq!(gateway.ask(&get("/").method("HEAD")).await.status, 200);
}

#[tokio::test]
async fn keys_by_hash_and_by_file() {
    let backend = Backend::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "  key-in-file\n").unwrap();
    // `printf %s change-me | sha256sum`
    let hash = "e2186dbdb1bb4193608605e84f33208765b5693b55edd4f730a719a100eeea6f";
    let gateway = Setup::to(&[&backend])
        .set(
            "auth.keys",
            json!([
                {"name": "hashed", "key_sha256": hash}, {"name": "filed", "key_file": file},
            ]),
        )
        .start()
        .await;
    for (key, name) in [("change-me", "hashed"), ("key-in-file", "filed")] {
        let response = gateway.ask(&stream().header("x-api-key", key)).await;
        response.assert_complete_stream();
        let line = gateway
            .access_line(response.headers.get("x-request-id").unwrap())
            .await;
        assert_eq!(line["principal"], name);
    }
    gateway
        .ask(&stream().header("x-api-key", hash))
        .await
        .assert_error(401);
}

#[tokio::test]
async fn no_secret_is_logged_or_shown() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = two_pools(&one, &two)
        .set("telemetry.level", json!("debug"))
        .start()
        .await;
    let request = model("coder").header("Authorization", "Bearer key-of-coders");
    let response = gateway.ask(&request).await;
    gateway
        .ask(&model("x").header("x-api-key", "a-wrong-secret"))
        .await
        .assert_error(401);
    gateway
        .access_line(response.headers.get("x-request-id").unwrap())
        .await;
    let config = gateway.admin_get("/api/config").await.text();
    let metrics = gateway.admin_get("/metrics").await.text();
    let log = gateway.log().join("\n");
    for secret in ["key-of-coders", "key-of-all", "a-wrong-secret"] {
        for (place, text) in [("log", &log), ("config", &config), ("metrics", &metrics)] {
            assert!(!text.contains(secret), "{secret} in {place}");
        }
    }
}

#[tokio::test]
async fn an_open_gateway_takes_any_key() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for value in ["Bearer anything", "nonsense"] {
        let response = gateway.ask(&stream().header("Authorization", value)).await;
        response.assert_complete_stream();
    }
    let _: Value = gateway.ask(&get("/v1/models")).await.json();
}
