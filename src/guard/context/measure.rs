//! What is known of the size of one turn's prompt, and of what it would be without its middle.

use super::cut::MARKER_WEIGHT;
use super::size::Size;
use super::state::Counted;
use super::{pairs, weight};
use crate::turn::{Message, Turn};

/// Difference in weight between two prompts that may still be the same but for a time stamp.
const SAME: u64 = 64;

/// About what a template adds to each message, in tokens.
const MESSAGE_TOKENS: u64 = 6;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Measure {
    /// Weight of the client's messages before each.
    sums: Vec<u64>,
    tools: u64,
    /// Where the part ends that always stays.
    pub(super) head_end: Option<usize>,
    /// Where the rest begins, if something is left out.
    pub(super) rest: Option<usize>,
    /// The conversation's last prompt.
    last: Option<Counted>,
    count: Option<Count>,
}

/// What a backend said about this prompt, or about a longer one.
#[derive(Clone, Copy, Debug)]
struct Count {
    tokens: u64,
    /// Weight of the prompt that has them.
    weight: u64,
    /// Whether it counted the prompt itself, not only what is new in it.
    whole: bool,
}

impl Measure {
    /// Of a turn as its client sent it; `last` is its conversation's last prompt.
    pub(super) fn new(turn: &Turn, last: Option<Counted>) -> Self {
        let mut sums = Vec::with_capacity(turn.messages.len() + 1);
        let mut sum = 0;
        sums.push(sum);
        for message in &turn.messages {
            sum += weight::of(message);
            sums.push(sum);
        }
        Self {
            sums,
            tools: weight::of_tools(&turn.tools),
            head_end: pairs::head_end(&turn.messages),
            rest: None,
            last,
            count: None,
        }
    }

    /// Messages of the client.
    pub(super) fn messages(&self) -> usize {
        self.sums.len().saturating_sub(1)
    }

    /// Weight of the prompt as it is now.
    pub(super) fn weight(&self) -> u64 {
        match self.rest {
            Some(at) => self.weight_from(at),
            None => self.tools + self.all(),
        }
    }

    /// Weight of the prompt if its rest began at message `at`.
    pub(super) fn weight_from(&self, at: usize) -> u64 {
        let head = self.head_end.map_or(0, |end| self.sums[end]);
        self.tools + head + MARKER_WEIGHT + self.all() - self.sums[at]
    }

    fn all(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    /// Tokens of the prompt as it is now.
    pub(super) fn size(&self) -> Size {
        let weight = self.weight();
        if let Some(count) = self.count {
            return match count.weight == weight {
                true => Size::exact(count.tokens),
                false => Size::scaled(weight, count.tokens, count.weight),
            };
        }
        let Some(last) = self.last else {
            return Size::guess(weight);
        };
        let (tokens, known) = (u64::from(last.tokens), u64::from(last.weight));
        match self.base() {
            Some(_) => Size::grown(tokens, known, weight.saturating_sub(known)),
            None => Size::scaled(weight, tokens, known),
        }
    }

    /// Tokens of a prompt that goes on from one that was counted, or was counted itself.
    pub(super) fn goes_on(&self) -> Option<u64> {
        let known = self.count.is_some() || self.base().is_some();
        known.then(|| self.size().likely)
    }

    /// Whether the size is a backend's number.
    pub(super) fn is_counted(&self) -> bool {
        let weight = self.weight();
        self.count.is_some_and(|count| count.weight == weight)
    }

    /// Whether it is the number for the prompt as a whole.
    pub(super) fn is_certain(&self) -> bool {
        self.is_counted() && self.count.is_some_and(|count| count.whole)
    }

    /// The messages to be counted alone: what is new since the last prompt, where that is known and can
    /// be told apart. Messages are counted from their end, which is the same however much is left out.
    pub(super) fn new_messages<'a>(&self, messages: &'a [Message]) -> Option<&'a [Message]> {
        let base = self.base().filter(|_| self.count.is_none())?;
        let new = self.messages() - base.messages as usize;
        let messages = &messages[messages.len().checked_sub(new)?..];
        (!messages.iter().any(weight::has_image)).then_some(messages)
    }

    /// A backend has counted the prompt.
    pub(super) fn counted(&mut self, tokens: u64) {
        self.count = Some(Count {
            tokens,
            weight: self.weight(),
            whole: true,
        });
    }

    /// A backend has counted the text of what is new.
    pub(super) fn counted_new(&mut self, tokens: u64) {
        let Some(base) = self.base() else { return };
        let new = self.messages() as u64 - u64::from(base.messages);
        self.count = Some(Count {
            tokens: u64::from(base.tokens) + tokens + new * MESSAGE_TOKENS,
            weight: self.weight(),
            whole: false,
        });
    }

    /// For the conversation's next turn, the prompt having come to `tokens`.
    pub(super) fn remember(&self, tokens: u64) -> Option<Counted> {
        let fits = |n: u64| u32::try_from(n).ok();
        Some(Counted {
            tokens: fits(tokens).filter(|n| *n > 0)?,
            weight: fits(self.weight())?,
            messages: fits(self.messages() as u64)?,
        })
    }

    /// The last prompt, if this one goes on from it.
    fn base(&self) -> Option<Counted> {
        let last = self.last?;
        let messages = last.messages as usize;
        if messages < self.rest.unwrap_or(0) || messages > self.messages() {
            return None;
        }
        let same = self.weight() - (self.all() - self.sums[messages]);
        (same.abs_diff(u64::from(last.weight)) <= SAME).then_some(last)
    }
}
