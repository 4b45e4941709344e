//! What llama-server and the strictest templates accept (b11434, `oaicompat_chat_params_parse` and
//! `common_chat_msgs_parse_oaicompat`), as a checker of request bodies.

use serde_json::Value;

use crate::dialect::llama::{Target, TemplateRules, chat_body};
use crate::turn::Turn;

pub(super) const STRICT: TemplateRules = TemplateRules::NONE;
pub(super) const LENIENT: TemplateRules = TemplateRules::ALL;

/// The body a backend with this template gets.
pub(super) fn upstream(turn: &Turn, rules: TemplateRules, vision: bool) -> Value {
    let target = Target {
        rules,
        vision: Some(vision),
        n_ctx: Some(4096),
        ..Target::default()
    };
    serde_json::from_slice(&chat_body(turn, None, target)).expect("the body is JSON")
}

/// The `messages` of [`upstream`].
pub(super) fn messages(turn: &Turn, rules: TemplateRules) -> Vec<Value> {
    upstream(turn, rules, false)["messages"]
        .as_array()
        .expect("messages")
        .clone()
}

/// Why the body would be refused.
pub(super) fn fault(body: &Value, rules: TemplateRules, vision: bool) -> Option<String> {
    let messages = body["messages"].as_array().filter(|m| !m.is_empty());
    let Some(messages) = messages else {
        return Some("no messages".into());
    };
    let bad = |what: &str, where_: &Value| Some(format!("{what}: {where_}"));
    for message in messages {
        if let Some(what) = message_fault(message, vision).or_else(|| calls_fault(message, rules)) {
            return bad(what, message);
        }
    }
    let roles: Vec<&str> = messages.iter().filter_map(|m| m["role"].as_str()).collect();
    if let Some(what) = order_fault(&roles, rules) {
        return Some(format!("{what}: {roles:?}"));
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        let function = &tool["function"];
        let described = function.get("description").is_none_or(Value::is_string);
        if tool["type"] != "function" || !function["name"].is_string() || !described {
            return bad("a tool llama-server does not take", tool);
        }
    }
    let choice = body.get("tool_choice");
    if choice.is_some_and(|choice| {
        !["auto", "none", "required"]
            .iter()
            .any(|name| choice == name)
    }) {
        return bad("tool_choice", body);
    }
    if body["stream"] != true || body["max_tokens"].as_u64().is_some_and(|max| max > 4096) {
        return bad("limits", body);
    }
    None
}

fn message_fault(message: &Value, vision: bool) -> Option<&'static str> {
    let role = message["role"].as_str();
    if !role.is_some_and(|role| ["system", "user", "assistant", "tool"].contains(&role)) {
        return Some("unknown role");
    }
    let calls = message.get("tool_calls");
    match message.get("content") {
        Some(Value::String(_) | Value::Null) => {}
        Some(Value::Array(parts)) => {
            if let Some(what) = parts.iter().find_map(|part| part_fault(part, vision)) {
                return Some(what);
            }
        }
        None if role == Some("assistant") && calls.is_some() => {}
        _ => return Some("content"),
    }
    for name in ["reasoning_content", "name", "tool_call_id"] {
        if message.get(name).is_some_and(|value| !value.is_string()) {
            return Some("a field that must be a string");
        }
    }
    let calls = calls.and_then(Value::as_array).into_iter().flatten();
    calls.into_iter().find_map(call_fault)
}

fn part_fault(part: &Value, vision: bool) -> Option<&'static str> {
    match part["type"].as_str() {
        Some("text") if part["text"].is_string() => None,
        Some("image_url") if !vision => Some("an image for a model that cannot see"),
        Some("image_url") => {
            let inline = part["image_url"]["url"].as_str();
            let inline = inline.is_some_and(|url| url.to_ascii_lowercase().starts_with("data:"));
            (!inline).then_some("a remote image")
        }
        Some(kind @ ("input_audio" | "input_video" | "video_url")) => {
            let remote = part[kind].to_string().to_ascii_lowercase().contains("http");
            remote.then_some("remote media")
        }
        _ => Some("a part llama-server does not know"),
    }
}

fn call_fault(call: &Value) -> Option<&'static str> {
    let function = &call["function"];
    if call["type"] != "function" || !call["id"].is_string() || !function["name"].is_string() {
        return Some("a malformed call");
    }
    let arguments = function["arguments"].as_str().unwrap_or("not a text");
    let arguments = serde_json::from_str::<Value>(arguments);
    (!arguments.is_ok_and(|value| value.is_object())).then_some("arguments that are no object")
}

fn calls_fault(message: &Value, rules: TemplateRules) -> Option<&'static str> {
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    let mut ids = calls
        .map(|call| &call["id"])
        .chain(
            message
                .get("tool_call_id")
                .filter(|_| message["role"] == "tool"),
        )
        .filter_map(Value::as_str);
    let several = message["tool_calls"]
        .as_array()
        .is_some_and(|calls| calls.len() > 1);
    if several && message["role"] == "assistant" && !rules.parallel_calls {
        return Some("several calls in one message");
    }
    let short = |id: &str| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric());
    (!rules.any_call_id && ids.any(|id| !short(id))).then_some("an id Mistral's templates refuse")
}

fn order_fault(roles: &[&str], rules: TemplateRules) -> Option<&'static str> {
    if roles
        .windows(2)
        .any(|pair| pair == ["assistant", "assistant"])
    {
        return Some("two answers in a row");
    }
    if rules == LENIENT {
        return None;
    }
    if roles.iter().find(|role| **role != "system") == Some(&"assistant") {
        return Some("the assistant begins");
    }
    if roles.iter().skip(1).any(|role| *role == "system") {
        return Some("system in the middle");
    }
    let refused = [["user", "user"], ["tool", "user"]];
    let refused = roles
        .windows(2)
        .any(|pair| refused.iter().any(|r| pair == r));
    refused.then_some("a user message that should have been folded")
}
