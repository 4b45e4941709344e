//! The order of OpenAI Responses.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::upstream::{End, Step, pieces, said, troubled};
use super::{converse, events, request};
use crate::dialect::Dialect;

/// How the client asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    stop: bool,
    summary: bool,
    /// The tool takes any text.
    custom: bool,
}

pub(super) fn how() -> impl Strategy<Value = How> {
    any::<(bool, bool, bool)>().prop_map(|(stop, summary, custom)| How {
        stop,
        summary,
        custom,
    })
}

/// A stream as the accumulators of the SDKs put it together.
#[derive(Default)]
struct Snapshot {
    events: u64,
    created: bool,
    /// The items, the last of which may be open.
    items: Vec<Open>,
    /// What ended it, with the response it carried.
    end: Option<(String, Value)>,
}

struct Open {
    item: Value,
    /// The part that is open in it.
    part: bool,
    grown: String,
    told: Option<String>,
    done: bool,
}

impl Snapshot {
    fn take(&mut self, name: &str, event: &Value) -> Result<(), String> {
        let refuse = |what: &str| Err(format!("{what}: {event}"));
        if event["type"] != name || event["sequence_number"] != self.events {
            return refuse("name or number");
        }
        self.events += 1;
        if self.end.is_some() {
            return refuse("after the end");
        }
        match name {
            "response.created" if !self.created => {
                self.created = true;
                return self.response(event, "in_progress");
            }
            _ if !self.created => return refuse("before the start"),
            "response.in_progress" => return self.response(event, "in_progress"),
            "response.completed" | "response.incomplete" | "response.failed" => {
                let open = self.items.last().is_some_and(|open| !open.done);
                if open && name != "response.failed" {
                    return refuse("an item is open");
                }
                self.response(event, name.trim_start_matches("response."))?;
                self.end = Some((name.to_owned(), event["response"].clone()));
                return Ok(());
            }
            _ => {}
        }
        let position = event["output_index"].as_u64();
        if name == "response.output_item.added" {
            let free = self.items.last().is_none_or(|open| open.done);
            if !free || position != Some(self.items.len() as u64) {
                return refuse("an item before the last is done");
            }
            let item = event["item"].clone();
            if item["status"] != "in_progress" || !item["id"].is_string() {
                return refuse("a new item");
            }
            self.items.push(Open {
                item,
                part: false,
                grown: String::new(),
                told: None,
                done: false,
            });
            return Ok(());
        }
        let last = self.items.len().checked_sub(1).map(|at| at as u64);
        let Some(open) = self.items.last_mut().filter(|open| !open.done) else {
            return refuse("no item is open");
        };
        if position != last {
            return refuse("another item");
        }
        open.inside(name, event)
            .map_err(|what| format!("{what}: {event}"))
    }

    fn response(&self, event: &Value, status: &str) -> Result<(), String> {
        let response = &event["response"];
        let shape = response["id"] == "resp_1"
            && response["object"] == "response"
            && response["created_at"].is_u64()
            && response["model"] == "m"
            && response["output"].is_array()
            && response["tools"].is_array()
            && response["parallel_tool_calls"].is_boolean()
            && !response["tool_choice"].is_null();
        let is_error = response["error"]["code"].is_string();
        let cut = response["incomplete_details"]["reason"] == "max_output_tokens";
        let ended = matches!(status, "completed" | "incomplete");
        if shape
            && response["status"] == status
            && is_error == (status == "failed")
            && cut == (status == "incomplete")
            && ended == response["usage"]["total_tokens"].is_u64()
        {
            return Ok(());
        }
        Err(format!("response: {event}"))
    }
}

