//! Early release: a large text in a call reaches the client as it is generated.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::response::Event;
use crate::support::script::{delta, role, tool_call};
use crate::support::*;

const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/messages", "/v1/responses"];

/// Longer than what is held until it is worth it.
const LARGE: usize = 4000;

fn request(path: &str, stream: bool) -> Request {
    let schema = json!({"type": "object", "additionalProperties": false,
        "properties": {"path": {"type": "string"}, "content": {"type": "string"}, "mode": {"type": "integer"}},
        "required": ["path", "content"]});
    let tool = match path {
        "/v1/messages" => json!({"name": "Write", "input_schema": schema}),
        "/v1/responses" => json!({"type": "function", "name": "Write", "parameters": schema}),
        _ => json!({"type": "function", "function": {"name": "Write", "parameters": schema}}),
    };
    let prompt = match path {
        "/v1/responses" => "input",
        _ => "messages",
    };
    let messages = json!([{"role": "user", "content": "write it"}]);
    let body = json!({"model": "m", "max_tokens": 9999, prompt: messages, "tools": [tool], "stream": stream});
    post(path, body.to_string())
}

/// The arguments in an event, if it has some.
fn piece(event: &Event) -> Option<String> {
    let json: Value = serde_json::from_str(&event.data).ok()?;
    let openai = &json["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"];
    let anthropic = &json["delta"]["partial_json"];
    let responses = match json["type"].as_str() {
        Some("response.function_call_arguments.delta") => &json["delta"],
        _ => &Value::Null,
    };
    let found = [openai, anthropic, responses].into_iter();
    found.filter_map(Value::as_str).map(str::to_owned).next()
}

fn opens(name: &str) -> Reply {
    let begin = tool_call(0, "c1", name, "");
    Reply::stream().event(&role()).event(&begin)
}

/// `arguments`, a few bytes an event.
fn writes(mut reply: Reply, arguments: &str) -> Reply {
    let letters: Vec<char> = arguments.chars().collect();
    for few in letters.chunks(97) {
        let more: String = few.iter().collect();
        let more = json!({"tool_calls": [{"index": 0, "function": {"arguments": more}}]});
        reply = reply.event(&delta(more));
    }
    reply
}

async fn gateway(backend: &Backend, preset: &str) -> Gateway {
    Setup::to(&[backend])
        .set("guard.preset", json!(preset))
        .set("guard.tool_calls.early_release", json!(true))
        .start()
        .await
}

/// A file of which every line has something to escape.
fn file(size: usize) -> String {
    let lines = (0..).map(|n| format!("line {n}: \"é\"\t\\n {}}}}}\n", '\u{1f600}'));
    let mut text = String::new();
    for line in lines {
        if text.len() > size {
            return text;
        }
        text.push_str(&line);
    }
    text
}

#[rstest]
#[tokio::test]
async fn the_text_comes_before_the_call_is_complete(#[values(0, 1, 2)] dialect: usize) {
    let path = PATHS[dialect];
    let gate = Gate::new();
    let text = file(LARGE);
    let arguments = format!(r#"{{"mode":7,"path":"/x","content":{}}}"#, json!(text));
    let half = arguments
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| *at > LARGE / 2)
        .unwrap();
    let (first, second) = arguments.split_at(half);
    let reply = writes(opens("Write"), first).gate(&gate);
    let backend = Backend::replying(writes(reply, second).ends("tool_calls")).await;
    let gateway = gateway(&backend, "standard").await;
    let mut client = gateway.connect().await;
    client.send(&request(path, true)).await;
    let mut answer = client.answer().await;
    let mut got = String::new();
    // All of the first half but for what may be half an escape comes while the backend waits.
    while got.len() < half - 10 {
        let event = answer.event().await.expect("more of the call");
        got.extend(piece(&event));
    }
    gate.open();
    while let Some(event) = answer.event().await {
        got.extend(piece(&event));
    }
    assert_eq!(got, arguments);
}

