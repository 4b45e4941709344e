//! The native lane: paths of llama-server that pass as they are.

use rstest::rstest;
use serde_json::json;

use crate::support::*;

const MIB: usize = 1 << 20;

fn passing(backends: &[&Backend]) -> Setup {
    Setup::to(backends).set(
        "fleet.passthrough",
        json!([
            {"path": "/tokenize", "pool": "default"}, {"path": "/v1/rerank", "pool": "default"},
            {"path": "/things/*", "pool": "default"},
        ]),
    )
}

fn tokens() -> Reply {
    Reply::json(200, &json!({"tokens": [1, 2, 3]}))
}

#[rstest]
#[case::small(100)]
#[case::over_pingoras_buffer(70 << 10)]
#[case::large(MIB)]
#[case::very_large(8 * MIB)]
#[tokio::test]
async fn a_body_passes_whole(
    #[case] size: usize,
    #[values(None, Some(50_000))] chunk: Option<usize>,
) {
    let backend = Backend::replying(tokens()).await;
    let gateway = passing(&[&backend]).start().await;
    let body = json!({"content": "t".repeat(size)}).to_string();
    let request = post("/tokenize?x=1", body.clone());
    let sent = chunk.map_or_else(|| request.clone(), |chunk| request.clone().chunked(chunk));
    let response = gateway.ask(&sent).await;
    assert_eq!(
        (response.status, response.json()),
        (200, json!({"tokens": [1, 2, 3]}))
    );
    let forwarded = backend.request(0).await;
    assert_eq!(forwarded.line, "POST /tokenize?x=1 HTTP/1.1");
    assert!(forwarded.body == body.as_bytes(), "byte for byte");
}

#[tokio::test]
async fn a_body_passes_on_http2() {
    let backend = Backend::replying(tokens()).await;
    let gateway = passing(&[&backend]).start().await;
    let body = json!({"content": "t".repeat(MIB)}).to_string();
    let response = gateway
        .connect_h2()
        .await
        .ask(&post("/tokenize", body.clone()))
        .await;
    assert_eq!(
        (response.status, response.json()),
        (200, json!({"tokens": [1, 2, 3]}))
    );
    assert!(backend.request(0).await.body == body.as_bytes());
}

#[tokio::test]
async fn dangerous_fields_are_dropped_here_too() {
    let backend = Backend::replying(tokens()).await;
    let gateway = passing(&[&backend]).start().await;
    let body =
        r#"{"id_slot":1,"content":"a  b","speculative.n_max":3,"n":1.0,"verbose":true,"lora":[]}"#;
    assert_eq!(gateway.ask(&post("/tokenize", body)).await.status, 200);
    assert_eq!(
        backend.request(0).await.text(),
        r#"{"content":"a  b","n":1.0}"#
    );
}

#[tokio::test]
async fn headers_pass_by_allow_list_both_ways() {
    let answer = "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n\
        Content-Type: application/json\r\nX-Secret: backend-secret\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}";
    let backend = Backend::replying(Reply::new().raw(answer)).await;
    let gateway = passing(&[&backend]).start().await;
    let mut request = post("/tokenize", "{}").header("Authorization", "Bearer client-secret");
    for name in [
        "x-api-key",
        "X-Conversation-Id",
        "Cookie",
        "X-Forwarded-For",
        "Forwarded",
    ] {
        request = request.header(name, "client-secret");
    }
    let response = gateway.ask(&request).await;
    assert_eq!(response.status, 200);
    for name in ["x-secret", "set-cookie", "access-control-allow-origin"] {
        assert_eq!(response.headers.get(name), None, "{name}");
    }
    assert_ne!(response.headers.get("server"), Some("llama.cpp"));
    assert!(response.headers.get("x-request-id").is_some());
    assert_eq!(response.headers.get("x-drover-backend"), Some("b0"));
    let forwarded = backend.request(0).await;
    assert!(
        forwarded
            .headers
            .0
            .iter()
            .all(|(_, value)| !value.contains("client-secret"))
    );
}

