//! The response object, in streams and as a whole answer.

use bytes::BytesMut;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::echo::no_offer;
use super::item::Status;
use super::output::Output;
use super::wire::WireItem;
use crate::dialect::error::ResponseError;
use crate::dialect::{Meta, json};
use crate::turn::{Answer, AnswerForm, Choice, Stop, Turn, Usage};

/// The response as it is at one moment.
pub(super) struct Response<'a> {
    pub(super) meta: &'a Meta,
    pub(super) form: &'a AnswerForm,
    pub(super) status: Status,
    pub(super) output: Vec<WireItem<'a>>,
    pub(super) usage: Option<WireUsage>,
    pub(super) error: Option<ResponseError>,
    /// Repeat instructions and tools too.
    pub(super) offer: bool,
}

/// Usage in the API's words.
#[derive(Clone, Copy, Serialize)]
pub(super) struct WireUsage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct InputDetails {
    cached_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl WireUsage {
    /// llama-server does not count reasoning apart: its pieces are counted, of which there is one a
    /// token.
    pub(super) fn new(usage: Usage, reasoning: u64) -> Self {
        Self {
            input_tokens: usage.prompt,
            input_tokens_details: InputDetails {
                cached_tokens: usage.cached,
            },
            output_tokens: usage.completion,
            output_tokens_details: OutputDetails {
                reasoning_tokens: reasoning.min(usage.completion),
            },
            total_tokens: usage.prompt.saturating_add(usage.completion),
        }
    }
}

#[derive(Serialize)]
struct IncompleteDetails {
    reason: &'static str,
}

impl Serialize for Response<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let incomplete = (self.status == Status::Incomplete).then_some(IncompleteDetails {
            reason: "max_output_tokens",
        });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &format_args!("resp_{}", self.meta.id))?;
        map.serialize_entry("object", "response")?;
        map.serialize_entry("created_at", &self.meta.created)?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("error", &self.error)?;
        map.serialize_entry("incomplete_details", &incomplete)?;
        map.serialize_entry("model", &self.meta.model)?;
        map.serialize_entry("output", &self.output)?;
        for (name, value) in &self.form.settings {
            map.serialize_entry(name, value)?;
        }
        if self.offer {
            for (name, value) in &self.form.offer {
                map.serialize_entry(name, value)?;
            }
        } else {
            for (name, value) in no_offer() {
                map.serialize_entry(name, value)?;
            }
        }
        map.serialize_entry("usage", &self.usage)?;
        map.end()
    }
}

/// How an answer that ended so stands.
pub(super) fn final_status(stop: Option<&Stop>) -> Status {
    match stop {
        Some(Stop::Length) => Status::Incomplete,
        _ => Status::Completed,
    }
}

/// The whole answer as one body.
pub fn render(meta: &Meta, turn: &Turn, answer: &Answer, usage: Usage) -> BytesMut {
    let nothing = Choice::default();
    let choice = answer.choices.first().unwrap_or(&nothing);
    let output = Output::of(&meta.id, turn.answer.clone(), choice);
    let response = Response {
        meta,
        form: &turn.answer,
        status: final_status(choice.stop.as_ref()),
        output: output.wire(),
        usage: Some(WireUsage::new(usage, output.reasoning_tokens())),
        error: None,
        offer: true,
    };
    let mut out = BytesMut::with_capacity(2048);
    json::write(&mut out, &response);
    out
}
