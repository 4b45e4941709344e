//! HTTP/1.1 at its edges: what is ambiguous or too large is refused, and nothing desynchronises.

use crate::support::*;

async fn raw(gateway: &Gateway, bytes: &[u8]) -> Response {
    let mut client = gateway.connect().await;
    client.write(bytes).await.unwrap();
    client.answer().await.rest().await
}

const AMBIGUOUS: &[&str] = &[
    "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 2\r\nContent-Length: 3\r\n",
    "Content-Length: 2, 3\r\n",
    "Content-Length: two\r\n",
    "Content-Length: -2\r\n",
    "Transfer-Encoding: gzip, chunked\r\nContent-Length: 2\r\n",
];

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for framing in AMBIGUOUS {
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\n{framing}\r\n");
        let smuggled = "GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n";
        let mut client = gateway.connect().await;
        client
            .write(format!("{head}0\r\n\r\n{smuggled}").as_bytes())
            .await
            .unwrap();
        let response = client.answer().await.rest().await;
        assert_eq!(response.status, 400, "{framing}: {}", response.text());
        client.closed().await;
    }
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn a_header_over_the_limit_is_refused() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let large = stream().header("x-large", &"h".repeat(70 << 10));
    gateway.ask(&large).await.assert_error(431);
    let many = (0..200).fold(stream(), |r, n| {
        r.header(&format!("x-{n}"), &"h".repeat(400))
    });
    gateway.ask(&many).await.assert_error(431);
    let long_path = format!("/v1/models?{}", "q".repeat(60 << 10));
    let both = get(&long_path).header("x-large", &"h".repeat(5 << 10));
    gateway.ask(&both).await.assert_error(431);
    let below = stream().header("x-large", &"h".repeat(60 << 10));
    gateway.ask(&below).await.assert_complete_stream();
}

/// Pingora answers these before any code of ours sees them.
const NO_HTTP: &[&[u8]] = &[
    b"hello, is there anybody out there?\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and a random of 32 bytes\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHo st: g\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: g\r\nx: \0\r\n\r\n",
];

#[tokio::test]
async fn what_is_no_http_is_refused_and_harms_nobody() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for bytes in NO_HTTP {
        let mut client = gateway.connect().await;
        client.write(bytes).await.unwrap();
        assert_eq!(
            client.head().await.0,
            400,
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    gateway.idle().await;
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_turn() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    for n in 0..10 {
        let request = if n % 2 == 0 {
            stream()
        } else {
            stream().chunked(7)
        };
        client.ask(&request).await.assert_complete_stream();
    }
    assert_eq!(backend.requests().len(), 10);
}

#[tokio::test]
async fn an_http_1_0_stream_ends_with_its_connection() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let request = stream();
    let head = request.head().replace("HTTP/1.1", "HTTP/1.0");
    let response = raw(&gateway, &[head.as_bytes(), &request.body].concat()).await;
    response.assert_complete_stream();
    assert!(!response.headers.is_chunked());
    assert_eq!(response.said(), "Hello there!");
}

#[tokio::test]
async fn connection_close_is_respected() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for request in [stream(), chat(serde_json::json!({})), get("/v1/models")] {
        let mut client = gateway.connect().await;
        assert_eq!(
            client
                .ask(&request.header("Connection", "close"))
                .await
                .status,
            200
        );
        client.closed().await;
    }
}
