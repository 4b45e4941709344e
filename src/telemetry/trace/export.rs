//! Sends turns to an OTLP receiver over HTTP (`application/x-protobuf`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::time::{sleep, timeout};
use url::{ParseError, Url};

use super::otlp;
use super::waiting::{Batch, Waiting};
use crate::config::{Otlp, Secret};
use crate::telemetry::Metrics;
use crate::telemetry::labels::Traced;
use crate::telemetry::post::{Post, Poster};

/// How long turns are gathered for one request.
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
    waiting: Arc<Waiting>,
    poster: Poster,
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
        waiting: Arc<Waiting>,
        metrics: &'static Metrics,
    ) -> Result<Self, ParseError> {
        Ok(Self {
            endpoint: config.traces_url()?,
            token: config.token().cloned(),
            service: config.service.clone(),
            waiting,
            poster: Poster::default(),
            metrics,
        })
    }

    async fn send(&self, batch: Batch) {
        let body = Bytes::from(otlp::request(&self.service, &batch.spans));
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
                    tracing::warn!(%error, turns = batch.turns, "traces cannot be sent");
                    break Traced::Failed;
                }
            }
        };
        self.metrics.traces(result, batch.turns);
    }

    async fn post(&self, body: Bytes) -> Result<(), Refused> {
        let post = Post {
            url: &self.endpoint,
            content_type: "application/x-protobuf",
            token: self.token.as_ref(),
        };
        let status = self.poster.send(post, body).await;
        let status = status.map_err(Refused::ForNow)?;
        match status {
            200..=299 => Ok(()),
            // OTLP, section "Retryable Response Codes".
            429 | 502 | 503 | 504 => Err(Refused::ForNow(format!("status {status}"))),
            _ => Err(Refused::ForGood(status)),
        }
    }
}

#[async_trait]
impl BackgroundService for Exporter {
    async fn start(&self, shutdown: ShutdownWatch) {
        loop {
            self.waiting.some().await;
            if !self.waiting.is_full() {
                let ending = *shutdown.borrow();
                sleep(if ending { GATHER_AT_THE_END } else { GATHER }).await;
            }
            if let Some(batch) = self.waiting.take() {
                self.send(batch).await;
            }
        }
    }
}
