//! Keeping a conversation inside the window of the slot that serves it.
//!
//! The size of a prompt is known from the last turn's usage and from its backend's own count; near the
//! window only is a backend asked. A conversation that comes too near loses its middle, in one large
//! step: the *cut*. It is remembered and repeated byte for byte, so that the prompt of one turn stays
//! the beginning of the next one's, which is what the KV cache lives on.

mod choose;
mod cut;
mod fit;
mod limits;
mod measure;
mod pairs;
#[cfg(test)]
mod properties;
mod size;
mod state;
#[cfg(test)]
mod tests;
pub mod volatile;
mod weight;

pub use cut::{Cut, MARKER};
pub use fit::{Fit, Question, Step};
pub use limits::{Limits, limit};
pub use state::{ContextState, Remembered};

use crate::turn::{Message, Turn};

/// Bytes of a turn's prompt that reach the model, roughly.
pub fn weight(turn: &Turn) -> u64 {
    let messages = turn.messages.iter().map(weight::of);
    messages.sum::<u64>() + weight::of_tools(&turn.tools)
}

/// Hash of what a message says, without what clients write anew at every turn; none when it says
/// nothing that counts.
pub type MessageHash = fn(&Message) -> Option<u64>;

/// Why a prompt does not begin like the last one of its conversation, though the client's does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrefixBreak {
    /// A new cut.
    Prune,
    /// Another selection of tools.
    Narrowing,
    /// The client names one tool; it is offered alone.
    ToolChoice,
    /// After broken tool calls the model sees the conversation's ends only.
    SessionReset,
}

impl PrefixBreak {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prune => "prune",
            Self::Narrowing => "narrowing",
            Self::ToolChoice => "tool_choice",
            Self::SessionReset => "session_reset",
        }
    }
}
