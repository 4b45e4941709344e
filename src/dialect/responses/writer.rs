//! Writes the events of an output as it grows.

use bytes::BytesMut;
use serde::Serialize;
use serde_json::value::RawValue;

use super::item::{Body, Call, Item};
use super::output::Watch;
use super::wire::{WireItem, WirePart};
use crate::dialect::sse;
use crate::turn::{AnswerForm, ToolKind};

/// One event about an item.
#[derive(Default, Serialize)]
struct Wire<'a> {
    r#type: &'static str,
    sequence_number: u64,
    output_index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a [Box<RawValue>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<WirePart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<WireItem<'a>>,
}

/// See the module's documentation.
pub(super) struct Writer<'a> {
    form: &'a AnswerForm,
    sequence: &'a mut u64,
    out: &'a mut BytesMut,
}

impl<'a> Writer<'a> {
    pub(super) fn new(form: &'a AnswerForm, sequence: &'a mut u64, out: &'a mut BytesMut) -> Self {
        Self {
            form,
            sequence,
            out,
        }
    }

    fn write(&mut self, r#type: &'static str, event: Wire<'_>) {
        let event = Wire {
            r#type,
            sequence_number: *self.sequence,
            ..event
        };
        sse::write_event(self.out, r#type, &event);
        *self.sequence += 1;
    }

    /// What every event inside an item says; where texts are, also which of its parts.
    fn inside<'w>(&self, at: u32, item: &'w Item) -> Wire<'w> {
        let summary = self.is_summary(&item.body);
        let texts = !matches!(item.body, Body::Call(_));
        Wire {
            output_index: at,
            item_id: Some(&item.id),
            content_index: (texts && !summary).then_some(0),
            summary_index: (texts && summary).then_some(0),
            ..Wire::default()
        }
    }

    fn is_summary(&self, body: &Body) -> bool {
        self.form.summary && matches!(body, Body::Reasoning { .. })
    }

    fn call_done(&mut self, at: u32, item: &Item, call: &Call) {
        let inside = self.inside(at, item);
        match call.form.kind {
            ToolKind::Function => {
                let done = Wire {
                    name: Some(&call.form.name),
                    arguments: Some(&call.arguments),
                    ..inside
                };
                self.write("response.function_call_arguments.done", done);
            }
            ToolKind::Custom => {
                // Only the whole arguments tell the text in them.
                let input = call.input();
                let delta = Wire {
                    delta: Some(&input),
                    ..inside
                };
                self.write("response.custom_tool_call_input.delta", delta);
                let done = Wire {
                    input: Some(&input),
                    ..self.inside(at, item)
                };
                self.write("response.custom_tool_call_input.done", done);
            }
            ToolKind::LocalShell => {}
        }
    }

    fn text_done(&mut self, at: u32, item: &Item, text: &str, logprobs: Option<&[Box<RawValue>]>) {
        let (text_done, part_done) = match &item.body {
            Body::Reasoning { .. } if self.form.summary => (
                "response.reasoning_summary_text.done",
                "response.reasoning_summary_part.done",
            ),
            Body::Reasoning { .. } => {
                ("response.reasoning_text.done", "response.content_part.done")
            }
            _ => ("response.output_text.done", "response.content_part.done"),
        };
        let done = Wire {
            text: Some(text),
            logprobs,
            ..self.inside(at, item)
        };
        self.write(text_done, done);
        let done = Wire {
            part: item.part(self.form),
            ..self.inside(at, item)
        };
        self.write(part_done, done);
    }
}

impl Watch for Writer<'_> {
    fn opened(&mut self, at: u32, item: &Item) {
        let form = self.form;
        let added = Wire {
            output_index: at,
            item: Some(item.wire(self.form)),
            ..Wire::default()
        };
        self.write("response.output_item.added", added);
        if let Some(part) = WirePart::empty(&item.body, form) {
            let name = if self.is_summary(&item.body) {
                "response.reasoning_summary_part.added"
            } else {
                "response.content_part.added"
            };
            let added = Wire {
                part: Some(part),
                ..self.inside(at, item)
            };
            self.write(name, added);
        }
    }

    fn grew(&mut self, at: u32, item: &Item, more: &str, logprobs: &[Box<RawValue>]) {
        let name = match &item.body {
            Body::Message { .. } => "response.output_text.delta",
            Body::Reasoning { .. } if self.form.summary => "response.reasoning_summary_text.delta",
            Body::Reasoning { .. } => "response.reasoning_text.delta",
            Body::Call(call) if call.form.kind == ToolKind::Function => {
                "response.function_call_arguments.delta"
            }
            Body::Call(_) => return,
        };
        let is_message = matches!(item.body, Body::Message { .. });
        let delta = Wire {
            delta: Some(more),
            logprobs: is_message.then_some(logprobs),
            ..self.inside(at, item)
        };
        self.write(name, delta);
    }

    fn closed(&mut self, at: u32, item: &Item) {
        match &item.body {
            Body::Message { text, logprobs } => self.text_done(at, item, text, Some(logprobs)),
            Body::Reasoning { text } => self.text_done(at, item, text, None),
            Body::Call(call) => self.call_done(at, item, call),
        }
        let done = Wire {
            output_index: at,
            item: Some(item.wire(self.form)),
            ..Wire::default()
        };
        self.write("response.output_item.done", done);
    }
}
