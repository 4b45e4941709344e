//! Protocols, as pure conversions: the clients' dialects on one side, llama-server's on the other.

pub mod anthropic;
pub mod error;
pub mod json;
pub mod llama;
pub mod openai;
pub mod relay;
pub mod responses;
pub mod sse;
pub mod stop;

#[cfg(test)]
mod properties;

use bytes::BytesMut;
use serde_json::value::RawValue;

use crate::turn::{Answer, Event, Turn, TurnError, Usage};

/// A client protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI Chat Completions, and the older paths relayed in its shapes.
    OpenAi,
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Responses.
    Responses,
}

/// What an answer repeats about its request.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The request's identifier, without the dialect's prefix.
    pub id: String,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// Model name as the client asked for it.
    pub model: String,
}

impl Dialect {
    /// Every one.
    pub const ALL: &[Self] = &[Self::OpenAi, Self::Anthropic, Self::Responses];

    /// Decode a generating request's body.
    ///
    /// # Errors
    /// [`TurnError::BadRequest`] naming the field at fault.
    pub fn decode(self, body: &[u8]) -> Result<Turn, TurnError> {
        match self {
            Self::OpenAi => openai::decode(body),
            Self::Anthropic => anthropic::decode(body),
            Self::Responses => responses::decode(body),
        }
    }

    /// A whole answer to `turn` as one body.
    pub fn render(
        self,
        meta: &Meta,
        turn: &Turn,
        answer: &Answer,
        usage: Usage,
        timings: Option<&RawValue>,
    ) -> BytesMut {
        match self {
            Self::OpenAi => openai::render(meta, answer, usage, timings),
            Self::Anthropic => anthropic::render(meta, answer, usage),
            Self::Responses => responses::render(meta, turn, answer, usage),
        }
    }
}

/// Encoder of one streamed answer, in the client's dialect.
#[derive(Debug)]
pub enum StreamEncoder {
    /// Chunks.
    OpenAi(openai::StreamEncoder),
    /// Typed events.
    Anthropic(anthropic::StreamEncoder),
    /// Typed and numbered events.
    Responses(responses::StreamEncoder),
}

impl StreamEncoder {
    /// An encoder for the answer to `turn`.
    pub fn new(dialect: Dialect, meta: &Meta, turn: &Turn) -> Self {
        match dialect {
            Dialect::OpenAi => {
                let encoder = openai::StreamEncoder::new(meta, turn.choices, turn.include_usage);
                Self::OpenAi(encoder)
            }
            Dialect::Anthropic => Self::Anthropic(anthropic::StreamEncoder::new(meta)),
            Dialect::Responses => Self::Responses(responses::StreamEncoder::new(meta, turn)),
        }
    }

    /// Append what a client should see of `event`; `usage` tells what is known by
    /// now. A finish is
    /// only remembered: [`Self::finish`] says it once the whole answer is known to be complete.
    pub fn event(&mut self, event: &Event, usage: impl FnOnce() -> Usage, out: &mut BytesMut) {
        match self {
            Self::OpenAi(encoder) => encoder.event(event, out),
            Self::Anthropic(encoder) => encoder.event(event, usage, out),
            Self::Responses(encoder) => encoder.event(event, out),
        }
    }

    /// Append a real event that says nothing: comments do not keep every client alive.
    pub fn ping(&mut self, usage: Usage, out: &mut BytesMut) {
        match self {
            Self::OpenAi(encoder) => encoder.ping(out),
            Self::Anthropic(encoder) => encoder.ping(usage, out),
            Self::Responses(encoder) => encoder.ping(out),
        }
    }

    /// Append the end of a complete answer.
    pub fn finish(&mut self, usage: Usage, timings: Option<&RawValue>, out: &mut BytesMut) {
        match self {
            Self::OpenAi(encoder) => encoder.finish(usage, timings, out),
            Self::Anthropic(encoder) => encoder.finish(usage, out),
            Self::Responses(encoder) => encoder.finish(usage, out),
        }
    }

    /// Append the error that ends an answer that cannot be completed. No terminator follows: an
    /// answer that broke off must not look complete.
    pub fn fail(&mut self, error: &TurnError, out: &mut BytesMut) {
        match self {
            Self::OpenAi(_) => error::stream_event(Dialect::OpenAi, error, out),
            Self::Anthropic(_) => error::stream_event(Dialect::Anthropic, error, out),
            Self::Responses(encoder) => encoder.fail(error, out),
        }
    }
}
