//! Where a transcript may be cut: between groups of messages, never between a call and its result.

use std::collections::HashMap;

use super::MessageHash;
use crate::turn::{Message, Part, Role};

/// The end of a conversation's head, which always stays: the instructions and what the human asked
/// first, up to the model's first message. None where there is no such beginning.
pub(super) fn head_end(messages: &[Message]) -> Option<usize> {
    let user = messages.iter().position(|m| m.role() == Role::User)?;
    let after = messages[user..]
        .iter()
        .position(|m| m.role() == Role::Assistant);
    after.map(|at| user + at)
}

/// Places behind the head where the kept rest may begin: at a message of the model or the human that
/// answers no call, with every later result's call behind it.
pub(super) fn starts(messages: &[Message], head_end: usize, hash: MessageHash) -> Vec<usize> {
    let open = spans(messages);
    let mut depth = 0i64;
    let mut starts = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        depth += open[at];
        // Hashed: what says nothing is not remembered, and could not be found again.
        if at > head_end && depth == 0 && may_begin(message) && hash(message).is_some() {
            starts.push(at);
        }
    }
    starts
}

fn may_begin(message: &Message) -> bool {
    match message.role() {
        Role::Assistant => true,
        Role::User => !message
            .parts()
            .iter()
            .any(|part| matches!(part, Part::ToolResult(_))),
        Role::System | Role::Tool => false,
    }
}

/// Changes, message by message, in the number of calls that still wait for a later result. Ids may
/// come again: a result answers the last call of its id.
fn spans(messages: &[Message]) -> Vec<i64> {
    let mut changes = vec![0; messages.len() + 1];
    let mut calls: HashMap<&str, usize> = HashMap::new();
    for (at, message) in messages.iter().enumerate() {
        for part in message.parts() {
            match part {
                Part::ToolCall(call) => _ = calls.insert(&call.id, at),
                Part::ToolResult(result) => {
                    if let Some(call) = calls.get(result.call_id.as_str()) {
                        // No cut at the messages after the call up to the result's.
                        changes[call + 1] += 1;
                        changes[at + 1] -= 1;
                    }
                }
                _ => {}
            }
        }
    }
    changes
}
