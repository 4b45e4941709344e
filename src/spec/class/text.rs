//! What a text asks for: what kind of work, and whether it brings the text that the work is about.

use super::code::{code_lines, names_file};
use super::scores::Scores;
use super::signs::signs;
use super::words::Sign;
use crate::config::RequestClass;

/// Bytes looked at, at the beginning and at the end of a text each.
const LOOK: usize = 4096;

/// From this length on, in bytes, a text that comes with an order is the text that the order is about.
pub(super) const GIVEN: usize = 160;

/// The same between two fences.
const FENCED: usize = 80;

/// An order is not longer than this, in bytes.
const ORDER: usize = 320;

/// What may be known of a text that a client sent.
pub(super) struct Text {
    /// As it was written, its ends only.
    text: String,
    lower: String,
}

/// What the words around a given text want of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// Nothing that is known.
    Unclear,
    /// It is to be changed if it is a text, and may be worked on if it is a program.
    Alter,
    /// Something else is to be made of it, or said about it.
    New,
    /// It is to come back changed.
    Transform,
}

impl Text {
    /// Of the parts of a message, in their order.
    pub(super) fn of<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        let mut text = String::new();
        for part in parts {
            let head = floor(part, LOOK);
            text.push_str(&part[..head]);
            let tail = floor(part, part.len().saturating_sub(LOOK)).max(head);
            text.push_str(&part[tail..]);
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        let lower = text.to_lowercase();
        Self { text, lower }
    }

    /// The kind of work. `before` is the answer before it, which the order may be about.
    pub(super) fn class(&self, before: Option<&Self>) -> RequestClass {
        if self.is_to_come_back(before) {
            return RequestClass::Repetitive;
        }
        if self.names_code() {
            return RequestClass::Code;
        }
        let Scores { code, reason } = Scores::of(&self.text, &self.lower);
        if code >= 4 && reason <= code + 2 {
            RequestClass::Code
        } else if reason >= 3 {
            RequestClass::Reasoning
        } else if code >= 2 && self.is_short() {
            RequestClass::Code
        } else {
            RequestClass::Prose
        }
    }

    /// Too short to bring the text that it is about.
    pub(super) fn is_short(&self) -> bool {
        self.lower.len() < GIVEN
    }

    fn is_to_come_back(&self, before: Option<&Self>) -> bool {
        let orders = self.orders();
        if orders.is_empty() {
            let is_about = |text: &Self| text.lower.len() >= GIVEN && !text.has_code_lines();
            return self.lower.len() <= GIVEN
                && before.is_some_and(is_about)
                && order_of(&self.lower) == Order::Transform;
        }
        let wanted = orders.iter().map(|(order, given)| (order_of(order), given));
        // An order to change beats one to do something else: a given text may begin or end with anything.
        match wanted.max_by_key(|(wanted, _)| *wanted) {
            Some((Order::Transform, _)) => true,
            Some((Order::Alter, given)) => !is_program(given),
            _ => false,
        }
    }

    /// The words that stand before and after a given text, each with that text.
    fn orders(&self) -> Vec<(&str, &str)> {
        let text = self.lower.trim();
        if let Some((head, rest)) = text.split_once("```")
            && let Some((given, tail)) = rest.rsplit_once("```")
        {
            if given.len() < FENCED {
                return Vec::new();
            }
            let head = head.trim().rsplit("\n\n").next().unwrap_or_default();
            let tail = tail.trim().split("\n\n").next().unwrap_or_default();
            return vec![(head, given), (tail, given)];
        }
        let first = text.split_once('\n');
        let last = text.rsplit_once('\n').map(|(given, order)| (order, given));
        let is_order = |(order, given): &(&str, &str)| {
            given.len() >= GIVEN && order.len() <= ORDER && order.len() < given.len()
        };
        [first, last]
            .into_iter()
            .flatten()
            .filter(is_order)
            .collect()
    }

    /// Whether code is shown or a file named.
    pub(super) fn names_code(&self) -> bool {
        self.has_code_lines() || names_file(&self.lower)
    }

    /// Whether code is shown.
    pub(super) fn has_code_lines(&self) -> bool {
        code_lines(&self.lower)
    }
}

/// Whether a given text is worked on rather than given back: a program, or what went wrong with one.
fn is_program(given: &str) -> bool {
    code_lines(given) || given.contains("error") || given.contains("exception")
}

/// The first word that says anything says what is wanted: "translate and explain" is another order than
/// "explain how to translate".
fn order_of(order: &str) -> Order {
    if asks(order) {
        return Order::New;
    }
    let mut keeps = false;
    let mut first: Option<(usize, Order)> = None;
    for found in signs(order) {
        let wanted = match found.sign {
            Sign::Transform => Order::Transform,
            Sign::Alter => Order::Alter,
            Sign::New => Order::New,
            Sign::Keep => {
                keeps = true;
                continue;
            }
            _ => continue,
        };
        if first.is_none_or(|(before, _)| found.at < before) {
            first = Some((found.at, wanted));
        }
    }
    match first {
        Some((_, Order::Alter)) | None if keeps => Order::Transform,
        Some((_, wanted)) => wanted,
        // "JSON to YAML:", "Now this one:".
        None if order.trim_end().ends_with(':') => Order::Alter,
        None => Order::Unclear,
    }
}

/// Whether some sentence begins as a question does. "Can you …" is an order.
fn asks(text: &str) -> bool {
    const ASKS: &[&str] = &[
        "are",
        "did",
        "do",
        "does",
        "how",
        "is",
        "was",
        "were",
        "what",
        "what's",
        "when",
        "where",
        "which",
        "who",
        "whose",
        "why",
        "wann",
        "warum",
        "wer",
        "wie",
        "wo",
        "worum",
        "welche",
        "welcher",
        "welches",
        "à quelle",
        "comment",
        "où",
        "pourquoi",
        "quand",
        "quel",
        "quelle",
        "quels",
        "qui",
        "que",
        "qué",
        "quién",
        "cómo",
        "cuándo",
        "cuál",
        "dónde",
    ];
    let mut sentences = text.split_inclusive(['.', '?', '!', ':', '\n']);
    sentences.any(|sentence| {
        let first = sentence.trim_start().trim_start_matches(['¿', '"', '\'']);
        let word = first
            .split(|c: char| !(c.is_alphanumeric() || c == '\''))
            .next();
        word.is_some_and(|word| ASKS.contains(&word)) && sentence.trim_end().ends_with('?')
    })
}

/// The last character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
