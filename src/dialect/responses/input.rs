//! The `input` of a request as messages.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::SEAL;
use super::content::{Element, not_passed_on};
use super::tools::Tools;
use crate::dialect::json;
use crate::turn::{Message, Part, Role, ToolCall, ToolResult, TurnError};

/// Append the messages of `input`, a text or a list of items.
pub(super) fn decode(
    raw: &RawValue,
    tools: &Tools,
    messages: &mut Vec<Message>,
) -> Result<(), TurnError> {
    if raw.get().starts_with('"') {
        messages.push(Message::text(
            Role::User,
            json::field::<String>("input", raw)?,
        ));
        return Ok(());
    }
    for (position, raw) in json::list("input", raw)?.into_iter().enumerate() {
        let item = Element::read(format!("input[{position}]"), raw)?;
        add(&item, tools, messages)?;
    }
    Ok(())
}

fn add(item: &Element<'_>, tools: &Tools, messages: &mut Vec<Message>) -> Result<(), TurnError> {
    let kind = item.text("type").unwrap_or_else(|| "message".to_owned());
    match kind.as_str() {
        "message" => {
            let role = role(item)?;
            say(messages, role, item.parts("content")?);
        }
        "reasoning" => say(messages, Role::Assistant, reasoning(item)?),
        "item_reference" => {
            let what = "this gateway stores no items; send the item itself";
            return Err(item.error(what));
        }
        kind if kind.ends_with("_output") && item.raw("call_id").is_some() => {
            let result = ToolResult {
                call_id: item.text("call_id").unwrap_or_default(),
                content: item.contents("output")?,
                is_error: false,
            };
            messages.push(Message::new(Role::Tool, vec![Part::ToolResult(result)]));
        }
        kind if kind.ends_with("_call") && item.raw("call_id").is_some() => {
            let call = Part::ToolCall(call(item, kind, tools));
            say(messages, Role::Assistant, vec![call]);
        }
        // A tool of OpenAI's service: what came of it is in the answer that follows.
        kind if kind.ends_with("_call") => {}
        kind => {
            let texts = [item.texts("content")?, item.texts("summary")?];
            let text = texts.into_iter().find(|text| !text.is_empty());
            let text = text.unwrap_or_else(|| not_passed_on(item, kind));
            say(messages, Role::System, vec![Part::Text(text)]);
        }
    }
    Ok(())
}

/// Items of one answer are one message; everybody else's stay apart.
fn say(messages: &mut Vec<Message>, role: Role, parts: Vec<Part>) {
    match messages.last_mut() {
        Some(last) if role == Role::Assistant && last.role() == role => {
            last.parts_mut().extend(parts);
        }
        _ => messages.push(Message::new(role, parts)),
    }
}

fn role(item: &Element<'_>) -> Result<Role, TurnError> {
    let role = item.text("role").unwrap_or_default();
    Ok(match role.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        other => return Err(item.error(&format!("unknown role `{other}`"))),
    })
}

/// Reasoning that was sent back: the text itself, else what we sealed, else its summary. What another
/// service sealed cannot be read.
fn reasoning(item: &Element<'_>) -> Result<Vec<Part>, TurnError> {
    let sealed = || {
        let sealed = item.text("encrypted_content")?;
        sealed.strip_prefix(SEAL).map(str::to_owned)
    };
    let text = Some(item.texts("content")?).filter(|text| !text.is_empty());
    let text = match text.or_else(sealed) {
        Some(text) => text,
        None => item.texts("summary")?,
    };
    Ok(if text.is_empty() {
        Vec::new()
    } else {
        vec![Part::Thinking(text)]
    })
}

/// A call of the history in the form the model made it.
fn call(item: &Element<'_>, kind: &str, tools: &Tools) -> ToolCall {
    #[derive(Serialize)]
    struct Freeform {
        input: String,
    }
    /// As the model is told to write them.
    #[derive(Deserialize, Serialize)]
    struct ShellArguments<'a> {
        #[serde(borrow)]
        command: &'a RawValue,
        #[serde(borrow, skip_serializing_if = "Option::is_none")]
        working_directory: Option<&'a RawValue>,
        #[serde(borrow, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<&'a RawValue>,
    }
    let (name, arguments) = match kind {
        "function_call" => {
            let arguments = item.text("arguments");
            let object = || item.raw("arguments").map(|raw| raw.get().to_owned());
            let arguments = arguments.or_else(object);
            (item.text("name"), arguments.unwrap_or_default())
        }
        "custom_tool_call" => {
            let input = item.text("input").unwrap_or_default();
            let arguments = json::raw(&Freeform { input });
            (item.text("name"), arguments.get().to_owned())
        }
        "local_shell_call" => {
            let action = item.raw("action");
            let action =
                action.and_then(|raw| serde_json::from_str::<ShellArguments<'_>>(raw.get()).ok());
            let arguments = action.map(|action| json::raw(&action).get().to_owned());
            (None, arguments.unwrap_or_default())
        }
        _ => {
            let what = ["action", "operation", "arguments", "input"];
            let what = what.iter().find_map(|name| item.raw(name));
            let arguments = what.map(|raw| raw.get().to_owned());
            (item.text("name"), arguments.unwrap_or_default())
        }
    };
    let name = name.unwrap_or_else(|| kind.trim_end_matches("_call").to_owned());
    ToolCall {
        id: item.text("call_id").unwrap_or_default(),
        name: tools.upstream_name(item.text("namespace").as_deref(), &name),
        arguments,
    }
}

#[cfg(test)]
mod tests;
