//! A turn as OpenTelemetry's spans, by its conventions for generative AI and for HTTP.
//!
//! The numbers are those of the fields in the protocol's definitions
//! (<https://github.com/open-telemetry/opentelemetry-proto>, version 1).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::protobuf::Writer;
use super::{Attempt, TracedTurn};
use crate::guard::intervention::Intervention;
use crate::policy::Decision;
use crate::telemetry::access_log::ClientText;
use crate::telemetry::labels::Outcome;
use crate::turn::Usage;

const PROVIDER: &str = "llama.cpp";

/// Room for the spans of nearly every turn, in bytes.
const SPANS: usize = 2048;

/// `Span.SpanKind`
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// `Status.StatusCode`
const ERROR: u64 = 2;

/// `ExportTraceServiceRequest.resource_spans`
const RESOURCE_SPANS: u32 = 1;

mod resource_spans {
    pub(super) const RESOURCE: u32 = 1;
    pub(super) const SCOPE_SPANS: u32 = 2;
    /// `Resource.attributes`
    pub(super) const ATTRIBUTES: u32 = 1;
}

mod scope_spans {
    pub(super) const SCOPE: u32 = 1;
    pub(super) const SPANS: u32 = 2;
    /// `InstrumentationScope.name`, `.version`
    pub(super) const NAME: u32 = 1;
    pub(super) const VERSION: u32 = 2;
}

mod span {
    pub(super) const TRACE_ID: u32 = 1;
    pub(super) const SPAN_ID: u32 = 2;
    pub(super) const PARENT_SPAN_ID: u32 = 4;
    pub(super) const NAME: u32 = 5;
    pub(super) const KIND: u32 = 6;
    pub(super) const START: u32 = 7;
    pub(super) const END: u32 = 8;
    pub(super) const ATTRIBUTES: u32 = 9;
    pub(super) const EVENTS: u32 = 11;
    pub(super) const STATUS: u32 = 15;
    /// `Status.message`, `.code`
    pub(super) const STATUS_MESSAGE: u32 = 2;
    pub(super) const STATUS_CODE: u32 = 3;
}

mod event {
    pub(super) const TIME: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const ATTRIBUTES: u32 = 3;
}

/// `KeyValue`
mod pair {
    pub(super) const KEY: u32 = 1;
    pub(super) const VALUE: u32 = 2;
}

/// `AnyValue`
mod any {
    pub(super) const STRING: u32 = 1;
    pub(super) const INT: u32 = 3;
    pub(super) const ARRAY: u32 = 5;
    /// `ArrayValue.values`
    pub(super) const VALUES: u32 = 1;
}

/// One request of the protocol with `spans`, as [`spans`] has written them.
pub(super) fn request(service: &str, spans: &[u8]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let mut scope = Writer::default();
    scope.message(scope_spans::SCOPE, |scope| {
        scope.text(scope_spans::NAME, "drover");
        scope.text(scope_spans::VERSION, version);
    });
    let mut scope = scope.done();
    scope.extend_from_slice(spans);
    let mut request = Writer::default();
    request.message(RESOURCE_SPANS, |all| {
        all.message(resource_spans::RESOURCE, |resource| {
            let mut attributes = Attributes(resource, resource_spans::ATTRIBUTES);
            attributes.text("service.name", service);
            attributes.text("service.version", version);
        });
        all.bytes(resource_spans::SCOPE_SPANS, &scope);
    });
    request.done()
}

/// The spans of a turn, each with its field's number and length: those of several turns may follow each other.
pub(super) fn spans(turn: &TracedTurn<'_>) -> Vec<u8> {
    let mut spans = Writer::with_room(SPANS);
    spans.message(scope_spans::SPANS, |span| of_turn(turn, span));
    for (index, attempt) in turn.attempts.iter().enumerate() {
        spans.message(scope_spans::SPANS, |span| {
            of_attempt(turn, index, attempt, span);
        });
    }
    spans.done()
}

