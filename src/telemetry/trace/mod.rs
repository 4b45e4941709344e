//! Traces: a span a turn, one below it for each attempt, with what guards and policy did as events.
//!
//! A turn is recorded while it runs by what it notes anyway; when it is over, its spans are written as the bytes that a
//! thread of its own sends to an OTLP receiver. Nothing of it happens where `telemetry.otlp` is null. No text
//! of a conversation has a place in a span.

mod context;
mod export;
mod otlp;
mod protobuf;
#[cfg(test)]
mod tests;
mod waiting;

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;
use url::ParseError;

use super::Metrics;
use super::access_log::Record;
use super::labels::{Operation, Traced, Why};
use crate::config::Otlp;
use crate::guard::intervention::Intervention;
use crate::policy::Decision;
use crate::turn::Usage;

pub use context::{TRACEPARENT, TRACESTATE, TraceContext, TraceHeaders};
pub use export::Exporter;
use waiting::Waiting;

/// One upstream request of a turn.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Why it was made.
    pub why: Why,
    /// The backend's name in the configuration.
    pub backend: Arc<str>,
    /// Its host and port.
    pub address: String,
    /// When it began.
    pub began: Instant,
    /// When it was over.
    pub ended: Instant,
    /// What went wrong: a fixed word.
    pub error: Option<&'static str>,
}

/// A finished turn.
#[derive(Clone, Copy, Debug)]
pub struct TracedTurn<'a> {
    /// Its place.
    pub context: &'a TraceContext,
    /// Its line in the access log.
    pub record: &'a Record,
    /// What was asked for.
    pub operation: Operation,
    /// The moment that `record.time` names.
    pub started: Instant,
    /// When the first content event arrived.
    pub first_token: Option<Instant>,
    /// Its upstream requests.
    pub attempts: &'a [Attempt],
    /// The tokens of each.
    pub usage: &'a [Usage],
    /// What guards did.
    pub interventions: &'a [Intervention],
    /// What policy decided.
    pub decisions: &'a [Decision],
}

/// Begins traces, and takes the turns of those that are recorded.
pub struct Tracer {
    sample: f64,
    waiting: Arc<Waiting>,
}

impl Tracer {
    /// A tracer and the service that sends what it takes.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub fn new(
        config: &Otlp,
        metrics: &'static Metrics,
    ) -> Result<(Arc<Self>, Exporter), ParseError> {
        let waiting = Arc::<Waiting>::default();
        let exporter = Exporter::new(config, Arc::clone(&waiting), metrics)?;
        let tracer = Self {
            sample: config.sample,
            waiting,
        };
        Ok((Arc::new(tracer), exporter))
    }

    /// The place of a request with these headers.
    pub fn begin(&self, headers: &HeaderMap) -> TraceContext {
        TraceContext::of(headers, self.sample)
    }

    /// Takes a finished turn. Never waits.
    pub fn finished(&self, turn: TracedTurn<'_>) {
        if !self.waiting.push(&turn) {
            Metrics::global().traces(Traced::Dropped, 1);
        }
    }
}
