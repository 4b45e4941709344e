//! Attempts on Pingora's own connection pool.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER};
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::Connector as HttpConnector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{Error, ErrorType};
use pingora_http::RequestHeader;
use tokio::time::timeout;

use super::{Connection, Connector, UpstreamHead, UpstreamRequest};
use crate::dialect::llama::{Fault, stream_fault};
use crate::fleet::Backend;
use crate::telemetry::Metrics;
use crate::telemetry::labels::Why;
use crate::telemetry::trace::{TRACEPARENT, TRACESTATE};
use crate::turn::TurnError;

/// A backend that answers before it has read the whole request closes the connection; its answer
/// is waited for this long after a failed write.
const EARLY_ANSWER: Duration = Duration::from_millis(200);

/// Connections to backends, kept alive between requests.
pub struct PingoraConnector {
    pool: Arc<HttpConnector>,
}

impl PingoraConnector {
    /// A pool with the server's settings.
    pub fn new(conf: &ServerConf) -> Self {
        let options = ConnectorOptions::from_server_conf(conf);
        Self {
            pool: Arc::new(HttpConnector::new(Some(options))),
        }
    }
}

impl Connector for PingoraConnector {
    type Connection = PingoraConnection;

    async fn open(
        &self,
        backend: &Backend,
        request: &UpstreamRequest,
    ) -> Result<PingoraConnection, Fault> {
        let peer = backend
            .peer()
            .ok_or_else(|| unreachable(backend, "its name does not resolve"))?;
        let sender = Sender {
            pool: Arc::clone(&self.pool),
            header: header(backend, request).map_err(|e| internal(&e))?,
            body: request.body.clone(),
            backend: backend.id().as_str().to_owned(),
            pool_name: backend.pool().to_owned(),
            peer,
        };
        let sent = sender.send().await?;
        Ok(PingoraConnection { sender, sent })
    }
}

/// The request, ready to be sent again on another connection.
struct Sender {
    pool: Arc<HttpConnector>,
    peer: HttpPeer,
    header: RequestHeader,
    body: Bytes,
    backend: String,
    pool_name: String,
}

struct Sent {
    session: HttpSession,
    reused: bool,
    /// Writing failed; only an answer that was already on its way is worth reading.
    write_failed: bool,
}

/// A request on its way.
pub struct PingoraConnection {
    sender: Sender,
    sent: Sent,
}

impl Sender {
    /// A kept-alive connection may have been closed by the server in the meantime (llama-server
    /// closes after 5 s or 100 requests). As long as nothing was answered the request goes out
    /// again, until a fresh connection settles it.
    async fn send(&self) -> Result<Sent, Fault> {
        loop {
            let (mut session, reused) = self
                .pool
                .get_http_session(&self.peer)
                .await
                .map_err(|error| self.unreachable(&reason(&error)))?;
            Metrics::global().upstream_connection(reused);
            session.set_write_timeout(self.peer.get_peer_options().and_then(|o| o.write_timeout));
            let write_failed = self.write(&mut session).await.is_err();
            if write_failed && reused {
                Metrics::global().attempt(Why::Stale);
                continue;
            }
            return Ok(Sent {
                session,
                reused,
                write_failed,
            });
        }
    }

    async fn write(&self, session: &mut HttpSession) -> pingora_core::Result<()> {
        session
            .write_request_header(Box::new(self.header.clone()))
            .await?;
        session.write_request_body(self.body.clone(), true).await?;
        session.finish_request_body().await
    }

    fn unreachable(&self, why: &str) -> Fault {
        no_backend(&self.pool_name, &self.backend, why)
    }
}

impl Connection for PingoraConnection {
    async fn head(&mut self) -> Result<UpstreamHead, Fault> {
        loop {
            let read = if self.sent.write_failed {
                timeout(EARLY_ANSWER, self.sent.session.read_response_header())
                    .await
                    .unwrap_or_else(|_| Error::err(ErrorType::WriteError))
            } else {
                self.sent.session.read_response_header().await
            };
            match read {
                Ok(()) => {}
                Err(_) if self.sent.reused => {
                    Metrics::global().attempt(Why::Stale);
                    self.sent = self.sender.send().await?;
                    continue;
                }
                Err(error) => return Err(self.sender.unreachable(&reason(&error))),
            }
            let Some(header) = self.sent.session.response_header() else {
                return Err(stream_fault("the backend sent no response header"));
            };
            if !header.status.is_informational() {
                let seconds = header
                    .headers
                    .get(RETRY_AFTER)
                    .and_then(|v| v.to_str().ok());
                let retry_after = seconds
                    .and_then(|s| s.parse().ok())
                    .map(Duration::from_secs);
                return Ok(UpstreamHead {
                    status: header.status.as_u16(),
                    retry_after,
                });
            }
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        self.sent
            .session
            .read_response_body()
            .await
            .map_err(|error| {
                stream_fault(&format!(
                    "the connection to the backend broke: {}",
                    reason(&error)
                ))
            })
    }

    async fn release(self) {
        let idle = self
            .sender
            .peer
            .get_peer_options()
            .and_then(|options| options.idle_timeout);
        self.sender
            .pool
            .release_http_session(self.sent.session, &self.sender.peer, idle)
            .await;
    }
}

/// Built from scratch: nothing a client sent reaches a backend's header, but the place in its trace.
fn header(backend: &Backend, request: &UpstreamRequest) -> pingora_core::Result<RequestHeader> {
    let path = format!("{}{}", backend.base_path(), request.path);
    let mut header = RequestHeader::build("POST", path.as_bytes(), Some(6))?;
    header.insert_header(HOST, backend.host_header())?;
    header.insert_header(CONTENT_TYPE, "application/json")?;
    header.insert_header(CONTENT_LENGTH, request.body.len())?;
    header.insert_header(ACCEPT, "text/event-stream, application/json")?;
    if let Some(key) = backend.api_key() {
        header.insert_header(AUTHORIZATION, format!("Bearer {key}"))?;
    }
    if let Some(trace) = &request.trace {
        header.insert_header(TRACEPARENT, trace.parent.as_str())?;
        if let Some(state) = &trace.state {
            header.insert_header(TRACESTATE, &**state)?;
        }
    }
    Ok(header)
}

/// Pingora's error type in words, without the addresses its full text carries.
fn reason(error: &Error) -> String {
    error.etype().as_str().to_owned()
}

fn unreachable(backend: &Backend, why: &str) -> Fault {
    no_backend(backend.pool(), backend.id().as_str(), why)
}

fn no_backend(pool: &str, backend: &str, why: &str) -> Fault {
    Fault::Transient(TurnError::NoBackend {
        pool: pool.to_owned(),
        detail: format!("{backend}: {why}"),
        retry_after: Duration::from_secs(2),
    })
}

fn internal(error: &Error) -> Fault {
    Fault::Permanent(TurnError::Internal(reason(error)))
}
