//! Every error in the shape the SDKs read, with a status that makes clients do the right thing.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::*;

const PATH: &str = "/v1/chat/completions";

async fn gateway(backend: &Backend) -> Gateway {
    Setup::to(&[backend]).start().await
}

const BAD: &[(&str, Option<&str>)] = &[
    ("", None),
    (r#"{"messages": [{"role""#, None),
    ("[1, 2]", None),
    ("\"hi\"", None),
    (r#"{"model":"m"}"#, Some("messages")),
    (r#"{"messages":[]}"#, Some("messages")),
    (r#"{"messages":"hi"}"#, Some("messages")),
    (
        r#"{"messages":[{"role":"wizard","content":"a"}]}"#,
        Some("messages[0]"),
    ),
    (
        r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":1}]}"#,
        Some("messages[1]"),
    ),
    (
        r#"{"stream":"yes","messages":[{"role":"user","content":"a"}]}"#,
        Some("stream"),
    ),
    (
        r#"{"model":1,"messages":[{"role":"user","content":"a"}]}"#,
        Some("model"),
    ),
    (
        r#"{"n":0,"messages":[{"role":"user","content":"a"}]}"#,
        Some("n"),
    ),
    (
        r#"{"n":100000,"messages":[{"role":"user","content":"a"}]}"#,
        Some("n"),
    ),
    (
        r#"{"max_tokens":0,"messages":[{"role":"user","content":"a"}]}"#,
        Some("max_tokens"),
    ),
    (
        r#"{"tools":{},"messages":[{"role":"user","content":"a"}]}"#,
        Some("tools"),
    ),
    (
        r#"{"tools":[],"tool_choice":{"type":"function","function":{"name":"x"}},"messages":[{"role":"user","content":"a"}]}"#,
        Some("tool_choice"),
    ),
];

#[tokio::test]
async fn bad_requests_name_what_is_wrong() {
    let backend = Backend::start().await;
    let gateway = gateway(&backend).await;
    for (body, param) in BAD {
        let error = gateway.ask(&post(PATH, *body)).await.assert_error(400);
        let told = (error["type"].as_str(), error["param"].as_str());
        assert_eq!(told, (Some("invalid_request_error"), *param), "{body}");
    }
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn hostile_bodies_are_bad_requests() {
    let backend = Backend::start().await;
    let gateway = gateway(&backend).await;
    let deep = format!(
        r#"{{"messages":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let deep_unknown = format!(
        r#"{{"messages":[{{"role":"user","content":"a"}}],"x":{}{}}}"#,
        "{\"a\":".repeat(50_000),
        "1".to_owned() + &"}".repeat(50_000)
    );
    let mut invalid = br#"{"messages":[{"role":"user","content":""#.to_vec();
    invalid.extend_from_slice(b"\xff\xfe\xc3\x28\"}]}");
    let duplicate = r#"{"messages":[{"role":"user","content":"a"}],"messages":5}"#;
    let bodies: [Vec<u8>; 4] = [deep.into(), deep_unknown.into(), invalid, duplicate.into()];
    for body in bodies {
        gateway.ask(&post(PATH, body)).await.assert_error(400);
    }
    assert_eq!(backend.requests().len(), 0);
    gateway.ask(&stream()).await.assert_complete_stream();
}

const NOT_OFFERED: &[(&str, &str)] = &[
    ("GET", "/v1/chat/completions"),
    ("PUT", "/v1/chat/completions"),
    ("POST", "/v1/models"),
    ("GET", "/nope"),
    ("POST", "/v1/chat/completions/extra"),
    ("GET", "/slots"),
    ("GET", "/props"),
    ("GET", "/metrics"),
    ("POST", "/lora-adapters"),
    ("POST", "/slots/0?action=save"),
    ("GET", "/v1/stream?conv_id=x"),
    ("POST", "/v1//chat/completions"),
    ("POST", "/v1/%63hat/completions"),
    ("GET", "/v1/../slots"),
];

#[tokio::test]
async fn what_is_not_offered_is_not_found() {
    let backend = Backend::start().await;
    let gateway = gateway(&backend).await;
    for (method, path) in NOT_OFFERED {
        let request = if *method == "POST" {
            post(path, "{}")
        } else {
            get(path).method(method)
        };
        let error = gateway.ask(&request).await.assert_error(404);
        assert_eq!(error["code"], "unknown_url", "{method} {path}");
    }
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn an_unknown_model_is_named() {
    let backend = Backend::start().await;
    let gateway = Setup::pools(json!([pool(
        "coder",
        &["coder", "qwen-*"],
        &[backend.url()]
    )]))
    .start()
    .await;
    let error = gateway
        .ask(&chat(json!({"model": "gpt-nope"})))
        .await
        .assert_error(404);
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("model_not_found"), &json!("model"))
    );
    assert!(error["message"].as_str().unwrap().contains("gpt-nope"));
    for model in ["coder", "qwen-7b"] {
        assert_eq!(
            gateway.ask(&chat(json!({"model": model}))).await.status,
            200
        );
    }
    let missing = chat(json!({"model": null}));
    gateway.ask(&missing).await.assert_error(404);
}

#[rstest]
#[tokio::test]
async fn an_overflow_is_worded_so_that_clients_compact(#[values(true, false)] streams: bool) {
    let body = json!({"error": {"code": 400,
        "message": "request (931 tokens) exceeds the available context size (512 tokens), try increasing it",
        "type": "exceed_context_size_error", "n_prompt_tokens": 931, "n_ctx": 512}});
    let backend = Backend::replying(Reply::json(400, &body)).await;
    let gateway = gateway(&backend).await;
    let error = gateway
        .ask(&chat(json!({"stream": streams})))
        .await
        .assert_error(400);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("prompt is too long: 931 tokens > 512 maximum"),
        "{message}"
    );
    assert!(
        message.contains("exceeds the available context size"),
        "{message}"
    );
    assert_eq!(error["code"], "context_length_exceeded");
    assert_eq!(error["type"], "invalid_request_error");
}

#[rstest]
#[case("Jinja Exception: System message must be at the beginning.")]
#[case(
    "\n------------\nWhile executing CallExpression at line 85, column 32 in source:\n...\nError: Jinja Exception: roles must alternate"
)]
#[tokio::test]
async fn a_template_error_is_permanent(#[case] message: &str) {
    let backend = Backend::replying(Reply::error(500, "server_error", message)).await;
    let gateway = gateway(&backend).await;
    let error = gateway.ask(&stream()).await.assert_error(400);
    let reason = message.rsplit("Jinja Exception: ").next().unwrap();
    assert!(
        error["message"].as_str().unwrap().contains(reason),
        "{error}"
    );
}

/// Status and message of the backend, and the status a client is told.
const BACKEND_ERRORS: &[(u16, &str, u16)] = &[
    (400, "Field 'max_tokens': must be a number", 400),
    (501, "This server does not support embeddings", 501),
    (401, "Invalid API Key", 502),
    (500, "Compute error.", 502),
    (
        500,
        "The model produced output that does not match the expected peg-native format",
        502,
    ),
    (
        500,
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        400,
    ),
];

#[tokio::test]
async fn errors_of_the_only_backend_keep_their_meaning() {
    let backend = Backend::start().await;
    let gateway = gateway(&backend).await;
    for (status, message, told) in BACKEND_ERRORS {
        backend.then(Reply::error(*status, "server_error", message));
        let error = gateway.ask(&stream()).await.assert_error(*told);
        let is_ours = *status == 401;
        assert!(
            is_ours || error["message"].as_str().unwrap().contains(message),
            "{error}"
        );
    }
}

#[rstest]
#[tokio::test]
async fn loading_says_when_to_come_back(#[values(true, false)] known: bool) {
    let backend = Backend::start().await;
    if known {
        backend.set_health(Health::Loading);
    }
    let gateway = Setup::to(&[&backend]).start_unready().await;
    if known {
        gateway.backend_is("b0", "loading").await;
    } else {
        gateway.backend_is("b0", "ready").await;
        backend.then(Reply::loading());
    }
    let response = gateway.ask(&stream()).await;
    let error = response.assert_error(503);
    assert_eq!(error["code"], "model_loading");
    let seconds: u64 = response
        .headers
        .get("retry-after")
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=30).contains(&seconds));
    backend.set_health(Health::Ok);
    gateway.backend_is("b0", "ready").await;
    gateway.ask(&stream()).await.assert_complete_stream();
}

