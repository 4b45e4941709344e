//! How the model is asked again.
//!
//! Everything is appended: the prompt up to here is in the backend's cache. The tools stay as they
//! are, and where a call is wanted the answer is held to its schema; `tool_choice: required` alone
//! does not make llama-server produce one.

use serde_json::value::RawValue;

use super::floor;
use super::tool_calls::schema_for;
use super::trouble::Trouble;
use crate::config::ToolCalls;
use crate::dialect::llama::Ask;
use crate::turn::{Message, Role, ToolChoice, Turn};

/// The further request that `trouble` calls for, after `said` was said.
pub fn ask(turn: &Turn, trouble: &Trouble, said: &str, settings: &ToolCalls) -> Ask {
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
    append.push(Message::text(Role::User, trouble.tell_model()));
    Ask {
        append,
        constrain: if trouble.wants_call() {
            constraint(turn)
        } else {
            None
        },
        max_tokens: settings.retry_max_tokens,
        temperature: temperature(turn, trouble, settings),
        thinking_off: matches!(
            trouble,
            Trouble::ReasoningOnly | Trouble::Repeating { thinking: true, .. }
        ),
    }
}

/// Calls are asked for again with a steady hand, a repetition with another one than the client's.
fn temperature(turn: &Turn, trouble: &Trouble, settings: &ToolCalls) -> Option<f64> {
    match trouble {
        Trouble::Repeating { .. } => {
            let asked = turn.extra("temperature");
            let asked = asked.and_then(|raw| raw.get().parse::<f64>().ok());
            Some(if asked.is_some_and(|t| t >= 0.6) {
                0.3
            } else {
                0.9
            })
        }
        Trouble::Announced => None,
        _ => settings.retry_temperature,
    }
}

fn constraint(turn: &Turn) -> Option<Box<RawValue>> {
    match &turn.tool_choice {
        ToolChoice::Named(name) => schema_for(&turn.tools, Some(&[name])),
        _ => schema_for(&turn.callable_tools(), None),
    }
}
