//! What a model says, piece by piece.

use serde::Deserialize;
use serde_json::value::RawValue;

/// One step of an answer.
#[derive(Clone, Debug)]
pub enum Event {
    /// More of one choice.
    Delta {
        /// Which of the `n` answers.
        choice: u32,
        /// What was added.
        delta: Delta,
        /// Token probabilities in OpenAI's form, when asked for.
        logprobs: Option<Box<RawValue>>,
    },
    /// One choice is complete.
    Finish {
        /// Which of the `n` answers.
        choice: u32,
        /// Why it ended.
        stop: Stop,
    },
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Visible text.
    Text(String),
    /// Reasoning.
    Thinking(String),
    /// A tool call begins.
    ToolOpen {
        /// Position among the calls of this choice.
        index: u32,
        /// Identifier for the result to refer to.
        id: String,
        /// Name of the tool.
        name: String,
    },
    /// More of a tool call's arguments.
    ToolArguments {
        /// Position among the calls of this choice.
        index: u32,
        /// JSON text to append.
        fragment: String,
    },
}

/// Why generation ended.
///
/// There is deliberately no "tool use": whether an answer is a tool-use answer follows from the
/// calls it contains, so a dialect cannot announce a call that was never sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model ended its turn.
    End,
    /// The token limit or the context window was reached.
    Length,
    /// One of the client's stop sequences came up.
    Sequence(String),
}

/// Tokens of a turn, as the backend counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub prompt: u64,
    /// Prompt tokens served from the KV cache.
    pub cached: u64,
    /// Generated tokens.
    pub completion: u64,
}

/// llama-server's `timings` object (`server-common.cpp`, b11434): milliseconds and token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Timings {
    /// Prompt tokens taken from the cache.
    pub cache_n: u64,
    /// Prompt tokens evaluated.
    pub prompt_n: u64,
    /// Time spent on them, in milliseconds.
    pub prompt_ms: f64,
    /// Generated tokens.
    pub predicted_n: u64,
    /// Time spent on them, in milliseconds.
    pub predicted_ms: f64,
    /// Draft tokens proposed; absent when nothing was drafted.
    pub draft_n: Option<u64>,
    /// Draft tokens accepted.
    pub draft_n_accepted: Option<u64>,
}

impl Timings {
    /// The usage these timings stand for: streams without a usage chunk still carry them.
    pub fn usage(&self) -> Usage {
        Usage {
            prompt: self.cache_n.saturating_add(self.prompt_n),
            cached: self.cache_n,
            completion: self.predicted_n,
        }
    }
}
