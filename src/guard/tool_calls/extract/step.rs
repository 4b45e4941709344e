//! What the readers of the families have in common.

use super::super::offered::Offered;
use super::piece::Family;

/// The text from the marker on, and what is known about it.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) src: &'a str,
    pub(super) offered: &'a Offered,
    /// Nothing follows; `Some(true)` when the token limit cut the answer.
    pub(super) ended: Option<bool>,
}

impl Source<'_> {
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn offers(&self, name: &str) -> bool {
        self.offered.resolve(name).is_some()
    }
}

/// What a reader says.
#[derive(Debug)]
pub(super) enum Step {
    /// The text ends before the call does.
    More,
    /// Not a call.
    Reject,
    /// One or several calls.
    Done(Found),
}

/// Calls in a text.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) items: Vec<Item>,
    pub(super) family: Family,
    /// Where the last call ends; closing tokens may follow.
    pub(super) end: usize,
    pub(super) closing: Closing,
}

/// One call. Its source begins where that of the one before ends.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) arguments: String,
    pub(super) end: usize,
    pub(super) whole: bool,
}

/// What belongs to a call after its arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closing {
    /// Tokens to take along, as often as they come.
    pub(super) tokens: &'static [&'static str],
    /// Without one of them, only the end of the answer or another call may follow.
    pub(super) required: bool,
    /// Only the end of the answer may follow.
    pub(super) last: bool,
    /// Surplus closing brackets are taken along before a token.
    pub(super) brackets: bool,
    /// So is the end of a code fence.
    pub(super) fenced: bool,
}

impl Found {
    pub(super) fn one(family: Family, item: Item, closing: Closing) -> Step {
        Step::Done(Self {
            end: item.end,
            items: vec![item],
            family,
            closing,
        })
    }
}