/// What comes after the text is judged before it is released.
#[rstest]
#[case::the_last_brace_is_missing("", true)]
#[case::a_comma_too_many(",}", true)]
#[case::a_valid_argument(r#","mode":7}"#, true)]
#[case::an_invalid_argument(r#","mode":"x"}"#, false)]
#[case::an_unknown_argument(r#","other":1}"#, false)]
#[tokio::test]
async fn the_end_of_the_call_is_judged(#[case] end: &str, #[case] good: bool) {
    let content = Value::from(file(LARGE)).to_string();
    let arguments = format!(r#"{{"path":"/x","content":{content}{end}"#);
    let backend = Backend::replying(writes(opens("Write"), &arguments).ends("tool_calls")).await;
    let gateway = gateway(&backend, "standard").await;
    for path in PATHS {
        let response = gateway.ask(&request(path, true)).await;
        let got: String = response.events().iter().filter_map(piece).collect();
        let all = response.text();
        if good {
            let call: Value = serde_json::from_str(&got).unwrap_or_else(|e| panic!("{e}: {got}"));
            assert_eq!(call["content"].to_string(), content);
            assert!(!all.contains("error\":{"), "{path}: {all}");
        } else {
            assert!(serde_json::from_str::<Value>(&got).is_err(), "{path}");
            assert_failed(&response);
        }
    }
    gateway.idle().await;
    let half_sent = gateway
        .metric(
            "drover_interventions_total",
            r#"kind="half_sent_call",mode="act""#,
        )
        .await;
    assert_eq!(half_sent, if good { 0.0 } else { 3.0 });
    // What cannot be taken back is not asked for again, and nobody else can help.
    assert_eq!(backend.requests().len(), 3);
}

fn assert_failed(response: &Response) {
    let text = response.text();
    assert_eq!(response.status, 200);
    assert!(text.contains("could not be completed"), "{text}");
    for clean in [
        "[DONE]",
        "message_stop",
        "response.completed",
        "finish_reason\":\"tool",
    ] {
        assert!(!text.contains(clean), "{clean} in {text}");
    }
}

/// The token limit, the end of the connection and llama-server's own parser break a call off.
#[rstest]
#[tokio::test]
async fn a_call_that_breaks_off_fails_the_stream(#[values(0, 1, 2)] how: usize) {
    let begun = format!(r#"{{"path":"/x","content":"{}"#, "x".repeat(LARGE));
    let reply = writes(opens("Write"), &begun);
    let reply = match how {
        0 => reply.ends("length"),
        1 => reply.close(),
        _ => {
            let error = json!({"error": {"code": 500, "type": "server_error",
                "message": "The model produced output that does not match the expected peg-native format"}});
            reply.event(&error).end()
        }
    };
    for path in PATHS {
        let backend = Backend::replying(reply.clone()).await;
        let gateway = gateway(&backend, "standard").await;
        let response = gateway.ask(&request(path, true)).await;
        let text = response.text();
        let got: String = response.events().iter().filter_map(piece).collect();
        assert!(
            begun.starts_with(&got) && got.len() > LARGE,
            "{path}: {text}"
        );
        assert!(text.contains("error"), "{path}: {text}");
        for clean in ["[DONE]", "message_stop", "response.completed"] {
            assert!(!text.contains(clean), "{path}: {clean} in {text}");
        }
        assert_eq!(backend.requests().len(), 1);
    }
}

/// Where the answer is held anyway a call that breaks off is asked for again, as ever.
#[rstest]
#[case::strict("strict", true)]
#[case::whole("standard", false)]
#[tokio::test]
async fn what_is_held_anyway_is_not_released(#[case] preset: &str, #[case] stream: bool) {
    let begun = format!(r#"{{"path":"/x","content":"{}"#, "x".repeat(LARGE));
    let good = r#"{"name":"Write","arguments":{"path":"/x","content":"short"}}"#;
    let backend = Backend::start().await;
    let gateway = gateway(&backend, preset).await;
    for path in PATHS {
        backend
            .then(writes(opens("Write"), &begun).ends("tool_calls"))
            .then(Reply::says(&[good]));
        let response = gateway.ask(&request(path, stream)).await;
        let text = response.text();
        assert_eq!(response.status, 200);
        assert!(
            text.contains("short") && !text.contains("xxxx"),
            "{path}: {text}"
        );
    }
    assert_eq!(backend.requests().len(), 6);
}

/// A tool by another name, a text that must be one of few, a small text: held until complete.
#[rstest]
#[case::another_name("write", LARGE)]
#[case::small("Write", 500)]
#[tokio::test]
async fn other_calls_are_held(#[case] name: &str, #[case] size: usize) {
    let gate = Gate::new();
    let arguments = json!({"content": "y", "path": "x".repeat(size)}).to_string();
    let (most, last) = arguments.split_at(arguments.len() - 1);
    let reply = writes(opens(name), most).gate(&gate);
    let backend = Backend::replying(writes(reply, last).ends("tool_calls")).await;
    let gateway = gateway(&backend, "standard").await;
    let mut client = gateway.connect().await;
    client.send(&request(PATHS[0], true)).await;
    // The answer's head comes with its first content, which is the call as a whole.
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), client.head()).await;
    assert!(early.is_err(), "{early:?}");
    gate.open();
    let mut answer = client.answer().await;
    let mut got = String::new();
    while let Some(event) = answer.event().await {
        got.extend(piece(&event));
    }
    assert_eq!(got, arguments);
}