impl Open {
    fn inside(&mut self, name: &str, event: &Value) -> Result<(), &'static str> {
        let kind = self.item["type"].as_str().unwrap_or_default().to_owned();
        if name == "response.output_item.done" {
            if self.part || self.told.is_none() {
                return Err("an item that is not complete");
            }
            let item = &event["item"];
            if item["id"] != self.item["id"] || item["type"] != kind.as_str() {
                return Err("another item");
            }
            self.item = item.clone();
            self.done = true;
            return Ok(());
        }
        if event["item_id"] != self.item["id"] {
            return Err("another id");
        }
        let summary = name.contains("summary");
        let is_text = matches!(kind.as_str(), "message" | "reasoning");
        let index = if summary {
            "summary_index"
        } else {
            "content_index"
        };
        if is_text != (event[index] == 0) {
            return Err("index of the part");
        }
        let text = |field: &str| event[field].as_str().map(str::to_owned);
        match (kind.as_str(), name) {
            ("message" | "reasoning", "response.content_part.added")
            | ("reasoning", "response.reasoning_summary_part.added") => {
                if self.part || self.told.is_some() || event["part"]["text"] != "" {
                    return Err("a part");
                }
                self.part = true;
            }
            ("message", "response.output_text.delta")
            | ("reasoning", "response.reasoning_text.delta")
            | ("reasoning", "response.reasoning_summary_text.delta") => {
                let more = text("delta").filter(|more| self.part && !more.is_empty());
                self.grown.push_str(&more.ok_or("a delta")?);
                if kind == "message" && !event["logprobs"].is_array() {
                    return Err("logprobs");
                }
            }
            ("message", "response.output_text.done")
            | ("reasoning", "response.reasoning_text.done")
            | ("reasoning", "response.reasoning_summary_text.done") => {
                self.told = text("text").filter(|text| *text == self.grown);
                self.told.as_ref().ok_or("the whole text is another")?;
            }
            ("message" | "reasoning", "response.content_part.done")
            | ("reasoning", "response.reasoning_summary_part.done") => {
                if !self.part || self.told.as_deref() != event["part"]["text"].as_str() {
                    return Err("the end of a part");
                }
                self.part = false;
            }
            ("function_call", "response.function_call_arguments.delta")
            | ("custom_tool_call", "response.custom_tool_call_input.delta") => {
                self.grown.push_str(&text("delta").ok_or("a delta")?);
            }
            ("function_call", "response.function_call_arguments.done") => {
                self.told = text("arguments").filter(|text| *text == self.grown);
                self.told.as_ref().ok_or("the whole arguments are others")?;
            }
            ("custom_tool_call", "response.custom_tool_call_input.done") => {
                self.told = text("input").filter(|text| *text == self.grown);
                self.told.as_ref().ok_or("the whole input is another")?;
            }
            _ => return Err("unexpected"),
        }
        Ok(())
    }
}

pub(super) fn check(steps: &[Step], end: End, how: How, cut: usize) -> Result<(), TestCaseError> {
    let mut body = request(Dialect::Responses, how.stop);
    body["reasoning"] = json!({"summary": if how.summary { "auto" } else { "none" }});
    let kind = if how.custom { "custom" } else { "function" };
    body["tools"] = json!([{"type": kind, "name": "f"}]);
    let (complete, stream) = converse(Dialect::Responses, &body, &pieces(steps, end, cut));
    let mut snapshot = Snapshot::default();
    for (name, data) in events(&stream) {
        let event: Value = serde_json::from_str(data).unwrap();
        let taken = snapshot.take(name.unwrap_or("no name"), &event);
        prop_assert!(taken.is_ok(), "{:?} in\n{}", taken, stream);
    }
    let Some((name, response)) = &snapshot.end else {
        return Err(TestCaseError::fail(format!("no end: {stream}")));
    };
    prop_assert_eq!(complete, name != "response.failed", "{}", stream);
    if !how.stop {
        prop_assert_eq!(complete, end != End::None && !troubled(steps), "{}", stream);
    }
    let items: Vec<&Value> = snapshot.items.iter().map(|open| &open.item).collect();
    if !complete {
        return Ok(());
    }
    let output: Vec<&Value> = response["output"].as_array().unwrap().iter().collect();
    prop_assert_eq!(&items, &output, "what was told is what it came to");
    let grown = |kind: &str| -> String {
        let of_kind = snapshot
            .items
            .iter()
            .filter(|open| open.item["type"] == kind);
        of_kind.map(|open| open.grown.as_str()).collect()
    };
    let cut = end == End::Finish("length");
    if !how.stop {
        let (text, thinking, arguments, calls) = said(steps);
        prop_assert_eq!(grown("message"), text);
        prop_assert_eq!(grown("reasoning"), thinking);
        let call = if how.custom {
            "custom_tool_call"
        } else {
            "function_call"
        };
        prop_assert_eq!(
            items.iter().filter(|item| item["type"] == call).count(),
            calls
        );
        // None of these arguments holds a text `input`, so that they are shown as they are.
        prop_assert_eq!(grown(call), arguments);
        let expected = if cut {
            "response.incomplete"
        } else {
            "response.completed"
        };
        prop_assert_eq!(name, expected);
        let last = items.last().map(|item| item["status"].clone());
        if let Some(last) = last {
            prop_assert_eq!(last, if cut { "incomplete" } else { "completed" });
        }
    } else {
        prop_assert!(
            !snapshot
                .items
                .iter()
                .any(|open| open.item["type"] == "message" && open.grown.contains("END"))
        );
    }
    Ok(())
}
