//! Traces, as a receiver of OTLP decodes them.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use serde_json::{Value, json};

use crate::support::script::tool_call;
use crate::support::wait::eventually;
use crate::support::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNRECORDED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

async fn receiver() -> Backend {
    Backend::replying(Reply::whole(200, "application/x-protobuf", "")).await
}

fn traced(backends: &[&Backend], receiver: &Backend) -> Setup {
    Setup::to(backends).set("telemetry.otlp", json!({"endpoint": receiver.url()}))
}

/// The spans the receiver has got.
fn spans(receiver: &Backend) -> Vec<Span> {
    let requests = receiver.requests();
    let exports = requests
        .iter()
        .map(|r| ExportTraceServiceRequest::decode(&*r.body).unwrap());
    let resources = exports.flat_map(|export| export.resource_spans);
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

async fn received(receiver: &Backend, count: usize) -> Vec<Span> {
    eventually("spans", || async {
        let spans = spans(receiver);
        (spans.len() >= count).then_some(spans)
    })
    .await
}

fn plain(value: &AnyValue) -> Value {
    match value.value.as_ref().unwrap() {
        Any::StringValue(text) => json!(text),
        Any::IntValue(number) => json!(number),
        Any::ArrayValue(list) => list.values.iter().map(plain).collect(),
        other => panic!("{other:?}"),
    }
}

fn attributes(all: &[KeyValue]) -> HashMap<&str, Value> {
    let pairs = all.iter();
    pairs
        .map(|a| (&*a.key, plain(a.value.as_ref().unwrap())))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `traceparent` of each request a backend has got.
fn told(backend: &Backend) -> Vec<Option<String>> {
    let requests = backend.requests();
    let parents = requests.iter().map(|r| r.headers.get("traceparent"));
    parents.map(|parent| parent.map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_turn_goes_on_with_its_clients_trace() {
    let (backend, receiver) = (Backend::start().await, receiver().await);
    let gateway = traced(&[&backend], &receiver).start().await;
    let request = stream()
        .header("traceparent", PARENT)
        .header("tracestate", "a=1");
    let response = gateway.ask(&request).await;
    let spans = received(&receiver, 2).await;
    let [turn, attempt] = spans.as_slice() else {
        panic!("{spans:?}")
    };
    assert_eq!(
        (hex(&turn.trace_id), hex(&turn.parent_span_id)),
        (TRACE.into(), "00f067aa0ba902b7".into())
    );
    assert_eq!(
        (&attempt.trace_id, &attempt.parent_span_id),
        (&turn.trace_id, &turn.span_id)
    );
    assert_eq!(
        (turn.kind, attempt.kind),
        (SpanKind::Server as i32, SpanKind::Client as i32)
    );
    assert_eq!((&*turn.name, &*attempt.name), ("chat m", "chat m"));
    let expected = format!("00-{TRACE}-{}-01", hex(&attempt.span_id));
    assert_eq!(told(&backend), [Some(expected)]);
    assert_eq!(backend.requests()[0].headers.get("tracestate"), Some("a=1"));
    let request_id = response.headers.get("x-request-id").unwrap();
    let has = attributes(&turn.attributes);
    for (key, value) in [
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("llama.cpp")),
        ("gen_ai.request.model", json!("m")),
        ("gen_ai.usage.input_tokens", json!(11)),
        ("gen_ai.usage.cache_read.input_tokens", json!(3)),
        ("gen_ai.usage.output_tokens", json!(4)),
        ("gen_ai.response.finish_reasons", json!(["end"])),
        ("http.response.status_code", json!(200)),
        ("url.path", json!("/v1/chat/completions")),
        ("drover.request_id", json!(request_id)),
        ("drover.backend", json!("b0")),
        ("drover.outcome", json!("ok")),
    ] {
        assert_eq!(has.get(key), Some(&value), "{key} in {has:?}");
    }
    assert!(turn.status.is_none() && attempt.status.is_none());
    let address = backend.url();
    let (host, port) = address
        .trim_start_matches("http://")
        .split_once(':')
        .unwrap();
    let has = attributes(&attempt.attributes);
    assert_eq!(
        (&has["server.address"], &has["server.port"]),
        (&json!(host), &json!(port.parse::<u16>().unwrap()))
    );
    assert_eq!(turn.events[0].name, "first_token");
    assert!(turn.start_time_unix_nano <= attempt.start_time_unix_nano);
    assert!(attempt.start_time_unix_nano <= turn.events[0].time_unix_nano);
    assert!(attempt.end_time_unix_nano <= turn.end_time_unix_nano);
    assert_eq!(gateway.access_line(request_id).await["trace_id"], TRACE);
    assert!(receiver.requests()[0].line.starts_with("POST /v1/traces "));
    let sent = || async {
        (gateway
            .metric("drover_traces_total", r#"result="sent""#)
            .await
            == 1.0)
            .then_some(())
    };
    eventually("the trace is counted", sent).await;
}

#[tokio::test]
async fn each_attempt_is_a_span_of_its_own() {
    let (dead, alive, receiver) = (
        Backend::start().await,
        Backend::start().await,
        receiver().await,
    );
    for backend in [&dead, &alive] {
        backend.then(Reply::error(500, "server_error", "Compute error."));
    }
    let gateway = traced(&[&dead, &alive], &receiver)
        .set("telemetry.otlp.service", json!("front"))
        .start()
        .await;
    gateway.ask(&stream()).await;
    let spans = received(&receiver, 3).await;
    let whys: Vec<Value> = spans[1..]
        .iter()
        .map(|s| attributes(&s.attributes)["drover.attempt.why"].clone())
        .collect();
    assert_eq!(whys, ["first", "failover"]);
    for (number, span) in spans[1..].iter().enumerate() {
        assert_eq!(
            span.status.as_ref().unwrap().message,
            "upstream",
            "attempt {number}"
        );
        assert_eq!(
            attributes(&span.attributes)["http.request.resend_count"],
            number
        );
    }
    assert_eq!(attributes(&spans[0].attributes)["error.type"], "upstream");
    let mut ids: Vec<_> = spans.iter().map(|span| span.span_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert_ne!(told(&dead), told(&alive));
    let export = ExportTraceServiceRequest::decode(&*receiver.requests()[0].body).unwrap();
    let resource = export.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(attributes(&resource.attributes)["service.name"], "front");
}

#[tokio::test]
async fn guards_and_policy_are_events_without_texts() {
    let (backend, receiver) = (Backend::start().await, receiver().await);
    let rule = json!({"id": "look", "on": "tool_call", "mode": "dry_run", "when": "tool.name == \"ls\"",
        "then": {"block": {"reason": "secret-reason"}}});
    let gateway = traced(&[&backend], &receiver)
        .set("guard.preset", json!("standard"))
        .set(
            "policy",
            json!({"rules": [rule], "profiles": {"p": ["look"]}, "profile": "p"}),
        )
        .start()
        .await;
    let again = r#"{"name": "ls", "arguments": {"path": "secret-path"}}"#;
    let bad = Reply::stream().event(&tool_call(0, "c1", "ls", r#"{"path": "secret-argument"#));
    backend.then(bad.ends("stop")).then(Reply::says(&[again]));
    let schema =
        json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    let body = json!({"messages": [{"role": "user", "content": "secret-prompt"}],
        "tools": [{"type": "function", "function": {"name": "ls", "parameters": schema}}]});
    gateway.ask(&chat(body)).await;
    let spans = received(&receiver, 2).await;
    let events: Vec<_> = spans[0]
        .events
        .iter()
        .map(|e| (&*e.name, attributes(&e.attributes)))
        .collect();
    assert!(
        events
            .iter()
            .any(|(name, _)| *name == "drover.intervention"),
        "{events:?}"
    );
    let decided = events.iter().find(|(name, _)| *name == "drover.policy");
    let (_, decided) = decided.unwrap_or_else(|| panic!("{events:?}"));
    assert_eq!(
        (
            &decided["drover.policy.rule"],
            &decided["drover.policy.decision"]
        ),
        (&json!("look"), &json!("block"))
    );
    assert_eq!(
        (&decided["drover.policy.mode"], &decided["gen_ai.tool.name"]),
        (&json!("dry_run"), &json!("ls"))
    );
    for request in receiver.requests() {
        assert!(!String::from_utf8_lossy(&request.body).contains("secret"));
    }
}

#[tokio::test]
async fn without_a_receiver_nothing_is_traced() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let response = gateway.ask(&stream().header("traceparent", PARENT)).await;
    assert_eq!(told(&backend), [None]);
    let id = response.headers.get("x-request-id").unwrap();
    assert!(gateway.access_line(id).await.get("trace_id").is_none());
}

#[tokio::test]
async fn what_is_not_recorded_is_handed_on_only() {
    let (backend, receiver) = (Backend::start().await, receiver().await);
    let gateway = traced(&[&backend], &receiver)
        .set("telemetry.otlp.sample", json!(0.0))
        .start()
        .await;
    gateway.ask(&stream()).await;
    gateway
        .ask(&stream().header("traceparent", UNRECORDED))
        .await;
    gateway.ask(&stream().header("traceparent", PARENT)).await;
    let spans = received(&receiver, 2).await;
    assert_eq!(spans.len(), 2, "of the last turn only");
    let told: Vec<String> = told(&backend).into_iter().flatten().collect();
    assert!(
        told[0].ends_with("-00") && !told[0].contains(TRACE),
        "{told:?}"
    );
    assert!(
        told[1].starts_with(&format!("00-{TRACE}-")) && told[1].ends_with("-00"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_receiver_that_is_away_is_tried_again() {
    let (backend, receiver) = (Backend::start().await, receiver().await);
    receiver.then(Reply::error(503, "unavailable", "busy"));
    let gateway = traced(&[&backend], &receiver)
        .set("telemetry.otlp.token_env", json!("OTLP_KEY"))
        .env("OTLP_KEY", "s3cret")
        .start()
        .await;
    assert_eq!(gateway.ask(&stream()).await.status, 200);
    receiver.request(1).await;
    let requests = receiver.requests();
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(
        requests[1].headers.get("authorization"),
        Some("Bearer s3cret")
    );
    receiver.then(Reply::error(400, "invalid", "no"));
    assert_eq!(gateway.ask(&stream()).await.status, 200);
    let failed = || async {
        (gateway
            .metric("drover_traces_total", r#"result="failed""#)
            .await
            == 1.0)
            .then_some(())
    };
    eventually("what it refuses is given up", failed).await;
    assert!(
        !gateway
            .admin_get("/api/config")
            .await
            .text()
            .contains("s3cret")
    );
}
