//! Where an answer goes: on to the client as it comes, or together.

use bytes::BytesMut;
use serde_json::value::RawValue;

use crate::dialect::{Dialect, Meta, StreamEncoder};
use crate::turn::{Answer, Delta, Event, Turn, TurnError, Usage, floor};

/// See the module's documentation.
pub(super) enum Sink {
    /// A client that streams.
    Stream(StreamEncoder),
    /// A client that does not.
    Whole {
        answer: Answer,
        /// What earlier attempts contributed: an attempt that fails adds nothing.
        checkpoint: Answer,
    },
}

impl Sink {
    pub(super) fn new(dialect: Dialect, meta: &Meta, turn: &Turn) -> Self {
        if turn.stream {
            Self::Stream(StreamEncoder::new(dialect, meta, turn))
        } else {
            Self::Whole {
                answer: Answer::default(),
                checkpoint: Answer::default(),
            }
        }
    }

    /// Whatever an earlier attempt left behind without [`Self::keep`] is forgotten.
    pub(super) fn attempt_begins(&mut self) {
        if let Self::Whole { answer, checkpoint } = self {
            answer.clone_from(checkpoint);
        }
    }

    /// What has been said stays, whatever comes of further attempts.
    pub(super) fn keep(&mut self) {
        if let Self::Whole { answer, checkpoint } = self {
            checkpoint.clone_from(answer);
        }
    }

    /// Take in an event; whether the client has got part of the answer by it.
    pub(super) fn event(
        &mut self,
        event: Event,
        usage: impl FnOnce() -> Usage,
        out: &mut BytesMut,
    ) -> bool {
        match self {
            Self::Stream(encoder) => {
                encoder.event(&event, usage, out);
                matches!(event, Event::Delta { .. })
            }
            Self::Whole { answer, .. } => {
                answer.push(event);
                false
            }
        }
    }

    pub(super) fn delta(
        &mut self,
        choice: u32,
        (delta, logprobs): (Delta, Option<Box<RawValue>>),
        usage: impl FnOnce() -> Usage,
        out: &mut BytesMut,
    ) -> bool {
        let event = Event::Delta {
            choice,
            delta,
            logprobs,
        };
        self.event(event, usage, out)
    }

    /// Of the visible text of the running attempt only `keep` bytes are worth it. What a stream has
    /// said is said.
    pub(super) fn cut(&mut self, choice: u32, keep: usize) {
        let Self::Whole { answer, checkpoint } = self else {
            return;
        };
        let before = checkpoint.choices.get(choice as usize);
        let before = before.map_or(0, |choice| choice.text.len());
        if let Some(choice) = answer.choices.get_mut(choice as usize) {
            choice.text.truncate(floor(&choice.text, before + keep));
        }
    }

    pub(super) fn ping(&mut self, usage: Usage, out: &mut BytesMut) {
        if let Self::Stream(encoder) = self {
            encoder.ping(usage, out);
        }
    }

    /// The answer is complete.
    pub(super) fn finish(&mut self, usage: Usage, timings: Option<&RawValue>, out: &mut BytesMut) {
        if let Self::Stream(encoder) = self {
            encoder.finish(usage, timings, out);
        }
    }

    /// The answer cannot be completed.
    pub(super) fn fail(&mut self, error: &TurnError, out: &mut BytesMut) {
        if let Self::Stream(encoder) = self {
            encoder.fail(error, out);
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// The collected answer; none for a stream.
    pub(super) fn whole(&self) -> Option<&Answer> {
        match self {
            Self::Stream(_) => None,
            Self::Whole { answer, .. } => Some(answer),
        }
    }
}
