//! Traces: a span a turn, one below it for each attempt, with what guards and policy did as events.
//!
//! A turn is recorded while it runs by what it notes anyway; the spans are made of that on a thread of
//! their own and go to an OTLP receiver. Nothing of it happens where `telemetry.otlp` is null. No text
//! of a conversation has a place in a span.

mod context;
mod export;
mod otlp;

use std::sync::Arc;

use http::HeaderMap;
use tokio::sync::mpsc;
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

/// Turns that wait for the exporter; further ones are dropped, which is counted.
const WAITING: usize = 4096;

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
#[derive(Clone, Debug)]
pub struct TracedTurn {
    /// Its place.
    pub context: TraceContext,
    /// Its line in the access log.
    pub record: Arc<Record>,
    /// What was asked for.
    pub operation: Operation,
    /// The moment that `record.time` names.
    pub started: Instant,
    /// When the first content event arrived.
    pub first_token: Option<Instant>,
    /// Its upstream requests.
    pub attempts: Vec<Attempt>,
    /// The tokens of each.
    pub usage: Vec<Usage>,
    /// What guards did.
    pub interventions: Vec<Intervention>,
    /// What policy decided.
    pub decisions: Vec<Decision>,
}

/// Begins traces, and takes the turns of those that are recorded.
pub struct Tracer {
    sample: f64,
    turns: mpsc::Sender<TracedTurn>,
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
        let (turns, waiting) = mpsc::channel(WAITING);
        let tracer = Self {
            sample: config.sample,
            turns,
        };
        let exporter = Exporter::new(config, waiting, metrics)?;
        Ok((Arc::new(tracer), exporter))
    }

    /// The place of a request with these headers.
    pub fn begin(&self, headers: &HeaderMap) -> TraceContext {
        TraceContext::of(headers, self.sample)
    }

    /// Takes a finished turn. Never waits.
    pub fn finished(&self, turn: TracedTurn) {
        if self.turns.try_send(turn).is_err() {
            Metrics::global().traces(Traced::Dropped, 1);
        }
    }
}
