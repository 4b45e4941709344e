//! OpenAI messages.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::dialect::json;
use crate::dialect::llama::{REMOTE_MEDIA, names_remote_media};
use crate::turn::{Content, Image, Message, Part, Role, ToolCall, ToolResult, TurnError};

/// Decode the `messages` array.
pub(super) fn decode(messages: &RawValue) -> Result<Vec<Message>, TurnError> {
    let raw = json::list("messages", messages)?;
    if raw.is_empty() {
        return Err(TurnError::bad_field(
            "messages",
            "`messages` must not be empty",
        ));
    }
    raw.into_iter()
        .enumerate()
        .map(|(position, raw)| decode_one(position, raw))
        .collect()
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    reasoning_content: Option<&'a RawValue>,
    tool_calls: Option<Vec<WireCall>>,
    #[serde(borrow, default, deserialize_with = "given")]
    tool_call_id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    name: Option<&'a RawValue>,
}

/// A member that is there, even if it is null.
fn given<'de: 'a, 'a, D: Deserializer<'de>>(value: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

#[derive(Deserialize)]
struct WireCall {
    #[serde(default)]
    id: Option<String>,
    r#type: Option<String>,
    function: WireFunction,
}

#[derive(Deserialize)]
struct WireFunction {
    name: String,
    /// JSON text, as the API has it, or the object itself, as some clients send it back.
    arguments: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct WirePart<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<WireImage>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireImage {
    Url(String),
    Object { url: String, detail: Option<String> },
}

/// Collects what a message says, and whether llama-server would understand the original as it is.
struct Reader {
    position: usize,
    as_is: bool,
}

fn decode_one(position: usize, raw: &RawValue) -> Result<Message, TurnError> {
    let mut reader = Reader {
        position,
        as_is: true,
    };
    let wire: Wire<'_> = serde_json::from_str(raw.get()).map_err(|error| reader.error(&error))?;
    let role = reader.role(&wire.role)?;
    let content = reader.content(wire.content)?;
    let thinking = reader.text(wire.reasoning_content);
    let call_id = reader.text(wire.tool_call_id);
    reader.text(wire.name);
    let mut parts = match role {
        Role::Tool => vec![reader.result(call_id, content)],
        _ => content,
    };
    if let Some(thinking) = thinking.filter(|text| !text.is_empty()) {
        parts.insert(0, Part::Thinking(thinking));
    }
    let mut calls = wire.tool_calls.unwrap_or_default();
    if role != Role::Assistant && !calls.is_empty() {
        // Nobody else calls tools; templates would not expect it.
        reader.as_is = false;
        calls.clear();
    }
    // Without content a message is only valid upstream if an assistant calls tools in it.
    let has_content = wire.content.is_some_and(|content| content.get() != "null");
    reader.as_is &= has_content || (role == Role::Assistant && !calls.is_empty());
    parts.extend(
        calls
            .into_iter()
            .map(|call| Part::ToolCall(reader.call(call))),
    );
    Ok(if reader.as_is {
        Message::with_verbatim(role, parts, raw.to_owned())
    } else {
        Message::new(role, parts)
    })
}

impl Reader {
    fn error(&self, what: &dyn std::fmt::Display) -> TurnError {
        let field = format!("messages[{}]", self.position);
        TurnError::bad_field(&field, format!("`{field}`: {what}"))
    }

    /// A text that llama-server wants to be a string if it is there at all.
    fn text(&mut self, raw: Option<&RawValue>) -> Option<String> {
        let raw = raw?;
        let text = serde_json::from_str(raw.get()).ok();
        self.as_is &= text.is_some();
        text
    }

    fn role(&mut self, name: &str) -> Result<Role, TurnError> {
        Ok(match name {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            // Templates know neither name.
            "developer" | "function" => {
                self.as_is = false;
                if name == "developer" {
                    Role::System
                } else {
                    Role::Tool
                }
            }
            other => return Err(self.error(&format!("unknown role `{other}`"))),
        })
    }

    fn content(&mut self, raw: Option<&RawValue>) -> Result<Vec<Part>, TurnError> {
        let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
            return Ok(Vec::new());
        };
        if raw.get().starts_with('"') {
            let text: String = serde_json::from_str(raw.get()).map_err(|e| self.error(&e))?;
            return Ok(vec![Part::Text(text)]);
        }
        let parts: Vec<&RawValue> = serde_json::from_str(raw.get())
            .map_err(|_| self.error(&"`content` must be a string or an array of parts"))?;
        parts.into_iter().map(|part| self.part(part)).collect()
    }

    fn part(&mut self, raw: &RawValue) -> Result<Part, TurnError> {
        let wire: WirePart<'_> = serde_json::from_str(raw.get()).map_err(|e| self.error(&e))?;
        if wire.r#type != "text" && names_remote_media(raw) {
            return Err(self.error(&REMOTE_MEDIA));
        }
        Ok(match (wire.r#type.as_ref(), wire.text, wire.image_url) {
            ("text", Some(text), _) => Part::Text(text),
            ("image_url", _, Some(image)) => Part::Image(self.image(image)?),
            // The backend knows whether its model takes them.
            ("input_audio" | "input_video" | "video_url", ..) => Part::Other(raw.get().to_owned()),
            (kind, text, _) => {
                self.as_is = false;
                let note = || {
                    format!("[A part of type {kind} was here that this gateway cannot pass on.]")
                };
                Part::Text(text.or(wire.refusal).unwrap_or_else(note))
            }
        })
    }

    fn image(&mut self, wire: WireImage) -> Result<Image, TurnError> {
        let (data_url, detail) = match wire {
            WireImage::Object { url, detail } => (url, detail),
            WireImage::Url(url) => {
                self.as_is = false;
                (url, None)
            }
        };
        if !data_url
            .get(..5)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
        {
            return Err(self.error(&REMOTE_MEDIA));
        }
        Ok(Image { data_url, detail })
    }

    fn result(&mut self, call_id: Option<String>, content: Vec<Part>) -> Part {
        let content = content
            .into_iter()
            .map(|part| match part {
                Part::Image(image) => Content::Image(image),
                Part::Text(text) | Part::Other(text) | Part::Thinking(text) => Content::Text(text),
                Part::ToolCall(_) | Part::ToolResult(_) => Content::Text(String::new()),
            })
            .collect();
        Part::ToolResult(ToolResult {
            call_id: call_id.unwrap_or_default(),
            content,
            is_error: false,
        })
    }

    fn call(&mut self, wire: WireCall) -> ToolCall {
        self.as_is &= wire.r#type.as_deref() == Some("function") && wire.id.is_some();
        let arguments = match wire.function.arguments {
            Some(raw) if raw.get().starts_with('"') => {
                serde_json::from_str(raw.get()).unwrap_or_default()
            }
            other => {
                self.as_is = false;
                other.map_or_else(|| "{}".to_owned(), |raw| raw.get().to_owned())
            }
        };
        ToolCall {
            id: wire.id.unwrap_or_default(),
            name: wire.function.name,
            arguments,
        }
    }
}

#[cfg(test)]
mod tests;