fn of_turn(turn: &TracedTurn<'_>, to: &mut Writer) {
    let record = turn.record;
    let error = match record.outcome {
        Outcome::Ok | Outcome::ClientGone => None,
        outcome => Some(record.error.unwrap_or(outcome.as_str())),
    };
    let usage = record.tokens_in.map(|prompt| Usage {
        prompt,
        cached: record.tokens_cached.unwrap_or(0),
        completion: record.tokens_out.unwrap_or(0),
    });
    let begun = nanos(record.time);
    head(turn, 0, turn.context.parent_id(), SERVER, to);
    times(begun, nanos(record.time + record.total), to);
    let mut attributes = Attributes(to, span::ATTRIBUTES);
    attributes.common(turn);
    attributes.usage(usage);
    attributes.text("http.request.method", record.method.as_str());
    attributes.text("url.path", record.path.as_str());
    attributes.number("http.response.status_code", u64::from(record.status));
    let client = record.client.as_ref().map(ClientText::as_str);
    attributes.maybe("user_agent.original", client);
    attributes.maybe("gen_ai.conversation.id", record.session.as_deref());
    attributes.list("gen_ai.response.finish_reasons", record.stop_reason);
    attributes.maybe("error.type", error);
    attributes.text("drover.request_id", &record.request_id);
    attributes.text("drover.dialect", record.dialect.as_str());
    attributes.text("drover.outcome", record.outcome.as_str());
    attributes.maybe("drover.pool", record.pool.as_deref());
    attributes.maybe("drover.backend", record.backend.as_deref());
    attributes.number("drover.attempts", u64::from(record.attempts));
    attributes.micros("drover.overhead_us", record.overhead);
    events(turn, to);
    status(error, to);
}

fn of_attempt(turn: &TracedTurn<'_>, index: usize, attempt: &Attempt, to: &mut Writer) {
    let (host, port) = match attempt.address.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (attempt.address.as_str(), None),
    };
    let parent = Some(turn.context.span_id(0));
    head(turn, index + 1, parent, CLIENT, to);
    times(turn.at(attempt.began), turn.at(attempt.ended), to);
    let mut attributes = Attributes(to, span::ATTRIBUTES);
    attributes.common(turn);
    attributes.usage(turn.usage.get(index).copied().filter(|u| u.prompt > 0));
    attributes.text("server.address", host);
    attributes.maybe_number("server.port", port);
    attributes.number("http.request.resend_count", index as u64);
    attributes.maybe("error.type", attempt.error);
    attributes.text("drover.backend", &attempt.backend);
    attributes.text("drover.attempt.why", attempt.why.as_str());
    status(attempt.error, to);
}

/// What every span begins with.
fn head(turn: &TracedTurn<'_>, number: usize, parent: Option<[u8; 8]>, kind: u64, to: &mut Writer) {
    to.bytes(span::TRACE_ID, &turn.context.trace_id());
    to.bytes(span::SPAN_ID, &turn.context.span_id(number));
    if let Some(parent) = parent {
        to.bytes(span::PARENT_SPAN_ID, &parent);
    }
    let operation = turn.operation.as_str();
    match &turn.record.model {
        Some(model) => to.text(span::NAME, &format!("{operation} {}", model.as_str())),
        None => to.text(span::NAME, operation),
    }
    to.number(span::KIND, kind);
}

fn times(begun: u64, ended: u64, to: &mut Writer) {
    to.fixed64(span::START, begun);
    to.fixed64(span::END, ended);
}

fn status(error: Option<&str>, to: &mut Writer) {
    let Some(error) = error else { return };
    to.message(span::STATUS, |status| {
        status.text(span::STATUS_MESSAGE, error);
        status.number(span::STATUS_CODE, ERROR);
    });
}

