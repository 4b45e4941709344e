//! Going on with a half-delivered answer on another backend: what was said becomes the beginning of the model's own
//! message, which it continues.

use super::ChatConversion;
use crate::dialect::llama::Ask;
use crate::turn::{Delta, Message, Part, Role, ToolChoice, Turn};

/// What the client has of the answer, while another backend could go on with it.
#[derive(Debug, Default)]
pub(super) struct Said {
    thinking: String,
    text: String,
    /// Pieces, of one token each as llama-server sends them.
    tokens: u64,
}

impl Said {
    /// Only a single free answer of a stream: a grammar would begin anew in the middle of the text.
    pub(super) fn of(turn: &Turn) -> Option<Self> {
        let is_constrained = ["response_format", "json_schema", "grammar"]
            .iter()
            .any(|name| turn.extra(name).is_some());
        let is_free = matches!(turn.tool_choice, ToolChoice::Auto | ToolChoice::None);
        (turn.stream && turn.choices == 1 && is_free && !is_constrained).then(Self::default)
    }

    fn note(&mut self, delta: &Delta) {
        match delta {
            Delta::Text(text) => self.text.push_str(text),
            Delta::Thinking(text) => self.thinking.push_str(text),
            Delta::ToolOpen { .. } | Delta::ToolArguments { .. } => {}
        }
        self.tokens += 1;
    }

    fn message(&self) -> Message {
        let mut parts = Vec::new();
        if !self.thinking.is_empty() {
            parts.push(Part::Thinking(self.thinking.clone()));
        }
        if !self.text.is_empty() {
            parts.push(Part::Text(self.text.clone()));
        }
        Message::new(Role::Assistant, parts)
    }
}

impl ChatConversion {
    /// The client gets this; with a call it has something that no other backend can continue.
    pub(super) fn note_said(&mut self, delta: &Delta) {
        match delta {
            Delta::ToolOpen { .. } => self.said = None,
            _ => {
                if let Some(said) = &mut self.said {
                    said.note(delta);
                }
            }
        }
    }

    /// How another backend is asked to go on.
    pub(super) fn resumption(&mut self) -> Option<Ask> {
        let said = self.said.as_ref().filter(|_| !self.is_half_sent())?;
        let left = |max: u64| max.saturating_sub(said.tokens).max(1);
        let ask = Ask {
            append: vec![said.message()],
            continues: true,
            max_tokens: self.turn.max_tokens.map(left),
            ..Ask::default()
        };
        self.ledger.record("resume", None, None);
        self.keep_told();
        Some(ask)
    }
}
