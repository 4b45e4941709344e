//! Sends turns to an OTLP receiver over HTTP (`application/x-protobuf`).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use parking_lot::Mutex;
use pingora_core::connectors::http::Connector;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use prost::Message;
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};
use url::{ParseError, Url};

use super::{TracedTurn, otlp};
use crate::config::{Otlp, Secret};
use crate::telemetry::Metrics;
use crate::telemetry::labels::Traced;

/// Turns of one request.
const BATCH: usize = 256;
/// How long turns are gathered for it.
const GATHER: Duration = Duration::from_secs(1);
/// The same while the process ends.
const GATHER_AT_THE_END: Duration = Duration::from_millis(50);
/// Longest wait for the receiver.
const PATIENCE: Duration = Duration::from_secs(10);
/// Waits before a request that failed is sent again.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// The service behind a [`super::Tracer`].
pub struct Exporter {
    endpoint: Url,
    token: Option<Secret>,
    service: String,
    waiting: Mutex<Option<Receiver<TracedTurn>>>,
    connector: Connector,
    metrics: &'static Metrics,
}

/// Why a batch was not taken.
enum Refused {
    /// It may be taken later.
    ForNow(String),
    /// It never will be.
    ForGood(u16),
}

impl Exporter {
    pub(super) fn new(
        config: &Otlp,
        waiting: Receiver<TracedTurn>,
        metrics: &'static Metrics,
    ) -> Result<Self, ParseError> {
        Ok(Self {
            endpoint: config.traces_url()?,
            token: config.token().cloned(),
            service: config.service.clone(),
            waiting: Mutex::new(Some(waiting)),
            connector: Connector::new(None),
            metrics,
        })
    }

    async fn send(&self, turns: &[TracedTurn]) {
        let body = Bytes::from(otlp::request(&self.service, turns).encode_to_vec());
        let mut waits = AGAIN_AFTER.iter();
        let result = loop {
            let posted = timeout(PATIENCE, self.post(body.clone())).await;
            let error = match posted {
                Ok(Ok(())) => break Traced::Sent,
                Ok(Err(Refused::ForGood(status))) => {
                    tracing::warn!(status, "the receiver of traces refuses them");
                    break Traced::Failed;
                }
                Ok(Err(Refused::ForNow(error))) => error,
                Err(_) => format!("no answer within {PATIENCE:?}"),
            };
            match waits.next() {
                Some(wait) => sleep(*wait).await,
                None => {
                    tracing::warn!(%error, turns = turns.len(), "traces cannot be sent");
                    break Traced::Failed;
                }
            }
        };
        self.metrics.traces(result, turns.len() as u64);
    }

    async fn post(&self, body: Bytes) -> Result<(), Refused> {
        let status = self.exchange(body).await.map_err(Refused::ForNow)?;
        match status {
            200..=299 => Ok(()),
            // OTLP, section "Retryable Response Codes".
            429 | 502 | 503 | 504 => Err(Refused::ForNow(format!("status {status}"))),
            _ => Err(Refused::ForGood(status)),
        }
    }

    async fn exchange(&self, body: Bytes) -> Result<u16, String> {
        let host = self.endpoint.host_str().unwrap_or_default();
        let port = self.endpoint.port_or_known_default().unwrap_or(4318);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = tokio::net::lookup_host((bare, port))
            .await
            .map_err(|error| format!("{host}: {error}"))?;
        let address = addresses
            .next()
            .ok_or_else(|| format!("{host} has no address"))?;
        let tls = self.endpoint.scheme() == "https";
        let peer = HttpPeer::new(address, tls, bare.to_owned());
        self.ask(&peer, &format!("{host}:{port}"), body)
            .await
            .map_err(|error| error.etype().as_str().to_owned())
    }

    async fn ask(&self, peer: &HttpPeer, host: &str, body: Bytes) -> pingora_core::Result<u16> {
        let (mut session, _) = self.connector.get_http_session(peer).await?;
        let path = self.endpoint.path().as_bytes();
        let mut request = RequestHeader::build("POST", path, Some(5))?;
        request.insert_header(HOST, host)?;
        request.insert_header(CONTENT_TYPE, "application/x-protobuf")?;
        request.insert_header(CONTENT_LENGTH, body.len())?;
        if let Some(token) = &self.token {
            request.insert_header(AUTHORIZATION, format!("Bearer {}", token.expose()))?;
        }
        session.write_request_header(Box::new(request)).await?;
        session.write_request_body(body, true).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session.response_header().map_or(0, |h| h.status.as_u16());
        while session.read_response_body().await?.is_some() {}
        self.connector
            .release_http_session(session, peer, Some(Duration::from_secs(30)))
            .await;
        Ok(status)
    }
}

#[async_trait]
impl BackgroundService for Exporter {
    async fn start(&self, shutdown: ShutdownWatch) {
        let Some(mut waiting) = self.waiting.lock().take() else {
            return;
        };
        let mut turns = Vec::with_capacity(BATCH);
        while waiting.recv_many(&mut turns, BATCH).await > 0 {
            if turns.len() < BATCH {
                let ending = *shutdown.borrow();
                sleep(if ending { GATHER_AT_THE_END } else { GATHER }).await;
                let room = BATCH - turns.len();
                let more = std::iter::from_fn(|| waiting.try_recv().ok());
                turns.extend(more.take(room));
            }
            self.send(&turns).await;
            turns.clear();
        }
    }
}
