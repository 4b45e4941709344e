//! Guards through the real gateway: every dialect, streamed and whole.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::script::{delta, role, text};
use crate::support::*;

/// A request that offers one tool, in the dialect of `path`.
fn request(path: &str, stream: bool) -> Request {
    let schema =
        json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    let messages = json!([{"role": "user", "content": "list"}]);
    let tool = match path {
        "/v1/messages" => json!({"name": "ls", "input_schema": schema}),
        _ => json!({"type": "function", "function": {"name": "ls", "parameters": schema}}),
    };
    let body = json!({"model": "m", "max_tokens": 99, "messages": messages, "tools": [tool], "stream": stream});
    post(path, body.to_string())
}

fn call(arguments: &str) -> Value {
    delta(
        json!({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "ls", "arguments": arguments}}]}),
    )
}

fn answer(events: &[Value]) -> Reply {
    let mut reply = Reply::stream().event(&role());
    for event in events {
        reply = reply.event(event);
    }
    reply.ends("stop")
}

/// The pieces of arguments the client got, in either dialect and mode.
fn arguments(response: &Response) -> String {
    fn collect(value: &Value, out: &mut String) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    match (key.as_str(), value) {
                        ("arguments" | "partial_json", Value::String(more)) => out.push_str(more),
                        ("input", Value::Object(input)) if !input.is_empty() => {
                            out.push_str(&value.to_string());
                        }
                        _ => collect(value, out),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, out)),
            _ => {}
        }
    }
    let mut out = String::new();
    let text = response.text();
    for line in text.lines() {
        let json = line.strip_prefix("data: ").unwrap_or(line);
        if let Ok(value) = serde_json::from_str(json) {
            collect(&value, &mut out);
        }
    }
    out
}

#[rstest]
#[tokio::test]
async fn a_bad_call_is_repaired_or_asked_for_again(
    #[values("/v1/chat/completions", "/v1/messages")] path: &str,
    #[values(true, false)] streams: bool,
) {
    let backend = Backend::start().await;
    backend
        .then(answer(&[call(r#"{"wrong": 1}"#)]))
        .then(answer(&[text(r#"{"name":"ls","arguments":{"path":"a"}}"#)]))
        .then(answer(&[call(r#"{"path":"b",}"#)]))
        .then(answer(&[text(
            r#"<tool_call>{"name":"ls","arguments":{"path":"c"}}</tool_call>"#,
        )]));
    let gateway = Setup::to(&[&backend])
        .set("guard.preset", json!("standard"))
        .start()
        .await;
    for expected in [r#"{"path":"a"}"#, r#"{"path":"b"}"#, r#"{"path":"c"}"#] {
        let response = gateway.ask(&request(path, streams)).await;
        assert_eq!(response.status, 200);
        assert_eq!(arguments(&response), expected, "{}", response.text());
    }
    let reasked = gateway
        .metric("drover_attempts_total", r#"why="reask""#)
        .await;
    assert_eq!(reasked, 1.0);
    for kind in ["reask", "trailing_comma", "textual_call"] {
        let labels = format!(r#"kind="{kind}",mode="act""#);
        let count = gateway.metric("drover_interventions_total", &labels).await;
        assert_eq!(count, 1.0, "{kind}");
    }
    assert_eq!(backend.requests().len(), 4);
}

#[tokio::test]
async fn a_header_chooses_the_preset_where_nobody_needs_a_key() {
    let backend = Backend::replying(answer(&[call(r#"{"wrong": 1}"#)])).await;
    let gateway = Setup::to(&[&backend])
        .set("guard.preset", json!("standard"))
        .start()
        .await;
    let off = request("/v1/chat/completions", true).header("x-drover-guard", "off");
    let response = gateway.ask(&off).await;
    assert_eq!(arguments(&response), r#"{"wrong": 1}"#);
    assert_eq!(backend.requests().len(), 1);
}
