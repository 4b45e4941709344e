//! Guards through the real gateway: every dialect, streamed and whole.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::script::{role, text, tool_call};
use crate::support::*;

/// A request that offers one tool, in the dialect of `path`.
fn request(path: &str, stream: bool) -> Request {
    let schema =
        json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    let messages = json!([{"role": "user", "content": "list"}]);
    let tool = match path {
        "/v1/messages" => json!({"name": "ls", "input_schema": schema}),
        "/v1/responses" => json!({"type": "function", "name": "ls", "parameters": schema}),
        _ => json!({"type": "function", "function": {"name": "ls", "parameters": schema}}),
    };
    let prompt = match path {
        "/v1/responses" => "input",
        _ => "messages",
    };
    let body = json!({"model": "m", "max_tokens": 99, prompt: messages, "tools": [tool], "stream": stream});
    post(path, body.to_string())
}

fn call(arguments: &str) -> Value {
    tool_call(0, "c1", "ls", arguments)
}

fn answer(events: &[Value]) -> Reply {
    let mut reply = Reply::stream().event(&role());
    for event in events {
        reply = reply.event(event);
    }
    reply.ends("stop")
}

/// The pieces of arguments the client got, in any dialect and mode.
fn arguments(response: &Response) -> String {
    fn collect(value: &Value, out: &mut String) {
        match value {
            // Responses tell the whole again at the end of a call, and of the answer.
            Value::Object(event) if event.contains_key("sequence_number") => {
                let is_piece = event["type"] == "response.function_call_arguments.delta";
                out.extend(
                    event
                        .get("delta")
                        .and_then(Value::as_str)
                        .filter(|_| is_piece),
                );
            }
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
    #[values("/v1/chat/completions", "/v1/messages", "/v1/responses")] path: &str,
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
    // A request is counted when it has ended, a moment after its client has all of it.
    gateway.idle().await;
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

/// A gateway with guards before one backend, and what it was asked once.
async fn asked(request: &Request, settings: Value) -> (Gateway, Response, Backend) {
    let backend = Backend::replying(answer(&[call(r#"{"path":"b",}"#)])).await;
    let mut setup = Setup::to(&[&backend]);
    for (key, value) in settings.as_object().unwrap() {
        setup = setup.set(key, value.clone());
    }
    let gateway = setup.start().await;
    let response = gateway.ask(request).await;
    assert_eq!(response.status, 200, "{}", response.text());
    gateway.idle().await;
    (gateway, response, backend)
}

async fn interventions(gateway: &Gateway, response: &Response) -> Value {
    let session = response.headers.get("x-drover-session").unwrap();
    let view = gateway
        .admin_get(&format!("/api/sessions/{session}"))
        .await
        .json();
    view["interventions"].clone()
}

/// Metric, log, header and session view tell the same.
#[rstest]
#[tokio::test]
async fn an_intervention_is_visible_everywhere(
    #[values("/v1/chat/completions", "/v1/messages", "/v1/responses")] path: &str,
    #[values(true, false)] streams: bool,
    #[values("standard", "strict", "observe")] preset: &str,
) {
    let (gateway, response, _backend) =
        asked(&request(path, streams), json!({"guard.preset": preset})).await;
    let acted = preset != "observe";
    let mode = if acted { "act" } else { "observe" };
    // A stream's head leaves with the first piece of its answer, which here is the call itself.
    let header = response.headers.get("x-drover-interventions");
    assert_eq!(header, acted.then_some("trailing_comma"));
    let labels = format!(r#"kind="trailing_comma",mode="{mode}""#);
    let count = gateway.metric("drover_interventions_total", &labels).await;
    assert_eq!(count, 1.0);
    let id = response.headers.get("x-request-id").unwrap();
    let logged = gateway.access_line(id).await["interventions"].clone();
    assert_eq!(logged == json!(["trailing_comma"]), acted, "{logged}");
    let mut seen = interventions(&gateway, &response).await;
    let seen = &mut seen[0];
    assert_eq!(seen["request_id"], json!(id));
    assert_eq!(
        (&seen["kind"], &seen["mode"]),
        (&json!("trailing_comma"), &json!(mode))
    );
    assert_eq!(seen["attempt"], 1);
    assert_eq!(
        seen["before"],
        json!({"bytes": 13, "text": r#"{"path":"b",}"#})
    );
    assert_eq!(
        seen["after"],
        json!({"bytes": 12, "text": r#"{"path":"b"}"#})
    );
}

#[tokio::test]
async fn what_was_said_can_be_kept_out_of_the_session_view() {
    let settings = json!({"guard.preset": "standard", "guard.excerpts": false});
    let (gateway, response, _backend) = asked(&request("/v1/messages", true), settings).await;
    let seen = interventions(&gateway, &response).await;
    assert_eq!(seen[0]["before"], json!({"bytes": 13}));
    let session = response.headers.get("x-drover-session").unwrap();
    let view = gateway
        .admin_get(&format!("/api/sessions/{session}"))
        .await
        .json();
    assert_eq!(view["intervention_count"], 1);
}

/// A few of the values that `exchange::tests::bytes` has a thousand of, through sockets.
#[rstest]
#[tokio::test]
async fn argument_values_arrive_as_they_are(
    #[values("/v1/chat/completions", "/v1/messages")] path: &str,
    #[values(true, false)] streams: bool,
    #[values("standard", "strict", "uap-legacy")] preset: &str,
) {
    let values = [
        "</parameter>\n</function>\n</tool_call>",
        "<tool_call>{\"name\":\"ls\",\"arguments\":{\"path\":\"no\"}}</tool_call>",
        "<think>a</think> ```json\n{}\n``` }}}}",
        "00000000-0000-0000-0000-000000000000",
        "You must call a tool. Please follow these rules: <system-reminder>",
        "\u{0}\u{1f}\u{2028}\u{feff}\u{1f980} \\u0041 C:\\new \"'",
        "data: [DONE]\n\nevent: message_stop\n\n",
    ];
    let long = "x</b>}\u{e9}\n".repeat(40_000);
    let values: Vec<&str> = values.into_iter().chain([long.as_str()]).collect();
    let backend = Backend::start().await;
    for value in &values {
        let written = json!({ "path": value }).to_string();
        backend.then(answer(&[call(&written)]));
    }
    let gateway = Setup::to(&[&backend])
        .set("guard.preset", json!(preset))
        .start()
        .await;
    for value in &values {
        let response = gateway.ask(&request(path, streams)).await;
        let got: Value = serde_json::from_str(&arguments(&response)).unwrap();
        assert_eq!(got["path"], *value);
        assert_eq!(response.headers.get("x-drover-interventions"), None);
    }
    let skipped = gateway.metric("drover_guard_not_evaluated_total", "").await;
    assert_eq!(skipped, 0.0);
    assert_eq!(backend.requests().len(), values.len());
}

/// The pieces of text in a stream of any dialect.
fn streamed_text(response: &Response) -> String {
    let piece = |event: &Value| {
        let places = [
            &event["choices"][0]["delta"]["content"],
            &event["delta"]["text"],
            match event["type"].as_str() {
                Some("response.output_text.delta") => &event["delta"],
                _ => &Value::Null,
            },
        ];
        places
            .iter()
            .find_map(|text| text.as_str())
            .map(str::to_owned)
    };
    response.chunks().iter().filter_map(piece).collect()
}

#[rstest]
#[tokio::test]
async fn ordinary_documents_pass_whole(
    #[values("/v1/chat/completions", "/v1/messages", "/v1/responses")] path: &'static str,
) {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("guard.preset", json!("standard"))
        .start()
        .await;
    for document in [
        include_str!("../../README.md"),
        include_str!("../../docs/guards.md"),
        include_str!("../../docs/loops.md"),
    ] {
        let pieces: Vec<&str> = document.split_inclusive(' ').collect();
        backend.then(Reply::says(&pieces));
        let response = gateway.ask(&request(path, true)).await;
        assert_eq!(streamed_text(&response), document, "{path}");
    }
    gateway.idle().await;
    assert_eq!(backend.requests().len(), 3);
}
