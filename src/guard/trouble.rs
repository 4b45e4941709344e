//! What can be wrong with an answer that arrived.

use super::repetition::Repetition;
use super::tool_calls::{BadCall, clip};

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
    /// A call of a tool that is withheld.
    Denied {
        /// The tool.
        name: String,
        /// What the model is told.
        why: String,
        /// The call's arguments.
        arguments: String,
    },
    /// A call of which the client has the beginning, and whose end is no good.
    HalfSent {
        /// The kind of what is wrong.
        why: &'static str,
    },
    /// Policy keeps the answer from going on as it is.
    Policy {
        /// What of: `policy_block` or `policy_gate`.
        kind: &'static str,
        /// What the model is told.
        told: String,
        /// What the client reads when the model cannot be told.
        client: String,
    },
    /// The client requires a call, and there is none.
    MissedCall,
    /// Reasoning, and nothing to show.
    ReasoningOnly,
    /// Nothing at all.
    Empty,
    /// Remains of a tool call in the visible text, and no call.
    Leftover {
        /// The remains.
        raw: String,
    },
    /// An action was announced, and none was taken.
    Announced,
    /// The same again and again.
    Repeating {
        /// What.
        found: Repetition,
        /// How much of the visible text is worth keeping, in bytes.
        keep: usize,
        /// It is the reasoning that repeats itself.
        thinking: bool,
    },
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
            Self::Call { raw, .. } | Self::Leftover { raw } => Some(raw),
            Self::Denied { arguments, .. } => Some(arguments),
            Self::Repeating { found, .. } => Some(&found.unit),
            Self::HalfSent { .. }
            | Self::MissedCall
            | Self::ReasoningOnly
            | Self::Empty
            | Self::Announced
            | Self::Policy { .. } => None,
        }
    }

    /// Stable name for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Call { bad, .. } => bad.kind(),
            Self::Denied { .. } => "denied_call",
            Self::HalfSent { .. } => "half_sent_call",
            Self::Policy { kind, .. } => kind,
            Self::MissedCall => "missed_call",
            Self::ReasoningOnly => "reasoning_only",
            Self::Empty => "empty_answer",
            Self::Leftover { .. } => "leaked_fragment",
            Self::Announced => "unexpected_end",
            Self::Repeating { .. } => "repetition",
        }
    }

    /// What the model is told, at the end of its prompt.
    pub fn tell_model(&self) -> String {
        match self {
            Self::Call { bad, .. } => bad.tell_model(),
            Self::Denied { why, .. } => why.clone(),
            // Not asked about: the client could not take the call back.
            Self::HalfSent { why } => format!("The tool call was no good ({why})."),
            Self::Policy { told, .. } => told.clone(),
            Self::MissedCall => {
                "A tool call is required here. Answer with a call of one of the tools.".to_owned()
            }
            Self::ReasoningOnly => {
                "You have thought enough. Give your answer or make your tool call now.".to_owned()
            }
            Self::Empty => "Your answer was empty. Please answer.".to_owned(),
            Self::Leftover { raw } => format!(
                "Your answer ended in `{}`, which is part of a tool call, and there was no tool call \
                 that could be read. If you meant to call a tool, call it now. Otherwise finish your \
                 answer from where it stopped, without such tags.",
                clip(raw.trim(), 120)
            ),
            Self::Announced => "You announced what you would do next, but made no tool call. Make \
                the call now; if nothing is left to do, say so in one sentence."
                .to_owned(),
            Self::Repeating { found, .. } => format!(
                "You were repeating yourself: \"{}\" came again and again, so you were stopped. Do \
                 not say it again. Go on with something new, or finish your answer.",
                clip(found.unit.trim(), 120)
            ),
        }
    }

    /// What the client reads when nothing has helped.
    pub fn tell_client(&self) -> String {
        match self {
            Self::Call { bad, .. } => format!(
                "The model's tool call could not be used ({}), and asking it again did not help.",
                bad.kind().replace('_', " ")
            ),
            Self::Denied { name, .. } => format!("The model insisted on calls of `{name}`, which were denied."),
            Self::HalfSent { why } => format!(
                "The model's tool call, part of which was sent early, could not be completed ({}).",
                why.replace('_', " ")
            ),
            Self::Policy { client, .. } => client.clone(),
            Self::MissedCall => "The model made no tool call although one was required, and asking it again did not help.".to_owned(),
            Self::ReasoningOnly | Self::Empty | Self::Announced => "The model gave no answer, and asking it again did not help.".to_owned(),
            Self::Leftover { .. } => "The model's answer was no more than the remains of a tool call, and asking it again did not help.".to_owned(),
            Self::Repeating { .. } => "The model repeated itself without end and was stopped.".to_owned(),
        }
    }

    /// Whether visible text that has been said is an answer in spite of it.
    pub fn leaves_an_answer(&self) -> bool {
        !self.wants_call()
    }

    /// Whether a turn is asked again because of it once only.
    pub fn once(&self) -> bool {
        matches!(self, Self::Announced | Self::Repeating { .. })
    }

    /// Whether the further attempt should be held to a tool call.
    pub fn wants_call(&self) -> bool {
        matches!(self, Self::Call { .. } | Self::MissedCall)
    }
}
