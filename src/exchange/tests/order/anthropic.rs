//! Anthropic's order.

use proptest::prelude::*;
use serde_json::Value;

use super::upstream::{End, Step, pieces, said, troubled};
use super::{converse, events, request};
use crate::dialect::Dialect;
use crate::exchange::tests::accept::{Block, Message};

fn of(message: &Message, kind: &str) -> String {
    let blocks = message.blocks.iter().filter(|block| block.kind == kind);
    blocks.map(|block| block.said.as_str()).collect()
}

pub(super) fn check(steps: &[Step], end: End, stop: bool, cut: usize) -> Result<(), TestCaseError> {
    let request = request(Dialect::Anthropic, stop);
    let (complete, stream) = converse(Dialect::Anthropic, &request, &pieces(steps, end, cut));
    let mut message = Message::default();
    let mut events = events(&stream);
    let failed = events
        .last()
        .is_some_and(|(name, _)| *name == Some("error"));
    prop_assert_eq!(complete, !failed, "{}", stream);
    if failed {
        let (_, data) = events.pop().unwrap();
        let error: Value = serde_json::from_str(data).unwrap();
        prop_assert!(error["error"]["type"].is_string() && error["type"] == "error");
    }
    for (name, data) in events {
        let event: Value = serde_json::from_str(data).unwrap();
        let taken = message.take(name.unwrap_or("no name"), &event);
        prop_assert!(taken.is_ok(), "{:?} in\n{}", taken, stream);
    }
    prop_assert_eq!(complete, message.stopped, "{}", stream);
    let calls_f = |block: &Block| block.kind != "tool_use" || block.name == "f";
    prop_assert!(message.blocks.iter().all(calls_f), "{}", stream);
    let (text, thinking, arguments, calls) = said(steps);
    if !stop {
        prop_assert_eq!(complete, end != End::None && !troubled(steps), "{}", stream);
    }
    if complete && !stop {
        prop_assert_eq!(of(&message, "text"), text);
        prop_assert_eq!(of(&message, "thinking"), thinking);
        prop_assert_eq!(of(&message, "tool_use"), arguments);
        let expected = match end {
            End::Finish("length") => "max_tokens",
            _ if calls > 0 => "tool_use",
            _ => "end_turn",
        };
        prop_assert_eq!(message.stop_reason.as_deref(), Some(expected));
    }
    if message.stop_reason.as_deref() == Some("tool_use") {
        prop_assert!(message.blocks.iter().any(|block| block.kind == "tool_use"));
    }
    if message.stop_reason.as_deref() == Some("stop_sequence") {
        // Block by block: reasoning between two texts ends a half match.
        let shown = |block: &Block| block.kind == "text" && block.said.contains("END");
        prop_assert!(!message.blocks.iter().any(shown));
    }
    Ok(())
}
