//! Anthropic Messages, as Claude Code and the official SDKs speak it.

mod content;
mod decode;
mod render;
mod stream;
mod tools;

pub use decode::decode;
pub use render::{input_tokens, render};
pub use stream::StreamEncoder;

use serde::Serialize;

use crate::turn::{Stop, Usage};

/// Usage in Anthropic's terms: `input_tokens` are the uncached ones.
#[derive(Serialize)]
struct WireUsage {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt.saturating_sub(usage.cached),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached,
            output_tokens: usage.completion,
        }
    }
}

/// `stop_reason` and `stop_sequence`; `tool_use` exactly when the answer contains a call and ended
/// by itself.
fn stop_reason(stop: &Stop, calls: usize) -> (&'static str, Option<&str>) {
    match stop {
        Stop::Length => ("max_tokens", None),
        Stop::Sequence(sequence) => ("stop_sequence", Some(sequence)),
        Stop::End if calls > 0 => ("tool_use", None),
        Stop::End => ("end_turn", None),
    }
}
