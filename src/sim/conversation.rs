//! The conversation part of a chat request: messages and tools.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    errors::ApiError,
    fields::{Fields, minify},
};

/// A message of the conversation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) text: String,
    pub(crate) reasoning: String,
    /// Name and arguments of each call.
    pub(crate) calls: Vec<(String, String)>,
}

/// A tool on offer.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) parameters: Value,
}

/// The tools of a request, in their order.
pub(crate) fn tools(raw: &str) -> Result<Vec<Tool>, ApiError> {
    let Ok(list) = serde_json::from_str::<Vec<Value>>(raw) else {
        let shown = minify(raw);
        return Err(ApiError::server(format!(
            "Failed to parse tools: Expected 'tools' to be an array, got {shown}; tools = {raw}"
        )));
    };
    let tool = |value: &Value| {
        let function = value.get("function").unwrap_or(value);
        Some(Tool {
            name: function.get("name")?.as_str()?.to_owned(),
            parameters: function.get("parameters").cloned().unwrap_or(Value::Null),
        })
    };
    Ok(list.iter().filter_map(tool).collect())
}

#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    reasoning_content: Option<Value>,
    #[serde(default, borrow)]
    tool_calls: Option<&'a RawValue>,
}

/// The messages of a request.
pub(crate) fn messages(fields: &Fields<'_>) -> Result<Vec<Message>, ApiError> {
    let raw = fields
        .raw("messages")
        .ok_or_else(|| ApiError::invalid("'messages' is required"))?;
    if !raw.starts_with('[') {
        return Err(ApiError::invalid("Expected 'messages' to be an array"));
    }
    let list: Vec<RawMessage<'_>> = serde_json::from_str(raw)
        .map_err(|_| ApiError::invalid("Expected 'messages' to be an array of objects"))?;
    list.into_iter().map(message).collect()
}

fn message(raw: RawMessage<'_>) -> Result<Message, ApiError> {
    let role = raw.role.unwrap_or_else(|| "user".into());
    let text = match raw.content {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts_text(&parts)?,
        _ if role != "assistant" => {
            return Err(ApiError::invalid(
                "All non-assistant messages must contain 'content'",
            ));
        }
        _ => String::new(),
    };
    let calls: Vec<Value> = raw
        .tool_calls
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    let part = |call: &Value, name: &str| match call.pointer(&format!("/function/{name}")) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    Ok(Message {
        role,
        text,
        reasoning: raw
            .reasoning_content
            .and_then(|r| r.as_str().map(str::to_owned))
            .unwrap_or_default(),
        calls: calls
            .iter()
            .map(|call| (part(call, "name"), part(call, "arguments")))
            .collect(),
    })
}

fn parts_text(parts: &[Value]) -> Result<String, ApiError> {
    let mut text = String::new();
    for part in parts {
        match part.get("type").and_then(Value::as_str) {
            Some("text") => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(part.get("text").and_then(Value::as_str).unwrap_or_default());
            }
            Some("image_url" | "input_audio") => {
                return Err(ApiError::server(
                    "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
                ));
            }
            _ => return Err(ApiError::invalid("unsupported content[].type")),
        }
    }
    Ok(text)
}
