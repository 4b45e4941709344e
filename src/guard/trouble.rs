//! What can be wrong with an answer that arrived.

use super::tool_calls::BadCall;

/// Why an answer, or the rest of it, should not reach the client as it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// A tool call that cannot be repaired.
    Call {
        /// What is wrong with it.
        bad: BadCall,
        /// The call as the model wrote it.
        raw: String,
    },
    /// The client requires a call, and there is none.
    MissedCall,
    /// Reasoning, and nothing to show.
    ReasoningOnly,
    /// Nothing at all.
    Empty,
}

impl Trouble {
    /// llama-server could not read the call; `why` is its own text.
    pub fn misparsed(why: String) -> Self {
        Self::Call {
            bad: BadCall::Malformed(why),
            raw: String::new(),
        }
    }

    /// What the model wrote, where it can be shown.
    pub fn written(&self) -> Option<&str> {
        match self {
            Self::Call { raw, .. } => Some(raw),
            Self::MissedCall | Self::ReasoningOnly | Self::Empty => None,
        }
    }

    /// Stable name for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Call { bad, .. } => bad.kind(),
            Self::MissedCall => "missed_call",
            Self::ReasoningOnly => "reasoning_only",
            Self::Empty => "empty_answer",
        }
    }

    /// What the model is told, at the end of its prompt.
    pub fn tell_model(&self) -> String {
        match self {
            Self::Call { bad, .. } => bad.tell_model(),
            Self::MissedCall => {
                "A tool call is required here. Answer with a call of one of the tools.".to_owned()
            }
            Self::ReasoningOnly => {
                "You have thought enough. Give your answer or make your tool call now.".to_owned()
            }
            Self::Empty => "Your answer was empty. Please answer.".to_owned(),
        }
    }

    /// What the client reads when nothing has helped.
    pub fn tell_client(&self) -> String {
        match self {
            Self::Call { bad, .. } => format!(
                "The model's tool call could not be used ({}), and asking it again did not help.",
                bad.kind().replace('_', " ")
            ),
            Self::MissedCall => "The model made no tool call although one was required, and asking it again did not help.".to_owned(),
            Self::ReasoningOnly | Self::Empty => "The model gave no answer, and asking it again did not help.".to_owned(),
        }
    }

    /// Whether the further attempt should be held to a tool call.
    pub fn wants_call(&self) -> bool {
        matches!(self, Self::Call { .. } | Self::MissedCall)
    }
}
