//! What a conversation remembers of its size and its cut.

use super::cut::Cut;
use crate::guard::sampling::Narrowed;

/// What is remembered of one lineage between its turns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextState {
    /// The last prompt, as its backend counted it.
    pub(super) counted: Option<Counted>,
    /// What is left out.
    pub(super) cut: Option<Cut>,
    /// Which tools are sent.
    pub narrowed: Option<Narrowed>,
}

/// A prompt that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// Tokens.
    pub(super) tokens: u32,
    /// What it weighed.
    pub(super) weight: u32,
    /// Messages of the client it was made of, those left out included.
    pub(super) messages: u32,
}

impl ContextState {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is left out of the conversation.
    pub fn cut(&self) -> Option<Cut> {
        self.cut
    }
}

/// What a turn meets.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// By its own lineage.
    pub own: ContextState,
    /// Cuts of the session's other conversations: one that forked off after such a cut finds its KV
    /// cache only behind the same one.
    pub others: Vec<Cut>,
}
