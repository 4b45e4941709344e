//! Completions and embeddings, relayed.

use serde_json::{Value, json};

use crate::support::script::DONE;
use crate::support::*;

fn piece(text: &str, finish: Value) -> Value {
    json!({"choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}],
           "created": 7, "model": "backend-model", "object": "text_completion", "id": "cmpl-1"})
}

fn completion() -> Reply {
    let usage = json!({"choices": [], "created": 7, "model": "backend-model", "object": "text_completion",
        "usage": {"completion_tokens": 2, "prompt_tokens": 5, "total_tokens": 7}});
    Reply::stream()
        .event(&piece("Hel", Value::Null))
        .event(&piece("lo", Value::Null))
        .event(&piece("", json!("stop")))
        .event(&usage)
        .piece(DONE)
        .end()
}

fn asks(more: Value) -> Request {
    let mut body = json!({"model": "m", "prompt": "x", "id_slot": 1, "future": 1.0});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    post("/v1/completions", body.to_string())
}

#[tokio::test]
async fn completions_stream_and_collect() {
    let backend = Backend::replying(completion()).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let streamed = gateway.ask(&asks(json!({"stream": true}))).await;
    assert_eq!(
        (streamed.status, streamed.dones(), streamed.end),
        (200, 1, End::Complete)
    );
    let chunks = streamed.chunks();
    let text: String = chunks
        .iter()
        .filter_map(|c| c["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "Hello");
    assert!(
        chunks
            .iter()
            .all(|c| c["choices"].as_array().is_some_and(|c| !c.is_empty())),
        "no usage asked for"
    );
    let whole = gateway.ask(&asks(json!({}))).await.json();
    assert_eq!(whole["choices"][0]["text"], "Hello");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    assert_eq!(whole["usage"]["completion_tokens"], 2);
    let forwarded = backend.request(1).await;
    assert_eq!(forwarded.line, "POST /v1/completions HTTP/1.1");
    assert!(forwarded.text().contains(r#""future":1.0"#));
    assert_eq!(forwarded.json()["stream"], true);
    assert!(forwarded.json().get("id_slot").is_none());
}

#[tokio::test]
async fn a_cut_completion_is_an_error() {
    let cut = Reply::stream().event(&piece("Hel", Value::Null)).close();
    let backend = Backend::replying(cut).await;
    let gateway = Setup::to(&[&backend]).start().await;
    gateway
        .ask(&asks(json!({"stream": true})))
        .await
        .assert_failed_stream();
    gateway.ask(&asks(json!({}))).await.assert_error(502);
}

#[tokio::test]
async fn a_completion_client_that_leaves_cancels() {
    let backend = Backend::replying(Reply::stream().event(&piece("a", Value::Null)).hang()).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client.send(&asks(json!({"stream": true}))).await;
    client.answer().await.event().await.unwrap();
    drop(client);
    backend.cancelled(0).await;
    gateway.idle().await;
}

#[tokio::test]
async fn embeddings_pass_as_they_come() {
    let body = json!({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}],
        "model": "backend-model", "usage": {"prompt_tokens": 3, "total_tokens": 3}});
    let backend = Backend::replying(Reply::json(200, &body)).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let request = post(
        "/v1/embeddings",
        r#"{"model":"m","input":["a"],"verbose":true}"#,
    );
    let response = gateway.ask(&request).await;
    assert_eq!((response.status, response.json()), (200, body));
    let forwarded = backend.request(0).await;
    assert_eq!(forwarded.json(), json!({"model": "m", "input": ["a"]}));
    assert_eq!(forwarded.line, "POST /v1/embeddings HTTP/1.1");
    backend.then(Reply::error(
        501,
        "not_supported_error",
        "This server does not support embeddings",
    ));
    gateway.ask(&request).await.assert_error(501);
}

#[tokio::test]
async fn embeddings_fail_over() {
    let (bad, good) = (
        Backend::replying(Reply::new().close()).await,
        Backend::replying(Reply::json(200, &json!({"data": []}))).await,
    );
    let gateway = Setup::to(&[&bad, &good]).start().await;
    for _ in 0..2 {
        let response = gateway
            .ask(&post("/v1/embeddings", r#"{"input":"a"}"#))
            .await;
        assert_eq!(response.json(), json!({"data": []}));
    }
}

#[tokio::test]
async fn bad_requests_are_told_here_too() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for path in ["/v1/completions", "/v1/embeddings"] {
        for body in ["", "[]", r#"{"stream":5}"#, r#"{"model":[]}"#] {
            gateway.ask(&post(path, body)).await.assert_error(400);
        }
    }
    assert_eq!(backend.requests().len(), 0);
}
