//! A turn as OpenTelemetry's spans, by its conventions for generative AI and for HTTP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use tokio::time::Instant;

use super::{Attempt, TracedTurn};
use crate::telemetry::access_log::ClientText;
use crate::telemetry::labels::Outcome;
use crate::turn::Usage;

const PROVIDER: &str = "llama.cpp";

/// One request of the protocol with all of `turns`.
pub(super) fn request(service: &str, turns: &[TracedTurn]) -> ExportTraceServiceRequest {
    let version = env!("CARGO_PKG_VERSION");
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: Attributes::default()
                    .text("service.name", service)
                    .text("service.version", version)
                    .done(),
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "drover".to_owned(),
                    version: version.to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans: turns.iter().flat_map(spans).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn spans(turn: &TracedTurn) -> Vec<Span> {
    let attempts = turn.attempts.iter().enumerate();
    let attempts = attempts.map(|(index, attempt)| of_attempt(turn, index, attempt));
    std::iter::once(of_turn(turn)).chain(attempts).collect()
}

fn of_turn(turn: &TracedTurn) -> Span {
    let record = &turn.record;
    let error = match record.outcome {
        Outcome::Ok | Outcome::ClientGone => None,
        outcome => Some(record.error.unwrap_or(outcome.as_str())),
    };
    let usage = record.tokens_in.map(|prompt| Usage {
        prompt,
        cached: record.tokens_cached.unwrap_or(0),
        completion: record.tokens_out.unwrap_or(0),
    });
    let attributes = common(turn)
        .usage(usage)
        .text("http.request.method", record.method.to_string())
        .text("url.path", record.path.to_string())
        .number("http.response.status_code", u64::from(record.status))
        .maybe("user_agent.original", record.client.as_ref())
        .maybe("gen_ai.conversation.id", record.session.as_ref())
        .list("gen_ai.response.finish_reasons", record.stop_reason)
        .maybe("error.type", error)
        .text("drover.request_id", record.request_id.clone())
        .text("drover.dialect", record.dialect.as_str())
        .text("drover.outcome", record.outcome.as_str())
        .maybe("drover.pool", record.pool.as_ref())
        .maybe("drover.backend", record.backend.as_ref())
        .number("drover.attempts", u64::from(record.attempts))
        .micros("drover.overhead_us", record.overhead);
    Span {
        kind: SpanKind::Server.into(),
        parent_span_id: turn.context.parent_id().map_or(Vec::new(), Vec::from),
        end_time_unix_nano: nanos(record.time + record.total),
        attributes: attributes.done(),
        events: events(turn),
        ..span(turn, 0, nanos(record.time), error)
    }
}

fn of_attempt(turn: &TracedTurn, index: usize, attempt: &Attempt) -> Span {
    let (host, port) = match attempt.address.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (attempt.address.as_str(), None),
    };
    let attributes = common(turn)
        .usage(turn.usage.get(index).copied().filter(|u| u.prompt > 0))
        .text("server.address", host)
        .maybe_number("server.port", port)
        .number("http.request.resend_count", index as u64)
        .maybe("error.type", attempt.error)
        .text("drover.backend", &*attempt.backend)
        .text("drover.attempt.why", attempt.why.as_str());
    Span {
        kind: SpanKind::Client.into(),
        parent_span_id: turn.context.span_id(0).to_vec(),
        end_time_unix_nano: turn.at(attempt.ended),
        attributes: attributes.done(),
        ..span(turn, index + 1, turn.at(attempt.began), attempt.error)
    }
}

/// What every span has.
fn span(turn: &TracedTurn, number: usize, start: u64, error: Option<&str>) -> Span {
    let model = turn.record.model.as_ref();
    let operation = turn.operation.as_str();
    Span {
        trace_id: turn.context.trace_id().to_vec(),
        span_id: turn.context.span_id(number).to_vec(),
        name: model.map_or(operation.to_owned(), |model| format!("{operation} {model}")),
        start_time_unix_nano: start,
        status: error.map(|error| Status {
            message: error.to_owned(),
            code: StatusCode::Error.into(),
        }),
        ..Span::default()
    }
}

fn common(turn: &TracedTurn) -> Attributes {
    Attributes::default()
        .text("gen_ai.operation.name", turn.operation.as_str())
        .text("gen_ai.provider.name", PROVIDER)
        .maybe("gen_ai.request.model", turn.record.model.as_ref())
}

fn events(turn: &TracedTurn) -> Vec<Event> {
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
    let first = turn.first_token.map(|at| event("first_token", turn.at(at)));
    let interventions = turn.interventions.iter().map(|done| Event {
        attributes: Attributes::default()
            .text("drover.intervention.kind", done.kind)
            .text("drover.intervention.mode", done.mode.as_str())
            .number("drover.attempt", u64::from(done.attempt))
            .done(),
        ..event("drover.intervention", after(done.attempt))
    });
    let decisions = turn.decisions.iter().map(|decision| Event {
        attributes: Attributes::default()
            .text("drover.policy.rule", &*decision.rule)
            .text("drover.policy.stage", decision.stage)
            .text("drover.policy.decision", decision.decision)
            .text("drover.policy.mode", decision.mode)
            .text(
                "gen_ai.tool.name",
                ClientText::new(&decision.tool).to_string(),
            )
            .done(),
        ..event("drover.policy", end)
    });
    let mut all: Vec<Event> = first
        .into_iter()
        .chain(interventions)
        .chain(decisions)
        .collect();
    all.sort_by_key(|event| event.time_unix_nano);
    all
}

fn event(name: &str, at: u64) -> Event {
    Event {
        time_unix_nano: at,
        name: name.to_owned(),
        ..Event::default()
    }
}

impl TracedTurn {
    /// Nanoseconds since 1970.
    fn at(&self, then: Instant) -> u64 {
        nanos(self.record.time + then.saturating_duration_since(self.started))
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Attributes of a span, in the order they are named; absent ones are left out.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn text(self, key: &str, text: impl Into<String>) -> Self {
        self.value(key, Value::StringValue(text.into()))
    }

    fn maybe(self, key: &str, text: Option<impl ToString>) -> Self {
        match text {
            Some(text) => self.text(key, text.to_string()),
            None => self,
        }
    }

    fn number(self, key: &str, number: u64) -> Self {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.value(key, Value::IntValue(number))
    }

    fn maybe_number(self, key: &str, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.number(key, number),
            None => self,
        }
    }

    fn micros(self, key: &str, took: Option<Duration>) -> Self {
        let micros = took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.maybe_number(key, micros)
    }

    fn list(self, key: &str, only: Option<&str>) -> Self {
        let Some(only) = only else { return self };
        let values = vec![any(Value::StringValue(only.to_owned()))];
        self.value(key, Value::ArrayValue(ArrayValue { values }))
    }

    fn usage(self, usage: Option<Usage>) -> Self {
        let Some(usage) = usage else { return self };
        self.number("gen_ai.usage.input_tokens", usage.prompt)
            .number("gen_ai.usage.cache_read.input_tokens", usage.cached)
            .number("gen_ai.usage.output_tokens", usage.completion)
    }

    fn value(mut self, key: &str, value: Value) -> Self {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(any(value)),
            ..KeyValue::default()
        });
        self
    }

    fn done(self) -> Vec<KeyValue> {
        self.0
    }
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}
