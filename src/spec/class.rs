//! What kind of work a request is.
//!
//! Told before the turn, from its last message and the tools it offers: the classes are the strata
//! of every comparison, and the rules of `spec.rules` go by them. The same request always has the same
//! class. At most [`LOOK`] bytes at either end of a text are looked at, so that a large request costs
//! no more than a small one. Measured against `tests/fixtures/spec/classes.json`.

mod words;

use crate::config::RequestClass;
use crate::turn::{Message, Part, Role, Turn, human_text};
use words::{CHANGES, CODE, CODE_LINES, REASONS, TRANSFORMS};

/// Bytes looked at, at the beginning and at the end of a text each.
const LOOK: usize = 4096;

/// Messages back from the end in which code counts as being at hand.
const NEAR: usize = 6;

/// From this length on a text that comes with an order is the text that the order is about.
const GIVEN: usize = 240;

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
        let text = Text::of(last);
        if turn.is_tool_turn() && may_change(turn) && (text.names_code() || code_is_near(turn)) {
            return Self::Edit;
        }
        text.class()
    }
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

/// Whether the last messages bring code, or results of tools, which are files mostly.
fn code_is_near(turn: &Turn) -> bool {
    let near = turn.messages.iter().rev().take(NEAR);
    let mut talk = near.filter(|message| message.role() != Role::System);
    talk.any(|message| has_result(message) || Text::of(message).has_code_lines())
}

/// What there is to be looked at of one message, in lower case.
struct Text {
    text: String,
    /// Of the whole.
    len: usize,
}

impl Text {
    fn of(message: &Message) -> Self {
        let mut text = String::new();
        let mut len = 0;
        for part in message.parts() {
            let Part::Text(part) = part else { continue };
            let part = human_text(part);
            len += part.len();
            let head = floor(part, LOOK);
            text.push_str(&part[..head].to_lowercase());
            text.push('\n');
            let tail = floor(part, part.len().saturating_sub(LOOK)).max(head);
            text.push_str(&part[tail..].to_lowercase());
            text.push('\n');
        }
        Self { text, len }
    }

    fn class(&self) -> RequestClass {
        if self.is_given_back() {
            return RequestClass::Repetitive;
        }
        let code_words = self.words().filter(|word| CODE.contains(word)).count();
        if self.has_code_lines() || self.names_file() || code_words >= 2 {
            return RequestClass::Code;
        }
        if REASONS.iter().any(|phrase| self.has_phrase(phrase)) {
            RequestClass::Reasoning
        } else if code_words == 1 && !self.is_long() {
            RequestClass::Code
        } else {
            RequestClass::Prose
        }
    }

    /// A text comes with an order to give it back changed; the order stands before it or after it.
    fn is_given_back(&self) -> bool {
        let orders = |part: &str| {
            let mut words = words(part).take(24);
            words.any(|word| TRANSFORMS.contains(&word))
        };
        let text = self.text.trim();
        let first = text.split("\n\n").next().unwrap_or_default();
        let last = text.rsplit("\n\n").next().unwrap_or_default();
        self.is_long() && (orders(first) || orders(last))
    }

    fn is_long(&self) -> bool {
        self.len >= GIVEN
    }

    fn names_code(&self) -> bool {
        self.has_code_lines() || self.names_file()
    }

    fn has_code_lines(&self) -> bool {
        let lines = self.text.lines().map(str::trim_start);
        let is_code = |line: &str| {
            CODE_LINES.iter().any(|sign| match sign.as_bytes()[0] {
                b'a'..=b'z' => {
                    line.starts_with(sign) && line.contains(['(', '{', '=', ';', ':', '*'])
                }
                _ => line.contains(sign),
            })
        };
        lines.filter(|line| is_code(line)).take(2).count() == 2 || self.text.contains("```")
    }

    /// `src/main.rs`, `app.py:12`.
    fn names_file(&self) -> bool {
        const KINDS: &[&str] = &[
            "rs", "py", "js", "ts", "tsx", "jsx", "go", "c", "h", "cc", "cpp", "hpp", "java", "kt",
            "rb", "php", "cs", "swift", "sh", "sql", "toml", "yaml", "yml", "json", "css", "html",
            "vue", "md",
        ];
        self.text.split_whitespace().any(|word| {
            let word = word.trim_matches(|c: char| !c.is_alphanumeric());
            let name = word.split(':').next().unwrap_or_default();
            let Some((stem, kind)) = name.rsplit_once('.') else {
                return false;
            };
            stem.contains(char::is_alphanumeric) && KINDS.contains(&kind)
        })
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        words(&self.text)
    }

    fn has_phrase(&self, phrase: &str) -> bool {
        let mut found = self.text.match_indices(phrase);
        found.any(|(at, _)| {
            let bytes = self.text.as_bytes();
            let before = at.checked_sub(1).and_then(|at| bytes.get(at));
            let after = bytes.get(at + phrase.len());
            let free = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
            free(before) && free(after)
        })
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| !(c.is_alphanumeric() || matches!(c, '+' | '-' | '#'));
    text.split(ends).filter(|word| !word.is_empty())
}

/// The last character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests;
