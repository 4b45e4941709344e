//! HTTP/1 or HTTP/2 on a plaintext connection, decided by its first bytes.
//!
//! Pingora decides by waiting for the 24 bytes of the HTTP/2 preface (RFC 9113 §3.4), without a
//! time limit: a client that sends fewer, or nothing, holds its connection for ever, and the
//! shortest HTTP/1.0 requests are never answered. Three bytes are enough, and they are due in time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::drain::{Inflight, Phase};
use super::head;
use crate::config::Config;
use crate::telemetry::{Metrics, heartbeat};

/// No HTTP/1 method begins like the preface; the nearest is `PROPFIND`.
const PREFACE_START: &[u8; 3] = b"PRI";
/// Length of the whole preface.
const PREFACE: usize = 24;

/// Hands each connection to `app` with its protocol decided. `app` must accept HTTP/2 on plaintext.
pub(super) struct Negotiate<A> {
    app: Arc<A>,
    /// Asked once a connection.
    config: Arc<ArcSwap<Config>>,
    inflight: Arc<Inflight>,
    places: Semaphore,
}

impl<A> Negotiate<A> {
    pub(super) fn new(app: A, config: Arc<ArcSwap<Config>>, inflight: Arc<Inflight>) -> Self {
        let places = config.load().limits.max_connections;
        Self {
            app: Arc::new(app),
            config,
            inflight,
            places: Semaphore::new(places.min(Semaphore::MAX_PERMITS)),
        }
    }

    fn patience(&self) -> Patience {
        let timeouts = &self.config.load().timeouts;
        Patience {
            idle: timeouts.client_idle,
            header: timeouts.request_header,
        }
    }
}

/// What a connection may take.
#[derive(Clone, Copy)]
struct Patience {
    /// How long a new connection may stay silent, and how long a kept-alive one between requests.
    idle: Duration,
    /// How much longer the header of a request may take.
    header: Duration,
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Negotiate<A> {
    async fn process_new(
        self: &Arc<Self>,
        mut stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        heartbeat::watch_this_thread(Metrics::global());
        let Ok(_place) = self.places.try_acquire() else {
            Metrics::global().connection_refused();
            return None;
        };
        // With TLS the handshake has decided (ALPN).
        if stream.get_ssl_digest().is_some() {
            return self.app.process_new(stream, shutdown).await;
        }
        let patience = self.patience();
        match timeout(patience.idle, is_http2(&mut stream)).await {
            Ok(Ok(true)) => self.app.process_new(stream, shutdown).await,
            Ok(Ok(false)) => {
                self.serve_http1(stream, patience, shutdown).await;
                None
            }
            // Closed or too slow; there is nobody to tell.
            Ok(Err(_)) | Err(_) => None,
        }
    }

    async fn cleanup(&self) {
        // It cuts connections whose next request has not been read, also those that were accepted just now and
        // whose first is under way. Nobody is refused where another process has taken over: they are served, and
        // closed after it.
        if self.inflight.phase() != Phase::HandedOver {
            self.app.http_cleanup().await;
        }
    }
}

/// Reads the first bytes and puts them back.
async fn is_http2(stream: &mut Stream) -> io::Result<bool> {
    let mut start = [0; PREFACE_START.len()];
    if !stream.try_peek(&mut start).await? || &start != PREFACE_START {
        return Ok(false);
    }
    // Pingora will wait for the rest, so it has to be there already.
    stream.try_peek(&mut [0; PREFACE]).await
}

impl<A: HttpServerApp + Send + Sync + 'static> Negotiate<A> {
    /// One HTTP/1 connection, request after request, as Pingora does it when HTTP/2 is out of
    /// question.
    async fn serve_http1(&self, stream: Stream, patience: Patience, shutdown: &ShutdownWatch) {
        let app = &self.app;
        let due = patience.idle.saturating_add(patience.header);
        let mut session = ServerSession::new_http1(stream);
        // Pingora counts whole seconds, and takes none for "no limit".
        let keepalive = (!*shutdown.borrow()).then_some(patience.idle.as_secs().max(1));
        session.set_keepalive(keepalive);
        session.set_keepalive_reuses_remaining(
            app.server_options()
                .and_then(|options| options.keepalive_request_limit),
        );
        while let Some(reused) = head::within(due, app.process_new_http(session, shutdown)).await {
            let (stream, settings) = reused.consume();
            session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use pingora_core::apps::HttpServerOptions;
    use pingora_core::apps::http_app::{HttpServer, ServeHttp};
    use pingora_core::protocols::l4::stream::Stream as L4Stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Answers with the path and the protocol.
    struct Echo;

    #[async_trait]
    impl ServeHttp for Echo {
        async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
            let version = if session.is_http2() { "h2" } else { "h1" };
            let body = format!("{version} {}", session.req_header().uri.path());
            Response::builder()
                .header("content-length", body.len())
                .body(body.into_bytes())
                .unwrap()
        }
    }

    /// A client connected to a negotiating server, and the server's task.
    async fn connect(patience: Duration) -> (TcpStream, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        let mut app = HttpServer::new_app(Echo);
        app.server_options = Some(options);
        let mut config = Config::default();
        config.timeouts.client_idle = patience;
        config.timeouts.request_header = patience;
        config.limits.max_connections = 1;
        let config = Arc::new(ArcSwap::from_pointee(config));
        let app = Arc::new(Negotiate::new(app, config, Inflight::new()));
        let server = tokio::spawn(async move {
            let (_running, shutdown) = watch::channel(false);
            let stream: Stream = Box::new(L4Stream::from(accepted));
            app.process_new(stream, &shutdown).await;
        });
        (client, server)
    }

    /// Sends a request and reads until the answer ends with `end`.
    async fn ask(client: &mut TcpStream, request: &str, end: &str) {
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with(end) {
            let mut bytes = [0; 1024];
            let read = timeout(Duration::from_secs(5), client.read(&mut bytes)).await;
            let n = read.expect("an answer in time").unwrap();
            assert!(n > 0, "closed after {answer:?}");
            answer.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    }

    #[tokio::test]
    async fn the_shortest_requests_are_answered() {
        for method in ["GET", "PUT", "PATCH"] {
            let (mut client, _server) = connect(PATIENCE).await;
            let request = format!("{method} / HTTP/1.0\r\n\r\n");
            ask(&mut client, &request, "h1 /").await;
        }
    }

    #[tokio::test]
    async fn requests_follow_each_other_on_one_connection() {
        let (mut client, _server) = connect(PATIENCE).await;
        for path in ["/a", "/b"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            ask(&mut client, &request, &format!("h1 {path}")).await;
        }
    }

    #[tokio::test]
    async fn http2_with_prior_knowledge_is_recognised() {
        let (client, _server) = connect(PATIENCE).await;
        let (mut requests, connection) = h2::client::handshake(client).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("http://x/two").body(()).unwrap();
        let (response, _) = requests.send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let chunk = body.data().await.unwrap().unwrap();
        assert_eq!(&chunk[..], b"h2 /two");
    }

    #[tokio::test]
    async fn silence_and_half_a_preface_are_closed_in_time() {
        for start in [&b""[..], b"G", b"PRI", b"PRI * HTTP/2.0\r\n"] {
            let (mut client, server) = connect(Duration::from_millis(50)).await;
            client.write_all(start).await.unwrap();
            let ended = timeout(Duration::from_secs(5), server).await;
            ended.expect("given up in time").unwrap();
            assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
        }
    }
}
