//! Anthropic's order.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::upstream::{End, Step, pieces, said, troubled};
use super::{converse, events, request};
use crate::dialect::Dialect;

/// Anthropic's stream as `MessageStream` of the SDKs accumulates it.
#[derive(Default)]
struct Message {
    started: bool,
    open: Option<(u64, String)>,
    blocks: Vec<(String, String)>,
    stop_reason: Option<String>,
    stopped: bool,
}

impl Message {
    fn take(&mut self, name: &str, event: &Value) -> Result<(), String> {
        let refuse = |what: &str| Err(format!("{what}: {event}"));
        if event["type"] != name {
            return refuse("the event's name is not its type");
        }
        if self.stopped {
            return refuse("after message_stop");
        }
        if !self.started && name != "message_start" {
            return refuse("before message_start");
        }
        let index = event["index"].as_u64();
        match name {
            "message_start" if self.started => return refuse("a second start"),
            "message_start" => {
                let message = &event["message"];
                let id = message["id"].as_str().unwrap_or_default();
                if !id.starts_with("msg_")
                    || message["content"] != json!([])
                    || !message["usage"]["input_tokens"].is_u64()
                {
                    return refuse("start");
                }
                self.started = true;
            }
            "ping" => {}
            _ if self.stop_reason.is_some() && name != "message_stop" => {
                return refuse("after message_delta");
            }
            "content_block_start" => {
                if self.open.is_some() || index != Some(self.blocks.len() as u64) {
                    return refuse("block start");
                }
                let block = &event["content_block"];
                let kind = block["type"].as_str().unwrap_or_default();
                let empty = match kind {
                    "text" => block["text"] == "",
                    "thinking" => block["thinking"] == "" && block["signature"] == "",
                    "tool_use" => {
                        block["input"] == json!({})
                            && block["id"].is_string()
                            && block["name"] == "f"
                    }
                    _ => false,
                };
                if !empty {
                    return refuse("content block");
                }
                self.blocks.push((kind.to_owned(), String::new()));
                self.open = index.map(|index| (index, kind.to_owned()));
            }
            "content_block_delta" => {
                let Some((open, kind)) = &self.open else {
                    return refuse("no block is open");
                };
                let delta = &event["delta"];
                let field = match (kind.as_str(), delta["type"].as_str()) {
                    ("text", Some("text_delta")) => "text",
                    ("thinking", Some("thinking_delta")) => "thinking",
                    ("thinking", Some("signature_delta")) => "signature",
                    ("tool_use", Some("input_json_delta")) => "partial_json",
                    _ => return refuse("a delta of another kind"),
                };
                let Some(text) = delta[field].as_str().filter(|_| index == Some(*open)) else {
                    return refuse("delta");
                };
                self.blocks[*open as usize].1.push_str(text);
            }
            "content_block_stop" => {
                let Some((open, kind)) = self.open.take().filter(|(open, _)| index == Some(*open))
                else {
                    return refuse("stop of a block that is not open");
                };
                if kind != "tool_use" && self.blocks[open as usize].1.is_empty() {
                    return refuse("an empty block");
                }
            }
            "message_delta" => {
                if self.open.is_some() || !event["usage"]["output_tokens"].is_u64() {
                    return refuse("message_delta");
                }
                self.stop_reason = event["delta"]["stop_reason"].as_str().map(str::to_owned);
            }
            "message_stop" if self.stop_reason.is_some() => self.stopped = true,
            _ => return refuse("unexpected"),
        }
        Ok(())
    }

    fn of(&self, kind: &str) -> String {
        self.blocks
            .iter()
            .filter(|(k, _)| k == kind)
            .map(|(_, text)| text.as_str())
            .collect()
    }
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
    let (text, thinking, arguments, calls) = said(steps);
    if !stop {
        prop_assert_eq!(complete, end != End::None && !troubled(steps), "{}", stream);
    }
    if complete && !stop {
        prop_assert_eq!(message.of("text"), text);
        prop_assert_eq!(message.of("thinking"), thinking);
        prop_assert_eq!(message.of("tool_use"), arguments);
        let expected = match end {
            End::Finish("length") => "max_tokens",
            _ if calls > 0 => "tool_use",
            _ => "end_turn",
        };
        prop_assert_eq!(message.stop_reason.as_deref(), Some(expected));
    }
    if message.stop_reason.as_deref() == Some("tool_use") {
        prop_assert!(message.blocks.iter().any(|(kind, _)| kind == "tool_use"));
    }
    if message.stop_reason.as_deref() == Some("stop_sequence") {
        // Block by block: reasoning between two texts ends a half match.
        let shown = |(kind, text): &(String, String)| kind == "text" && text.contains("END");
        prop_assert!(!message.blocks.iter().any(shown));
    }
    Ok(())
}
