//! Anthropic messages and their blocks.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::json;
use crate::dialect::llama::REMOTE_MEDIA;
use crate::turn::{Content, Image, Message, Part, Role, ToolCall, ToolResult, TurnError};

/// A block of Claude Code's system text that differs in every conversation and, at the very top of
/// the prompt, would keep conversations from sharing their KV cache.
const BILLING: &str = "x-anthropic-billing-header:";

/// Decode the `system` field: a text or text blocks.
pub(super) fn system(raw: &RawValue) -> Result<Option<Message>, TurnError> {
    let reader = Reader {
        path: "system".to_owned(),
    };
    let mut texts = reader.texts(raw)?;
    texts.retain(|text| !text.is_empty() && !text.starts_with(BILLING));
    let text = texts.join("\n\n");
    Ok((!text.is_empty()).then(|| Message::text(Role::System, text)))
}

/// Decode the `messages` field.
pub(super) fn messages(raw: &RawValue) -> Result<Vec<Message>, TurnError> {
    let raw = json::list("messages", raw)?;
    if raw.is_empty() {
        let message = "messages: at least one message is required";
        return Err(TurnError::bad_field("messages", message));
    }
    raw.into_iter()
        .enumerate()
        .map(|(position, raw)| message(position, raw))
        .collect()
}

#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    text: Option<String>,
    thinking: Option<String>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    id: Option<String>,
    name: Option<String>,
    title: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    tool_use_id: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(default)]
    is_error: Option<bool>,
}

#[derive(Deserialize)]
struct Source {
    r#type: String,
    media_type: Option<String>,
    data: Option<String>,
    url: Option<String>,
}

struct Reader {
    path: String,
}

fn message(position: usize, raw: &RawValue) -> Result<Message, TurnError> {
    let reader = Reader {
        path: format!("messages.{position}"),
    };
    let wire: WireMessage<'_> = serde_json::from_str(raw.get()).map_err(|e| reader.error(&e))?;
    let role = match wire.role.as_ref() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        // Claude Code puts them in the middle of conversations.
        "system" | "developer" => Role::System,
        other => return Err(reader.error(&format!("unknown role `{other}`"))),
    };
    let mut parts = match wire.content {
        Some(content) => reader.content(content)?,
        None => return Err(reader.error(&"content: Field required")),
    };
    parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
    Ok(Message::new(role, parts))
}

impl Reader {
    fn error(&self, what: &dyn std::fmt::Display) -> TurnError {
        TurnError::bad_field(&self.path, format!("{}: {what}", self.path))
    }

    fn content(&self, raw: &RawValue) -> Result<Vec<Part>, TurnError> {
        if raw.get().starts_with('"') {
            let text = serde_json::from_str(raw.get()).map_err(|e| self.error(&e))?;
            return Ok(vec![Part::Text(text)]);
        }
        self.blocks(raw)?
            .iter()
            .map(|block| self.part(block))
            .filter_map(Result::transpose)
            .collect()
    }

