//! Messages of a transcript.

use serde_json::value::RawValue;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions of the application. OpenAI's `developer` is decoded to this too.
    System,
    /// The human, or the agent program speaking for them.
    User,
    /// The model.
    Assistant,
    /// A tool's result (OpenAI's own role; Anthropic carries results in user messages).
    Tool,
}

impl Role {
    /// The name llama-server's chat templates know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One message. The typed parts are the truth that guards read.
///
/// `verbatim` is the message exactly as the client wrote it, when llama-server understands it as it
/// stands: forwarding it keeps the history's bytes and every field this gateway does not know.
/// Changing a part drops it, so the two can never disagree.
#[derive(Clone, Debug)]
pub struct Message {
    role: Role,
    parts: Vec<Part>,
    verbatim: Option<Box<RawValue>>,
}

impl Message {
    /// A message that will be written from its parts.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self {
            role,
            parts,
            verbatim: None,
        }
    }

    /// A message of one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self::new(role, vec![Part::Text(text.into())])
    }

    /// A message already in the upstream's own form.
    pub fn with_verbatim(role: Role, parts: Vec<Part>, verbatim: Box<RawValue>) -> Self {
        Self {
            role,
            parts,
            verbatim: Some(verbatim),
        }
    }

    /// Who speaks.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What is said.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The parts, to be changed: from here on the message is written from them.
    pub fn parts_mut(&mut self) -> &mut Vec<Part> {
        self.verbatim = None;
        &mut self.parts
    }

    /// The client's own bytes, while they still say the same as the parts.
    pub fn verbatim(&self) -> Option<&RawValue> {
        self.verbatim.as_deref()
    }

    /// The tool calls in this message, in order.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        })
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Visible text.
    Text(String),
    /// The model's reasoning, as the client returned it.
    Thinking(String),
    /// A picture.
    Image(Image),
    /// A call the model made.
    ToolCall(ToolCall),
    /// What a call returned.
    ToolResult(ToolResult),
    /// A part of a kind unknown here, in the client's own JSON.
    Other(String),
}

/// A picture. Only inline bytes: llama-server would fetch a remote address itself, which would let
/// any client make the backend call any host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// A complete `data:` URL (RFC 2397), as llama-server takes it.
    pub data_url: String,
    /// OpenAI's `detail`, kept as it came.
    pub detail: Option<String>,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Identifier that the result refers to.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// Arguments as JSON text, byte for byte as the model or the client wrote them.
    pub arguments: String,
}

/// What a tool returned.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// The [`ToolCall::id`] this answers.
    pub call_id: String,
    /// The returned content: text and images.
    pub content: Vec<Content>,
    /// Whether the tool reported a failure.
    pub is_error: bool,
}

/// Content inside a tool result.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text.
    Text(String),
    /// A picture.
    Image(Image),
}

impl ToolResult {
    /// The text of the result, pieces joined by newlines.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for piece in &self.content {
            if let Content::Text(piece) = piece {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(piece);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changing_a_part_drops_the_verbatim_form() {
        let raw = RawValue::from_string(r#"{"role":"user","content":"a"}"#.into()).unwrap();
        let mut message = Message::with_verbatim(Role::User, vec![Part::Text("a".into())], raw);
        assert!(message.verbatim().is_some());
        message.parts_mut().push(Part::Text("b".into()));
        assert!(message.verbatim().is_none());
    }
}
