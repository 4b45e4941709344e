//! A relayed request: completions as a stream or collected from one, embeddings as they come.

use bytes::BytesMut;

use super::conversion::{Conversion, Progress, Report, UpstreamRequest};
use crate::dialect::llama::{Ask, Fault, Target, stream_fault};
use crate::dialect::relay::{self, Completion, Kind, Relay, Said};
use crate::dialect::{Dialect, error, sse};
use crate::turn::TurnError;

/// Longest event, and longest embeddings answer, accepted from a backend.
const MAX_ANSWER: usize = 64 << 20;

/// Conversion of one relayed request.
pub struct RelayConversion {
    relay: Relay,
    frames: sse::Decoder,
    completion: Completion,
    body: BytesMut,
    done: bool,
    delivered: bool,
}

impl RelayConversion {
    /// A conversion for `relay`.
    pub fn new(relay: Relay) -> Self {
        Self {
            relay,
            frames: sse::Decoder::new(MAX_ANSWER),
            completion: Completion::default(),
            body: BytesMut::new(),
            done: false,
            delivered: false,
        }
    }

    fn completion(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<Progress, Fault> {
        self.frames.push(chunk);
        let mut progress = Progress::Idle;
        while let Some(frame) = self
            .frames
            .next_frame()
            .map_err(|e| stream_fault(&e.to_string()))?
        {
            if frame.data.as_ref() == b"[DONE]" {
                self.done = true;
                continue;
            }
            let said = self.completion.push(&frame.data)?;
            if said == Said::Piece {
                progress = Progress::Content;
            }
            if self.relay.stream && (said == Said::Piece || self.relay.include_usage) {
                self.delivered |= said == Said::Piece;
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(&frame.data);
                out.extend_from_slice(b"\n\n");
            }
        }
        Ok(if self.done {
            Progress::Complete
        } else {
            progress
        })
    }
}

impl Conversion for RelayConversion {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }

    fn begin(&mut self, target: Target<'_>, _: Option<&Ask>) -> UpstreamRequest {
        self.frames = sse::Decoder::new(MAX_ANSWER);
        self.completion = Completion::default();
        self.body.clear();
        self.done = false;
        let body = self.relay.body(target).freeze();
        UpstreamRequest {
            path: self.relay.path(),
            body,
            trace: None,
        }
    }

    fn feed(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<Progress, Fault> {
        match self.relay.kind {
            Kind::Completion => self.completion(chunk, out),
            Kind::Embedding if self.body.len() + chunk.len() > MAX_ANSWER => {
                Err(stream_fault("the backend's answer is too large"))
            }
            Kind::Embedding => {
                self.body.extend_from_slice(chunk);
                Ok(Progress::Content)
            }
        }
    }

    fn end(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        if self.relay.kind == Kind::Completion && !self.completion.is_complete() {
            return Err(stream_fault("the backend ended its answer in the middle"));
        }
        if self.relay.stream {
            out.extend_from_slice(sse::DONE);
        }
        Ok(())
    }

    /// A text completion has no event that says nothing, except a piece of empty text.
    fn ping(&mut self, out: &mut BytesMut) {
        if self.relay.stream {
            const EMPTY: &[u8] = b"data: {\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":null}]}\n\n";
            out.extend_from_slice(EMPTY);
        }
    }

    fn fail(&mut self, error: &TurnError, out: &mut BytesMut) {
        error::stream_event(self.dialect(), error, out);
    }

    fn delivered(&self) -> bool {
        self.delivered
    }

    fn whole(&mut self) -> Option<BytesMut> {
        match self.relay.kind {
            Kind::Completion if self.relay.stream => None,
            Kind::Completion => Some(self.completion.render()),
            Kind::Embedding => Some(self.body.split()),
        }
    }

    fn report(&self) -> Report {
        let usage = match self.relay.kind {
            Kind::Completion => self.completion.usage(),
            Kind::Embedding => relay::embedding_usage(&self.body),
        };
        Report {
            usage: usage.unwrap_or_default(),
            ..Report::default()
        }
    }
}
