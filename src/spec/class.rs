//! What kind of work a request is.
//!
//! Told before the turn, from its last message and the tools it offers: the classes are the strata
//! of every comparison, and the rules of `spec.rules` go by them. The same request always has the same
//! class. What a text asks for is told by its form first, whether a text is given with an order or a question
//! stands alone, and by words then ([`text`]). Measured against `tests/fixtures/spec/classes-held-out.json`.

mod code;
mod scores;
mod signs;
mod text;
mod words;

use crate::config::RequestClass;
use crate::turn::{Message, Part, Role, Turn, human_text};
use text::Text;
use words::CHANGES;

/// Messages back from the end in which code counts as being at hand.
const NEAR: usize = 6;

impl RequestClass {
    /// The class of a turn.
    pub fn of(turn: &Turn) -> Self {
        let talk = |message: &&Message| message.role() != Role::System;
        let Some(last) = turn.messages.iter().rev().find(talk) else {
            return Self::Prose;
        };
        if has_result(last) {
            return Self::ToolLoop;
        }
        let text = text_of(last);
        if turn.is_tool_turn() && may_change(turn) && (text.names_code() || is_code_near(turn)) {
            return Self::Edit;
        }
        match text.class(answer_before(turn, last).as_ref()) {
            // "And if it is empty?" is about the code before it.
            Self::Prose if text.is_short() && shows_code_near(turn) => Self::Code,
            class => class,
        }
    }
}

fn text_of(message: &Message) -> Text {
    Text::of(message.parts().iter().filter_map(|part| match part {
        Part::Text(text) => Some(human_text(text)),
        _ => None,
    }))
}

/// The answer that `last` follows, if it does.
fn answer_before(turn: &Turn, last: &Message) -> Option<Text> {
    let mut before = turn.messages.iter().rev();
    before.find(|message| std::ptr::eq(*message, last))?;
    let answer = before.next()?;
    (answer.role() == Role::Assistant).then(|| text_of(answer))
}

fn has_result(message: &Message) -> bool {
    let mut parts = message.parts().iter();
    message.role() == Role::Tool || parts.any(|part| matches!(part, Part::ToolResult(_)))
}

/// Whether some tool on offer changes files.
fn may_change(turn: &Turn) -> bool {
    turn.tools.iter().any(|tool| {
        let words = words_of_name(&tool.name);
        words.iter().any(|word| CHANGES.contains(&word.as_str()))
    })
}

/// `str_replace_based_edit`, `MultiEdit` and `applyPatch` in words.
fn words_of_name(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for char in name.chars() {
        if !char.is_alphanumeric() || (was_lower && char.is_uppercase()) {
            words.push(String::new());
        }
        was_lower = char.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| char.is_alphanumeric()) {
            word.extend(char.to_lowercase());
        }
    }
    words
}

/// The last messages of the conversation.
fn near(turn: &Turn) -> impl Iterator<Item = &Message> {
    let last = turn.messages.iter().rev().take(NEAR);
    last.filter(|message| message.role() != Role::System)
}

/// Whether the last messages bring code, or results of tools, which are files mostly.
fn is_code_near(turn: &Turn) -> bool {
    near(turn).any(has_result) || shows_code_near(turn)
}

fn shows_code_near(turn: &Turn) -> bool {
    near(turn).any(|message| text_of(message).has_code_lines())
}

#[cfg(test)]
mod tests;
