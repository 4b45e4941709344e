//! Answers as the API's event stream.
//!
//! The order is strict: `response.created`, then the items one after the other, each with its part
//! opened, filled and closed, then one of `response.completed`, `response.incomplete` and
//! `response.failed`. Every event is numbered.

use std::sync::Arc;

use bytes::BytesMut;
use serde::Serialize;
use serde_json::value::RawValue;

use super::item::Status;
use super::object::{Response, WireUsage, final_status};
use super::output::Output;
use super::writer::Writer;
use crate::dialect::error::ResponseError;
use crate::dialect::{Meta, sse};
use crate::turn::{Delta, Event, Stop, Turn, TurnError, Usage};

/// Encoder of one streamed answer.
#[derive(Debug)]
pub struct StreamEncoder {
    meta: Meta,
    output: Output,
    started: bool,
    /// Number of the next event.
    sequence: u64,
    stop: Option<Stop>,
}

/// One event about the response.
#[derive(Serialize)]
struct WireResponse<'a> {
    r#type: &'static str,
    sequence_number: u64,
    response: Response<'a>,
}

impl StreamEncoder {
    /// An encoder for the answer to `turn`.
    pub fn new(meta: &Meta, turn: &Turn) -> Self {
        Self {
            output: Output::new(&meta.id, Arc::clone(&turn.answer)),
            meta: meta.clone(),
            started: false,
            sequence: 0,
            stop: None,
        }
    }

    /// Append what a client should see of `event`. A finish is only remembered: [`Self::finish`]
    /// says it once the whole answer is known to be complete.
    pub fn event(&mut self, event: &Event, out: &mut BytesMut) {
        match event {
            Event::Delta {
                delta, logprobs, ..
            } => {
                self.start(out);
                self.grow(delta, logprobs.as_deref(), out);
            }
            Event::Finish { stop, .. } => self.stop = Some(stop.clone()),
        }
    }

    /// A sign of life: the start of the response, once, then `response.in_progress`.
    pub fn ping(&mut self, out: &mut BytesMut) {
        if !self.start(out) {
            self.in_progress(out);
        }
    }

    /// End the answer.
    pub fn finish(&mut self, usage: Usage, out: &mut BytesMut) {
        self.start(out);
        let stop = self.stop.take().unwrap_or(Stop::End);
        let form = Arc::clone(&self.output.form);
        let writer = &mut Writer::new(&form, &mut self.sequence, out);
        self.output.close(&stop, writer);
        let status = final_status(Some(&stop));
        let name = match status {
            Status::Incomplete => "response.incomplete",
            _ => "response.completed",
        };
        self.response(name, status, Some(usage), None, out);
    }

    /// End it with an error.
    pub fn fail(&mut self, error: &TurnError, out: &mut BytesMut) {
        self.start(out);
        self.output.break_off();
        let error = ResponseError::new(error);
        self.response("response.failed", Status::Failed, None, Some(error), out);
    }

    fn start(&mut self, out: &mut BytesMut) -> bool {
        if std::mem::replace(&mut self.started, true) {
            return false;
        }
        self.response("response.created", Status::InProgress, None, None, out);
        self.in_progress(out);
        true
    }

    fn in_progress(&mut self, out: &mut BytesMut) {
        self.response("response.in_progress", Status::InProgress, None, None, out);
    }

    fn response(
        &mut self,
        r#type: &'static str,
        status: Status,
        usage: Option<Usage>,
        error: Option<ResponseError>,
        out: &mut BytesMut,
    ) {
        // A sign of life repeats neither what was said nor tens of kilobytes of tools.
        let is_sign = r#type == "response.in_progress";
        let reasoning = self.output.reasoning_tokens();
        let response = Response {
            meta: &self.meta,
            form: &self.output.form,
            status,
            output: if is_sign {
                Vec::new()
            } else {
                self.output.wire()
            },
            usage: usage.map(|usage| WireUsage::new(usage, reasoning)),
            error,
            offer: !is_sign,
        };
        let event = WireResponse {
            r#type,
            sequence_number: self.sequence,
            response,
        };
        sse::write_event(out, r#type, &event);
        self.sequence += 1;
    }

    fn grow(&mut self, delta: &Delta, logprobs: Option<&RawValue>, out: &mut BytesMut) {
        let form = Arc::clone(&self.output.form);
        let writer = &mut Writer::new(&form, &mut self.sequence, out);
        match delta {
            Delta::Text(text) => self.output.say(text, logprobs, writer),
            Delta::Thinking(text) => self.output.think(text, writer),
            Delta::ToolOpen { id, name, .. } => self.output.call(id, name, writer),
            Delta::ToolArguments { fragment, .. } => self.output.arguments(fragment, writer),
        }
    }
}
