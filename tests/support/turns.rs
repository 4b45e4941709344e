//! Turns in every dialect and both stream modes, for what must hold in all of them.

use serde_json::{Value, json};

use super::*;

const RESPONSES: &str = "/v1/responses";

/// Paths of the dialects.
pub(crate) const DIALECTS: &[&str] = &["/v1/chat/completions", "/v1/messages", RESPONSES];

/// Every dialect in both stream modes.
pub(crate) fn modes() -> impl Iterator<Item = (&'static str, bool)> {
    DIALECTS
        .iter()
        .flat_map(|path| [(*path, true), (*path, false)])
}

/// A turn after `rounds` calls with results of `size` bytes; `more` is added to the body.
pub(crate) fn agent(path: &str, stream: bool, rounds: usize, size: usize, more: &Value) -> Request {
    let anthropic = path == "/v1/messages";
    let mut messages = vec![json!({"role": "user", "content": "the task"})];
    for n in 0..rounds {
        let result = format!("{n}:{}", "x".repeat(size));
        let input = json!({"path": format!("file{n}")});
        let id = format!("call_{n}");
        if anthropic {
            messages.push(json!({"role": "assistant", "content": [
                {"type": "tool_use", "id": id, "name": "read", "input": input}]}));
            messages.push(json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": id, "content": result}]}));
        } else if path == RESPONSES {
            let arguments = input.to_string();
            messages.push(json!({"type": "function_call", "call_id": id, "name": "read", "arguments": arguments}));
            messages.push(json!({"type": "function_call_output", "call_id": id, "output": result}));
        } else {
            messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": id, "type": "function", "function": {"name": "read", "arguments": input.to_string()}}]}));
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": result}));
        }
    }
    ask(
        path,
        stream,
        &json!(messages),
        &[("read", json!({"type": "object"}))],
        more,
    )
}

/// The member that holds the conversation.
pub(crate) fn transcript(path: &str) -> &'static str {
    match path {
        RESPONSES => "input",
        _ => "messages",
    }
}

/// A turn with these messages and tools.
pub(crate) fn ask(
    path: &str,
    stream: bool,
    messages: &Value,
    tools: &[(&str, Value)],
    more: &Value,
) -> Request {
    let tool = |(name, schema): &(&str, Value)| match path {
        "/v1/messages" => json!({"name": name, "description": name, "input_schema": schema}),
        RESPONSES => {
            json!({"type": "function", "name": name, "description": name, "parameters": schema})
        }
        _ => {
            json!({"type": "function", "function": {"name": name, "description": name, "parameters": schema}})
        }
    };
    let tools: Vec<Value> = tools.iter().map(tool).collect();
    let limit = match path {
        RESPONSES => "max_output_tokens",
        _ => "max_tokens",
    };
    let mut body = json!({"model": "m", limit: 50, transcript(path): messages, "stream": stream, "tools": tools});
    for (key, value) in more.as_object().unwrap() {
        let key = if key == "max_tokens" { limit } else { key };
        body[key] = value.clone();
    }
    post(path, body.to_string()).header("x-session-id", "s")
}

/// A turn without tools.
pub(crate) fn plain(path: &str, stream: bool, said: &str) -> Request {
    let messages = json!([{"role": "user", "content": said}]);
    ask(path, stream, &messages, &[], &json!({"tools": []}))
}

/// A gateway with guards in front of `backend`.
pub(crate) async fn gateway(backend: &Backend, settings: &[(&str, Value)]) -> Gateway {
    let setup = Setup::to(&[backend]).set("guard.preset", json!("standard"));
    let set = |setup: Setup, (path, value): &(&str, Value)| setup.set(path, value.clone());
    settings.iter().fold(setup, set).start().await
}

/// The messages of the last generation asked of the backend.
pub(crate) fn sent(backend: &Backend) -> Vec<Value> {
    let last = backend.requests().pop().expect("a request");
    assert!(
        last.line.contains("/v1/chat/completions HTTP"),
        "{}",
        last.line
    );
    last.json()["messages"]
        .as_array()
        .expect("messages")
        .clone()
}

/// Interventions of a kind that were made.
pub(crate) async fn acted(gateway: &Gateway, kind: &str) -> f64 {
    let labels = format!(r#"kind="{kind}",mode="act""#);
    gateway.metric("drover_interventions_total", &labels).await
}