/// What happened within a turn, in the order of its happening.
fn events(turn: &TracedTurn<'_>, to: &mut Writer) {
    let start = nanos(turn.record.time);
    let end = nanos(turn.record.time + turn.record.total);
    // What an attempt led to is known when it is over.
    let after = |number: u32| match number.checked_sub(1) {
        None => start,
        Some(index) => match turn.attempts.get(index as usize) {
            Some(attempt) => turn.at(attempt.ended),
            None => end,
        },
    };
    let first = turn.first_token.map(|at| (turn.at(at), What::FirstToken));
    let done = turn.interventions.iter();
    let done = done.map(|done| (after(done.attempt), What::Intervention(done)));
    let decided = turn.decisions.iter().map(|one| (end, What::Decision(one)));
    let mut all: Vec<_> = first.into_iter().chain(done).chain(decided).collect();
    all.sort_by_key(|(at, _)| *at);
    for (at, what) in all {
        to.message(span::EVENTS, |event| what.write(at, event));
    }
}

enum What<'a> {
    FirstToken,
    Intervention(&'a Intervention),
    Decision(&'a Decision),
}

impl What<'_> {
    fn write(&self, at: u64, to: &mut Writer) {
        to.fixed64(event::TIME, at);
        let name = match self {
            Self::FirstToken => "first_token",
            Self::Intervention(_) => "drover.intervention",
            Self::Decision(_) => "drover.policy",
        };
        to.text(event::NAME, name);
        let mut attributes = Attributes(to, event::ATTRIBUTES);
        match self {
            Self::FirstToken => {}
            Self::Intervention(done) => {
                attributes.text("drover.intervention.kind", done.kind);
                attributes.text("drover.intervention.mode", done.mode.as_str());
                attributes.number("drover.attempt", u64::from(done.attempt));
            }
            Self::Decision(one) => {
                attributes.text("drover.policy.rule", &one.rule);
                attributes.text("drover.policy.stage", one.stage);
                attributes.text("drover.policy.decision", one.decision);
                attributes.text("drover.policy.mode", one.mode);
                attributes.text("gen_ai.tool.name", ClientText::new(&one.tool).as_str());
            }
        }
    }
}

impl TracedTurn<'_> {
    /// Nanoseconds since 1970.
    fn at(&self, then: Instant) -> u64 {
        nanos(self.record.time + then.saturating_duration_since(self.started))
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Attributes of a message, in the field of this number; absent ones are left out.
struct Attributes<'w>(&'w mut Writer, u32);

impl Attributes<'_> {
    fn pair(&mut self, key: &str, value: impl FnOnce(&mut Writer)) {
        self.0.message(self.1, |pair| {
            pair.text(pair::KEY, key);
            pair.message(pair::VALUE, value);
        });
    }

    fn text(&mut self, key: &str, text: &str) {
        self.pair(key, |value| value.text(any::STRING, text));
    }

    fn maybe(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    fn number(&mut self, key: &str, number: u64) {
        let number = number.min(i64::MAX.unsigned_abs());
        self.pair(key, |value| value.number(any::INT, number));
    }

    fn maybe_number(&mut self, key: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.number(key, number);
        }
    }

    fn micros(&mut self, key: &str, took: Option<Duration>) {
        let micros = took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.maybe_number(key, micros);
    }

    fn list(&mut self, key: &str, only: Option<&str>) {
        let Some(only) = only else { return };
        self.pair(key, |value| {
            value.message(any::ARRAY, |list| {
                list.message(any::VALUES, |one| one.text(any::STRING, only));
            });
        });
    }

    fn common(&mut self, turn: &TracedTurn<'_>) {
        self.text("gen_ai.operation.name", turn.operation.as_str());
        self.text("gen_ai.provider.name", PROVIDER);
        let model = turn.record.model.as_ref().map(ClientText::as_str);
        self.maybe("gen_ai.request.model", model);
    }

    fn usage(&mut self, usage: Option<Usage>) {
        let Some(usage) = usage else { return };
        self.number("gen_ai.usage.input_tokens", usage.prompt);
        self.number("gen_ai.usage.cache_read.input_tokens", usage.cached);
        self.number("gen_ai.usage.output_tokens", usage.completion);
    }
}
