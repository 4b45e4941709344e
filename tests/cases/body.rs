//! Large bodies, and bodies over the limit.

use rstest::rstest;
use serde_json::json;

use crate::support::*;

const MIB: usize = 1 << 20;

fn of_size(size: usize) -> Request {
    let (begin, end) = (
        r#"{"messages":[{"role":"user","content":""#,
        r#""}],"model":"m"}"#,
    );
    let content = "b".repeat(size - begin.len() - end.len());
    post("/v1/chat/completions", format!("{begin}{content}{end}"))
}

async fn reaches_the_backend_whole(size: usize, chunk: Option<usize>) {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let request = of_size(size);
    let sent = chunk.map_or_else(|| request.clone(), |chunk| request.clone().chunked(chunk));
    let response = gateway.ask(&sent).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let forwarded = backend.request(0).await;
    let content = memchr::memmem::find(&request.body, b"bbb").unwrap();
    let message = &request.body[content..size - 20];
    assert!(memchr::memmem::find(&forwarded.body, message).is_some());
}

#[rstest]
#[case::one_mib(MIB)]
#[case::over_pingoras_buffer(65 << 10)]
#[tokio::test]
async fn large_bodies_reach_the_backend_whole(
    #[case] size: usize,
    #[values(None, Some(60_000))] chunk: Option<usize>,
) {
    reaches_the_backend_whole(size, chunk).await;
}

#[rstest]
#[case::the_limit(32 * MIB, None)]
#[case::nearly_the_limit_in_chunks(31 * MIB, Some(60_000))]
#[tokio::test]
async fn the_largest_bodies_reach_the_backend_whole(
    #[case] size: usize,
    #[case] chunk: Option<usize>,
) {
    reaches_the_backend_whole(size, chunk).await;
}

#[tokio::test]
async fn a_large_body_arrives_on_http2_too() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let response = gateway.connect_h2().await.ask(&of_size(3 * MIB)).await;
    assert_eq!(response.status, 200);
    assert!(backend.request(0).await.body.len() > 3 * MIB - 1000);
}

#[tokio::test]
async fn an_announced_body_over_the_limit_is_refused_before_it_is_sent() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n\r\n",
        32 * MIB + 1
    );
    client.write(head.as_bytes()).await.unwrap();
    let response = client.answer().await.rest().await;
    let error = response.assert_error(413);
    assert_eq!(error["code"], "request_too_large");
    client.closed().await;
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused_when_it_crosses_it() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("limits.max_body_bytes", json!("64KiB"))
        .start()
        .await;
    let mut client = gateway.connect().await;
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write(head.as_bytes()).await.unwrap();
    // Never ended: waiting for the end would wait for ever.
    let chunk = format!("8000\r\n{}\r\n", "c".repeat(0x8000));
    for _ in 0..3 {
        client.write(chunk.as_bytes()).await.unwrap();
    }
    client.answer().await.rest().await.assert_error(413);
    assert_eq!(backend.requests().len(), 0);
    gateway.idle().await;
}

#[tokio::test]
async fn a_client_that_sends_all_of_a_refused_body_still_reads_the_answer() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("limits.max_body_bytes", json!("64KiB"))
        .start()
        .await;
    for _ in 0..5 {
        gateway.ask(&of_size(80 << 10)).await.assert_error(413);
    }
}

#[tokio::test]
async fn an_expectation_is_met_at_once() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let request = of_size(MIB).header("Expect", "100-continue");
    for _ in 0..2 {
        let mut client = gateway.connect().await;
        client.write(request.head().as_bytes()).await.unwrap();
        let (status, _) = client.head().await;
        assert_eq!(status, 100, "before any of the body");
        client.write(&request.framed_body()).await.unwrap();
        let response = client.answer().await.rest().await;
        assert_eq!(response.status, 200, "{}", response.text());
    }
    assert_eq!(backend.requests().len(), 2);
    assert!(
        backend
            .requests()
            .iter()
            .all(|r| r.headers.get("expect").is_none())
    );
}

#[tokio::test]
async fn an_expectation_of_too_much_is_refused_at_once() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("limits.max_body_bytes", json!("64KiB"))
        .start()
        .await;
    let request = of_size(MIB).header("Expect", "100-continue");
    let mut client = gateway.connect().await;
    client.write(request.head().as_bytes()).await.unwrap();
    let (status, _) = client.head().await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn a_backend_that_refuses_early_is_understood() {
    let backend = Backend::replying(Reply::whole(413, "text/plain", "").early()).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let response = gateway.ask(&of_size(8 * MIB)).await;
    response.assert_error(413);
    gateway.idle().await;
}