#[tokio::test]
async fn gets_and_globs_pass_and_others_do_not() {
    let backend = Backend::replying(tokens()).await;
    let gateway = passing(&[&backend]).start().await;
    assert_eq!(gateway.ask(&get("/things/one?a=b")).await.status, 200);
    assert_eq!(
        backend.request(0).await.line,
        "GET /things/one?a=b HTTP/1.1"
    );
    for path in [
        "/things/one/two",
        "/things",
        "/tokenize/x",
        "/detokenize",
        "/slots",
        "/things/../slots",
    ] {
        gateway.ask(&get(path)).await.assert_error(404);
    }
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn errors_of_the_backend_keep_their_status() {
    let backend =
        Backend::replying(Reply::error(501, "not_supported_error", "not supported")).await;
    let gateway = passing(&[&backend]).start().await;
    let response = gateway.ask(&post("/v1/rerank", "{}")).await;
    assert_eq!(response.status, 501);
    assert_eq!(response.json()["error"]["type"], "not_supported_error");
}

#[tokio::test]
async fn streams_pass_as_they_come() {
    let gate = Gate::new();
    let reply = Reply::stream()
        .piece("data: one\n\n")
        .gate(&gate)
        .piece("data: two\n\n")
        .end();
    let backend = Backend::replying(reply).await;
    let gateway = passing(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client.send(&post("/tokenize", "{}")).await;
    let mut answer = client.answer().await;
    assert_eq!(answer.event().await.unwrap().data, "one");
    gate.open();
    let response = answer.rest().await;
    assert_eq!((response.end, response.events().len()), (End::Complete, 2));
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let backend = Backend::replying(Reply::stream().piece("data: one\n\n").hang()).await;
    let gateway = passing(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client.send(&post("/tokenize", "{}")).await;
    client.answer().await.event().await.unwrap();
    drop(client);
    backend.cancelled(0).await;
    gateway.idle().await;
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_replaced_or_told() {
    let (bad, good) = (Backend::start().await, Backend::replying(tokens()).await);
    let gateway = passing(&[&bad, &good])
        .set("fleet.health.interval", json!("1m"))
        .start()
        .await;
    bad.kill().await;
    for _ in 0..3 {
        assert_eq!(gateway.ask(&post("/tokenize", "{}")).await.status, 200);
    }
    good.kill().await;
    for _ in 0..2 {
        let response = gateway.ask(&post("/tokenize", "{}")).await;
        response.assert_error(503);
        assert!(response.headers.get("retry-after").is_some());
    }
}

#[tokio::test]
async fn a_backend_that_dies_before_its_answer_is_told_in_json() {
    let backend = Backend::replying(Reply::new().close()).await;
    let gateway = passing(&[&backend]).start().await;
    let response = gateway.ask(&post("/tokenize", "{}")).await;
    assert!((500..600).contains(&response.status));
    response.assert_error(response.status);
    gateway.idle().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let backend = Backend::replying(tokens()).await;
    let gateway = passing(&[&backend])
        .set("limits.max_body_bytes", json!("64KiB"))
        .start()
        .await;
    let request = post("/tokenize", "x".repeat(80 << 10));
    for request in [request.clone(), request.chunked(9000)] {
        let response = gateway.ask(&request).await;
        response.assert_error(413);
        assert!(response.text().contains("exceeds 65536 bytes"));
    }
    gateway.idle().await;
}

#[tokio::test]
async fn a_refused_body_is_told_what_is_wrong_with_it() {
    let backend = Backend::replying(tokens()).await;
    let gateway = passing(&[&backend]).start().await;
    let response = gateway.ask(&post("/tokenize", "not json")).await;
    response.assert_error(400);
    assert!(response.text().contains("the request body is no JSON"));
}

#[tokio::test]
async fn an_expectation_is_met() {
    let backend = Backend::replying(tokens()).await;
    let gateway = passing(&[&backend]).start().await;
    let request = post("/tokenize", "{\"content\":\"a\"}").header("Expect", "100-continue");
    let mut client = gateway.connect().await;
    client.write(request.head().as_bytes()).await.unwrap();
    assert_eq!(client.head().await.0, 100);
    client.write(&request.framed_body()).await.unwrap();
    assert_eq!(client.answer().await.rest().await.status, 200);
    assert_eq!(backend.request(0).await.headers.get("expect"), None);
}

#[tokio::test]
async fn keys_and_pools_hold_here_too() {
    let backend = Backend::replying(tokens()).await;
    let keys = json!([{"name": "a", "key": "k1"}, {"name": "b", "key": "k2", "pools": ["other"]}]);
    let other = Backend::start().await;
    let mut setup = passing(&[&backend]).set("auth.keys", keys);
    setup.config["fleet"]["pools"]
        .as_array_mut()
        .unwrap()
        .push(pool("other", &["o"], &[other.url()]));
    let gateway = setup.start().await;
    gateway
        .ask(&post("/tokenize", "{}"))
        .await
        .assert_error(401);
    gateway
        .ask(&post("/tokenize", "{}").header("x-api-key", "k2"))
        .await
        .assert_error(403);
    assert_eq!(
        gateway
            .ask(&post("/tokenize", "{}").header("x-api-key", "k1"))
            .await
            .status,
        200
    );
    assert_eq!(backend.requests().len(), 1);
}
