//! How the model is asked again.
//!
//! Everything is appended: the prompt up to here is in the backend's cache. The tools stay as they
//! are, and where a call is wanted the answer is held to its schema; `tool_choice: required` alone
//! does not make llama-server produce one.

use serde_json::value::RawValue;

use super::tool_calls::schema_for;
use super::trouble::Trouble;
use super::{floor, legacy};
use crate::config::ToolCalls;
use crate::dialect::llama::Ask;
use crate::turn::{Message, Role, ToolChoice, Turn};

/// In whose manner.
#[derive(Clone, Copy, Debug)]
pub enum Manner<'a> {
    /// Our own.
    Own(&'a ToolCalls),
    /// The earlier system's.
    Legacy(legacy::Attempt),
}

impl Manner<'_> {
    fn tell_model(self, trouble: &Trouble) -> String {
        match self {
            Self::Legacy(attempt) if legacy::is_malformed(trouble) => {
                legacy::tell_model(trouble, attempt)
            }
            Self::Own(_) | Self::Legacy(_) => trouble.tell_model(),
        }
    }

    /// Token limit and temperature. Calls are asked for again with a steady hand, a repetition with
    /// another one than the client's, and what was only announced as the client wants it.
    fn sampling(self, turn: &Turn, trouble: &Trouble) -> (Option<u64>, Option<f64>) {
        match (trouble, self) {
            (Trouble::Repeating { .. }, _) => (None, Some(other_temperature(turn))),
            (Trouble::Announced, _) => (None, None),
            (_, Self::Own(settings)) => (settings.retry_max_tokens, settings.retry_temperature),
            (_, Self::Legacy(attempt)) => legacy::sampling(trouble, attempt),
        }
    }
}

/// A further request, and what it tells the model.
#[derive(Clone, Debug)]
pub struct Reask {
    /// The request.
    pub ask: Ask,
    /// Its last message.
    pub told: String,
}

/// The further request that `trouble` calls for, after `said` was said.
pub fn reask(turn: &Turn, trouble: &Trouble, said: &str, manner: Manner<'_>) -> Reask {
    let mut append = Vec::with_capacity(2);
    let mut spoken = match trouble {
        Trouble::Repeating { keep, .. } => said[..floor(said, *keep)].to_owned(),
        _ => said.to_owned(),
    };
    if let Trouble::Call { raw, .. } = trouble {
        if !spoken.is_empty() {
            spoken.push_str("\n\n");
        }
        spoken.push_str(raw);
    }
    if !spoken.trim().is_empty() {
        append.push(Message::text(Role::Assistant, spoken));
    }
    let told = manner.tell_model(trouble);
    append.push(Message::text(Role::User, told.clone()));
    let (max_tokens, temperature) = manner.sampling(turn, trouble);
    let ask = Ask {
        append,
        constrain: trouble.wants_call().then(|| constraint(turn)).flatten(),
        max_tokens,
        temperature,
        thinking_off: matches!(
            trouble,
            Trouble::ReasoningOnly | Trouble::Repeating { thinking: true, .. }
        ),
        ..Ask::default()
    };
    Reask { ask, told }
}

fn other_temperature(turn: &Turn) -> f64 {
    let asked = turn.extra("temperature");
    let asked = asked.and_then(|raw| raw.get().parse::<f64>().ok());
    match asked {
        Some(hot) if hot >= 0.6 => 0.3,
        _ => 0.9,
    }
}

fn constraint(turn: &Turn) -> Option<Box<RawValue>> {
    match &turn.tool_choice {
        ToolChoice::Named(name) => schema_for(&turn.tools, Some(&[name])),
        _ => schema_for(&turn.callable_tools(), None),
    }
}
