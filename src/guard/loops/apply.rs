//! A plan carried out on the request: everything at its end, but for a reset view.

use super::contamination;
use super::force::Force;
use super::notes;
use super::plan::Plan;
use super::read::OWN_CALLS;
use super::state::Phase;
use crate::turn::{Content, Message, Part, Role, ToolChoice, ToolResult, Turn};

impl Plan {
    /// Change what the model is asked. Does nothing unless the plan acts.
    pub fn apply(&self, turn: &mut Turn) {
        if self.strips {
            strip(&mut turn.messages);
        }
        if !self.acts {
            return;
        }
        if let Some(cut) = self.cut {
            reset(&mut turn.messages, cut.keep_from as usize);
        }
        if let Some(note) = &self.note {
            match self.rung {
                Phase::Finalize => turn.messages.push(Message::text(Role::User, note.as_str())),
                _ => annotate(&mut turn.messages, note),
            }
        }
        match self.force {
            Force::Leave => {}
            Force::Nudge => annotate(&mut turn.messages, notes::NUDGE),
            Force::Require => turn.tool_choice = ToolChoice::Required,
            Force::Release => turn.tool_choice = ToolChoice::None,
        }
        if self.rung == Phase::Finalize {
            turn.tool_choice = ToolChoice::None;
        }
    }
}

/// Put `note` into the text of the last tool result, or behind everything.
fn annotate(messages: &mut Vec<Message>, note: &str) {
    if let Some(result) = messages.last_mut().and_then(last_result) {
        return match result.content.last_mut() {
            Some(Content::Text(text)) => {
                text.push_str("\n\n");
                text.push_str(note);
            }
            _ => result.content.push(Content::Text(note.to_owned())),
        };
    }
    messages.push(Message::text(Role::User, note));
}

fn last_result(message: &mut Message) -> Option<&mut ToolResult> {
    let is_result = |part: &Part| matches!(part, Part::ToolResult(_));
    if !message.parts().iter().any(is_result) {
        return None;
    }
    let parts = message.parts_mut().iter_mut().rev();
    parts.into_iter().find_map(|part| match part {
        Part::ToolResult(result) => Some(result),
        _ => None,
    })
}

/// The first message, the marker, and everything from `keep_from` on.
fn reset(messages: &mut Vec<Message>, keep_from: usize) {
    let Some(first) = contamination::first(messages) else {
        return;
    };
    if keep_from <= first + 1 || keep_from > messages.len() {
        return;
    }
    let marker = Message::text(Role::User, notes::RESET);
    messages.splice(first + 1..keep_from, [marker]);
}

/// Take out the calls we made ourselves, and their results.
fn strip(messages: &mut [Message]) {
    for message in messages {
        let is_own = |part: &Part| match part {
            Part::ToolCall(call) => call.id.starts_with(OWN_CALLS),
            Part::ToolResult(result) => result.call_id.starts_with(OWN_CALLS),
            _ => false,
        };
        if !message.parts().iter().any(is_own) {
            continue;
        }
        let parts = message.parts_mut();
        parts.retain(|part| !is_own(part));
        let is_empty = parts.is_empty();
        if is_empty && message.role() != Role::Assistant {
            *message = Message::text(Role::User, notes::CONTINUE);
        }
    }
}
