//! An HTTP/2 client without TLS and with prior knowledge, as `curl --http2-prior-knowledge`.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::http::Headers;
use super::request::Request;
use super::response::{End, Response};
use super::wait::patiently;

/// One connection; streams may run side by side.
pub(crate) struct H2 {
    sender: SendRequest<Bytes>,
    driver: AbortHandle,
}

/// A stream whose head has been read; dropping it resets the stream (CANCEL).
pub(crate) struct H2Answer {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    body: RecvStream,
    pieces: Vec<(Instant, Bytes)>,
}

impl H2 {
    /// A new connection.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the gateway listens");
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = h2::client::handshake(stream)
            .await
            .expect("HTTP/2 handshake");
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        })
        .abort_handle();
        Self { sender, driver }
    }

    /// Send a request; the answer's head is read by awaiting what is returned.
    pub(crate) async fn send(&mut self, request: &Request) -> h2::client::ResponseFuture {
        let mut head = http::Request::builder()
            .method(request.method)
            .uri(format!("http://gateway{}", request.path));
        for (name, value) in &request.headers {
            head = head.header(name.as_str(), value.as_str());
        }
        let head = head.body(()).unwrap();
        let mut sender = self
            .sender
            .clone()
            .ready()
            .await
            .expect("room for a stream");
        let empty = request.body.is_empty();
        let (response, mut body) = sender.send_request(head, empty).expect("sending a head");
        if !empty {
            body.send_data(request.body.clone(), true)
                .expect("sending a body");
        }
        response
    }

    /// Send a request and wait for the head of its answer.
    pub(crate) async fn open(&mut self, request: &Request) -> H2Answer {
        let response = self.send(request).await;
        let (head, body) = patiently("the head of an answer", response)
            .await
            .expect("an answer on HTTP/2")
            .into_parts();
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let pairs = head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)));
        let headers = Headers(pairs.collect());
        H2Answer {
            status: head.status.as_u16(),
            headers,
            body,
            pieces: Vec::new(),
        }
    }

    /// Send a request and read the whole answer.
    pub(crate) async fn ask(&mut self, request: &Request) -> Response {
        self.open(request).await.rest().await
    }

    /// Close the connection under all its streams.
    pub(crate) fn abort(self) {
        self.driver.abort();
    }
}

impl H2Answer {
    /// The next piece of the body; none at its end, an error when the stream was reset.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let piece = patiently("more of an answer", self.body.data()).await?;
        if let Ok(piece) = &piece {
            let _ = self.body.flow_control().release_capacity(piece.len());
            self.pieces.push((Instant::now(), piece.clone()));
        }
        Some(piece)
    }

    /// Read to the end.
    pub(crate) async fn rest(mut self) -> Response {
        let mut end = End::Complete;
        while let Some(piece) = self.piece().await {
            if piece.is_err() {
                end = End::Cut;
                break;
            }
        }
        let Self {
            status,
            headers,
            pieces,
            ..
        } = self;
        Response {
            status,
            headers,
            pieces,
            end,
        }
    }
}
