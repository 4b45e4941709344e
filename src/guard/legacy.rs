//! What the earlier system did about bad tool calls, on this engine: the preset `uap-legacy`.
//!
//! Its numbers and its words are kept for those who tuned their agents and their log searches to
//! them. What it did on top of them and did harm (guessed values, edited arguments, a tool-use end
//! without a call) is not.

use super::tool_calls::BadCall;
use super::trouble::Trouble;
use crate::config::ToolCalls;

/// Most tokens of an attempt for a call whose arguments did not match: more than for the others.
const MAX_TOKENS_INVALID: u64 = 4096;

/// Temperature from the second further attempt on.
const LATER_TEMPERATURE: f64 = 0.5;

/// What the client reads when nothing has helped.
pub const GIVE_UP: &str =
    "Tool-call formatting failed after automatic retries. Please retry the same request.";

/// Its settings; those of the configuration do not count.
pub fn tool_calls() -> ToolCalls {
    ToolCalls {
        retry_max: 3,
        retry_max_tokens: Some(2048),
        retry_temperature: Some(0.0),
        early_release: false,
    }
}

/// Which of how many further attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// All that a turn may have.
    pub of: u32,
}

/// Whether the earlier system saw a malformed call in this.
pub fn is_malformed(trouble: &Trouble) -> bool {
    trouble.wants_call() || matches!(trouble, Trouble::Leftover { .. })
}

/// What the model is told.
pub fn tell_model(trouble: &Trouble, attempt: Attempt) -> String {
    let Attempt { number, of } = attempt;
    let hint = trouble.tell_model();
    format!(
        "Your previous response had invalid tool-call formatting. Return exactly one valid tool call, \
         and nothing else: no prose, no markdown, no XML, no schema.\n\n\
         [TOOL CALL REPAIR attempt {number}/{of}] {hint}\n\n\
         Return a valid response for this turn without protocol artifacts."
    )
}

/// Token limit and temperature of a further attempt.
pub fn sampling(trouble: &Trouble, attempt: Attempt) -> (Option<u64>, Option<f64>) {
    let own = tool_calls();
    let invalid = matches!(
        trouble,
        Trouble::Call {
            bad: BadCall::Invalid(_),
            ..
        }
    );
    let max_tokens = match invalid {
        true => Some(MAX_TOKENS_INVALID),
        false => own.retry_max_tokens,
    };
    let temperature = match attempt.number {
        1 => own.retry_temperature,
        _ => Some(LATER_TEMPERATURE),
    };
    (max_tokens, temperature)
}
