//! What is written is what the generated messages of the protocol decode.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::waiting::Waiting;
use super::*;
use crate::guard::intervention::Mode;
use crate::telemetry::access_log::ClientText;
use crate::telemetry::labels::{Dialect, Outcome};

/// A turn with everything, and what it borrows.
struct World {
    context: TraceContext,
    record: Record,
    started: Instant,
    attempts: Vec<Attempt>,
    usage: Vec<Usage>,
    interventions: Vec<Intervention>,
    decisions: Vec<Decision>,
}

impl World {
    fn new() -> Self {
        let started = Instant::now();
        let after = |ms| started + Duration::from_millis(ms);
        let mut record = Record::new("r1".into(), "POST", "/v1/messages", Dialect::Anthropic);
        record.time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        record.total = Duration::from_millis(900);
        record.client = Some(ClientText::new("claude-cli/2.1 (external, cli)"));
        record.model = Some(ClientText::new("a model"));
        record.session = Some("5e55".to_owned());
        record.pool = Some("p".to_owned());
        record.backend = Some("gpu1".to_owned());
        record.status = 502;
        record.outcome = Outcome::UpstreamError;
        record.attempts = 2;
        record.tokens_in = Some(300);
        record.tokens_cached = Some(0);
        record.tokens_out = Some(70_000);
        record.stop_reason = Some("end");
        record.overhead = Some(Duration::from_micros(180));
        let attempt = |why, backend: &str, address: &str, began, ended, error| Attempt {
            why,
            backend: backend.into(),
            address: address.to_owned(),
            began: after(began),
            ended: after(ended),
            error,
        };
        let decision = Decision {
            rule: "house.tests".into(),
            version: "1".into(),
            stage: "tool_call",
            level: "must",
            mode: "enforce",
            tool: "Bash\n".to_owned(),
            decision: "block",
            reason: "secret reason".to_owned(),
            old: None,
            new: None,
            acted: true,
            latency_us: 3,
        };
        Self {
            context: TraceContext::of(&HeaderMap::new(), 1.0),
            record,
            started,
            attempts: vec![
                attempt(Why::First, "gpu0", "[::1]:8080", 10, 300, Some("timeout")),
                attempt(Why::Failover, "gpu1", "backend.internal", 310, 890, None),
            ],
            usage: vec![
                Usage::default(),
                Usage {
                    prompt: 300,
                    completion: 70_000,
                    cached: 0,
                },
            ],
            interventions: vec![Intervention {
                kind: "reask",
                mode: Mode::Act,
                attempt: 1,
                before: None,
                after: None,
            }],
            decisions: vec![decision],
        }
    }

    fn turn(&self) -> TracedTurn<'_> {
        TracedTurn {
            context: &self.context,
            record: &self.record,
            operation: Operation::Chat,
            started: self.started,
            first_token: Some(self.started + Duration::from_millis(350)),
            attempts: &self.attempts,
            usage: &self.usage,
            interventions: &self.interventions,
            decisions: &self.decisions,
        }
    }
}

fn decoded(body: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(body).unwrap()
}

fn spans(body: &[u8]) -> Vec<Span> {
    let resources = decoded(body).resource_spans.into_iter();
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn text<'a>(all: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = all.iter().find(|pair| pair.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        other => panic!("{key}: {other:?}"),
    }
}

/// Byte for byte: no field is left out, doubled or unknown to the receiver.
#[test]
fn the_generated_messages_write_the_same() {
    let world = World::new();
    let mut all = otlp::spans(&world.turn());
    all.extend(otlp::spans(&world.turn()));
    let body = otlp::request("drover", &all);
    assert_eq!(spans(&body).len(), 6);
    assert!(decoded(&body).encode_to_vec() == body);
}

#[test]
fn a_turn_and_its_attempts_are_told() {
    let world = World::new();
    let body = otlp::request("drover", &otlp::spans(&world.turn()));
    let spans = spans(&body);
    let [turn, first, second] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!(turn.name, "chat a model");
    assert_eq!(
        turn.end_time_unix_nano - turn.start_time_unix_nano,
        900_000_000
    );
    assert_eq!(
        second.start_time_unix_nano - turn.start_time_unix_nano,
        310_000_000
    );
    assert_eq!(turn.status.as_ref().unwrap().message, "upstream_error");
    assert_eq!(first.status.as_ref().unwrap().message, "timeout");
    assert!(second.status.is_none());
    assert_eq!(text(&first.attributes, "server.address"), Some("[::1]"));
    assert_eq!(
        text(&second.attributes, "server.address"),
        Some("backend.internal")
    );
    let names = turn.events.iter().map(|event| &*event.name);
    let expected = ["drover.intervention", "first_token", "drover.policy"];
    assert!(names.eq(expected), "in the order of their time");
    let tool = text(&turn.events[2].attributes, "gen_ai.tool.name");
    assert_eq!(tool, Some("Bash\u{fffd}"));
    assert!(!String::from_utf8_lossy(&body).contains("secret reason"));
}

/// A name of several words had quotation marks around it, as it has in a line for people.
#[test]
fn names_of_clients_and_models_are_not_quoted() {
    let world = World::new();
    let turn = &spans(&otlp::request("drover", &otlp::spans(&world.turn())))[0];
    let has = |key| text(&turn.attributes, key);
    assert_eq!(
        has("user_agent.original"),
        Some("claude-cli/2.1 (external, cli)")
    );
    assert_eq!(has("gen_ai.request.model"), Some("a model"));
}

#[test]
fn turns_wait_in_batches_and_not_without_end() {
    let (world, waiting) = (World::new(), Waiting::default());
    let kept = (0..5000).filter(|_| waiting.push(&world.turn())).count();
    assert_eq!(kept, 4096);
    let mut turns = 0;
    while let Some(batch) = waiting.take() {
        assert_eq!(batch.turns, 256);
        let spans = spans(&otlp::request("drover", &batch.spans));
        assert_eq!(spans.len(), 3 * 256);
        turns += batch.turns;
    }
    assert_eq!(turns, 4096);
    assert!(waiting.push(&world.turn()), "there is room again");
}