#[rstest]
#[tokio::test]
async fn request_ids_are_kept_or_made(#[values(true, false)] fails: bool) {
    let backend = Backend::start().await;
    let gateway = gateway(&backend).await;
    let request = if fails { post(PATH, "{") } else { stream() };
    let known = gateway
        .ask(&request.clone().header("x-request-id", "abc-1.2_3"))
        .await;
    assert_eq!(known.headers.get("x-request-id"), Some("abc-1.2_3"));
    let first = gateway
        .ask(&request)
        .await
        .headers
        .get("x-request-id")
        .unwrap()
        .to_owned();
    let second = gateway
        .ask(&request)
        .await
        .headers
        .get("x-request-id")
        .unwrap()
        .to_owned();
    assert!(!first.is_empty() && first != second);
    let long = "x".repeat(5000);
    for hostile in ["a b", "\"quoted\"", long.as_str()] {
        let response = gateway
            .ask(&request.clone().header("x-request-id", hostile))
            .await;
        assert_ne!(response.headers.get("x-request-id"), Some(hostile));
    }
}

#[tokio::test]
async fn a_connection_serves_on_after_an_error() {
    let backend = Backend::start().await;
    let gateway = gateway(&backend).await;
    let mut client = gateway.connect().await;
    for _ in 0..3 {
        client.ask(&post(PATH, "{}")).await.assert_error(400);
        client.ask(&get("/nope")).await.assert_error(404);
        client.ask(&stream()).await.assert_complete_stream();
        assert_eq!(client.ask(&chat(json!({}))).await.status, 200);
    }
}

#[tokio::test]
async fn long_texts_of_clients_are_not_echoed_whole() {
    let backend = Backend::start().await;
    let gateway = Setup::pools(json!([pool("coder", &["coder"], &[backend.url()])]))
        .start()
        .await;
    let model: Value = json!("x".repeat(100_000));
    let response = gateway.ask(&chat(json!({"model": model}))).await;
    response.assert_error(404);
    assert!(response.text().len() < 2000);
}
