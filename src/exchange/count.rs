//! `POST /v1/messages/count_tokens`: the exact number, from the backend, of the prompt it would get.

use bytes::BytesMut;

use super::conversion::{Conversion, Progress, Report, UpstreamRequest};
use crate::dialect::llama::{Ask, Fault, Target, count_body, stream_fault, text_body};
use crate::dialect::{Dialect, anthropic, error};
use crate::turn::{Turn, TurnError};

/// Longest answer accepted from a backend; it is one number.
const MAX_ANSWER: usize = 64 << 10;

/// Conversion of one count.
pub struct CountConversion {
    turn: Turn,
    answer: BytesMut,
}

impl CountConversion {
    /// Count the tokens of `turn`.
    pub fn new(turn: Turn) -> Self {
        Self {
            turn,
            answer: BytesMut::new(),
        }
    }
}

/// The question how many tokens the prompt of `turn` has.
pub(super) fn whole(turn: &Turn, target: Target<'_>) -> UpstreamRequest {
    UpstreamRequest {
        path: "/v1/chat/completions/input_tokens",
        body: count_body(turn, target).freeze(),
        trace: None,
    }
}

/// The question how many tokens `text` has.
pub(super) fn text(text: &str) -> UpstreamRequest {
    UpstreamRequest {
        path: "/tokenize",
        body: text_body(text).freeze(),
        trace: None,
    }
}

impl Conversion for CountConversion {
    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn begin(&mut self, target: Target<'_>, _: Option<&Ask>) -> UpstreamRequest {
        self.answer.clear();
        whole(&self.turn, target)
    }

    fn feed(&mut self, chunk: &[u8], _: &mut BytesMut) -> Result<Progress, Fault> {
        if self.answer.len() + chunk.len() > MAX_ANSWER {
            return Err(stream_fault("the backend's answer is too large"));
        }
        self.answer.extend_from_slice(chunk);
        Ok(Progress::Content)
    }

    fn end(&mut self, _: &mut BytesMut) -> Result<(), Fault> {
        match anthropic::input_tokens(&self.answer) {
            Some(answer) => self.answer = answer,
            None => return Err(stream_fault("the backend did not count")),
        }
        Ok(())
    }

    fn ping(&mut self, _: &mut BytesMut) {}

    fn fail(&mut self, error: &TurnError, out: &mut BytesMut) {
        error::stream_event(self.dialect(), error, out);
    }

    fn delivered(&self) -> bool {
        false
    }

    fn whole(&mut self) -> Option<BytesMut> {
        Some(self.answer.split())
    }

    fn report(&self) -> Report {
        Report::default()
    }
}