    fn blocks<'a>(&self, raw: &'a RawValue) -> Result<Vec<Block<'a>>, TurnError> {
        serde_json::from_str(raw.get())
            .map_err(|error| self.error(&format!("content must be a text or blocks ({error})")))
    }

    fn part(&self, block: &Block<'_>) -> Result<Option<Part>, TurnError> {
        Ok(Some(match block.r#type.as_ref() {
            "text" => Part::Text(block.text.clone().unwrap_or_default()),
            "thinking" => match block.thinking.clone().filter(|text| !text.is_empty()) {
                Some(text) => Part::Thinking(text),
                None => return Ok(None),
            },
            // Encrypted by and for Anthropic's models.
            "redacted_thinking" => return Ok(None),
            "image" => match self.image(block)? {
                Content::Image(image) => Part::Image(image),
                Content::Text(note) => Part::Text(note),
            },
            "tool_use" | "server_tool_use" => Part::ToolCall(ToolCall {
                id: block.id.clone().unwrap_or_default(),
                name: block.name.clone().unwrap_or_default(),
                arguments: block.input.map_or("{}", |raw| raw.get()).to_owned(),
            }),
            kind if kind.ends_with("tool_result") => Part::ToolResult(self.result(block)?),
            _ => match self.other(block) {
                Some(text) => Part::Text(text),
                None => return Ok(None),
            },
        }))
    }

    fn result(&self, block: &Block<'_>) -> Result<ToolResult, TurnError> {
        let content = match block.content {
            None => Vec::new(),
            Some(raw) if raw.get() == "null" => Vec::new(),
            Some(raw) if raw.get().starts_with('"') => {
                vec![Content::Text(
                    serde_json::from_str(raw.get()).map_err(|e| self.error(&e))?,
                )]
            }
            Some(raw) if raw.get().starts_with('[') => {
                let blocks = self.blocks(raw)?;
                let pieces = blocks.iter().map(|block| match block.r#type.as_ref() {
                    "image" => self.image(block).map(Some),
                    _ => Ok(self.other(block).map(Content::Text)),
                });
                pieces
                    .filter_map(Result::transpose)
                    .collect::<Result<_, _>>()?
            }
            // Results of server tools are objects.
            Some(raw) => vec![Content::Text(raw.get().to_owned())],
        };
        Ok(ToolResult {
            call_id: block.tool_use_id.clone().unwrap_or_default(),
            content,
            is_error: block.is_error.unwrap_or(false),
        })
    }

    fn image(&self, block: &Block<'_>) -> Result<Content, TurnError> {
        let source: Option<Source> = block
            .source
            .and_then(|raw| serde_json::from_str(raw.get()).ok());
        match source {
            Some(Source {
                r#type,
                media_type,
                data: Some(data),
                ..
            }) if r#type == "base64" => {
                let media_type = media_type.unwrap_or_else(|| "image/png".to_owned());
                let data_url = format!("data:{media_type};base64,{data}");
                Ok(Content::Image(Image {
                    data_url,
                    detail: None,
                }))
            }
            Some(Source { url: Some(_), .. }) => Err(self.error(&REMOTE_MEDIA)),
            _ => Ok(Content::Text(
                "[An image was here that this gateway cannot pass on.]".into(),
            )),
        }
    }

    /// A block of another kind: its text if it has one, else a note that something was there, so
    /// that neither the model nor a reader of the log is misled.
    fn other(&self, block: &Block<'_>) -> Option<String> {
        if let Some(text) = &block.text {
            return Some(text.clone());
        }
        let source: Option<Source> = block
            .source
            .and_then(|raw| serde_json::from_str(raw.get()).ok());
        if let Some(Source {
            r#type,
            data: Some(data),
            ..
        }) = source
            && r#type == "text"
        {
            return Some(match &block.title {
                Some(title) => format!("{title}\n\n{data}"),
                None => data,
            });
        }
        if let Some(content) = block.content
            && let Ok(texts) = self.texts(content)
            && !texts.is_empty()
        {
            return Some(texts.join("\n"));
        }
        match block.r#type.as_ref() {
            "tool_reference" => block.name.as_ref().map(|name| format!("[tool {name}]")),
            kind => Some(format!(
                "[A block of type {kind} was here that this gateway cannot pass on.]"
            )),
        }
    }

    /// The texts of a string or of text blocks.
    fn texts(&self, raw: &RawValue) -> Result<Vec<String>, TurnError> {
        if raw.get().starts_with('"') {
            return Ok(vec![
                serde_json::from_str(raw.get()).map_err(|e| self.error(&e))?,
            ]);
        }
        Ok(self
            .blocks(raw)?
            .into_iter()
            .filter_map(|block| block.text)
            .collect())
    }
}

#[cfg(test)]
mod tests;
