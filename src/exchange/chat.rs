//! A chat turn: any generating dialect in front, llama-server's chat completions behind.

use std::sync::Arc;

use bytes::BytesMut;

use super::conversion::{Conversion, Progress, Report, UpstreamRequest};
use crate::dialect::llama::{self, ChunkDecoder, Fault, Target, Upstream, stream_fault};
use crate::dialect::{Dialect, Meta, StreamEncoder, error, sse};
use crate::guard::stop_sequences::{Matched, StopMatcher};
use crate::turn::{Answer, Delta, Event, Stop, Turn, TurnError};

/// Longest single event accepted from a backend: one token, or one usage report.
const MAX_EVENT: usize = 8 << 20;

/// Conversion of one chat turn.
pub struct ChatConversion {
    dialect: Dialect,
    turn: Turn,
    meta: Meta,
    sink: Sink,
    attempt: Attempt,
    delivered: bool,
    scratch: Vec<Upstream>,
}

/// Where the answer goes: on to the client as it comes, or together.
enum Sink {
    Stream(StreamEncoder),
    Whole(Answer),
}

/// State of the running attempt; a further one begins anew.
struct Attempt {
    frames: sse::Decoder,
    chunks: ChunkDecoder,
    choices: Vec<ChoiceState>,
    done: bool,
}

struct ChoiceState {
    stops: StopMatcher,
    stop: Option<Stop>,
}

impl Attempt {
    fn new(turn: &Turn, seed: &str) -> Self {
        let stops: Arc<[String]> = turn.stop.as_slice().into();
        let choice = || ChoiceState {
            stops: StopMatcher::new(Arc::clone(&stops)),
            stop: None,
        };
        Self {
            frames: sse::Decoder::new(MAX_EVENT),
            chunks: ChunkDecoder::new(turn.choices, seed),
            choices: (0..turn.choices).map(|_| choice()).collect(),
            done: false,
        }
    }

    fn all_stopped(&self) -> bool {
        self.choices.iter().all(|choice| choice.stop.is_some())
    }
}

impl ChatConversion {
    /// A conversion for `turn`, answered in `dialect` under the name and id in `meta`.
    pub fn new(dialect: Dialect, turn: Turn, meta: Meta) -> Self {
        let sink = if turn.stream {
            Sink::Stream(StreamEncoder::new(dialect, &meta, &turn))
        } else {
            Sink::Whole(Answer::default())
        };
        let attempt = Attempt::new(&turn, &meta.id);
        Self {
            dialect,
            turn,
            meta,
            sink,
            attempt,
            delivered: false,
            scratch: Vec::new(),
        }
    }

    fn event(&mut self, event: Event, out: &mut BytesMut) {
        match event {
            Event::Delta {
                choice,
                delta: Delta::Text(text),
                logprobs,
            } => {
                let Some(state) = self.open_choice(choice) else {
                    return;
                };
                let (text, stop) = match state.stops.push(text) {
                    Matched::Text(text) => (text, None),
                    Matched::Stop { text, sequence } => (text, Some(Stop::Sequence(sequence))),
                };
                if !text.is_empty() || logprobs.is_some() {
                    self.emit(
                        Event::Delta {
                            choice,
                            delta: Delta::Text(text),
                            logprobs,
                        },
                        out,
                    );
                }
                if let Some(stop) = stop {
                    self.stop(choice, stop, out);
                }
            }
            Event::Delta { choice, .. } => {
                if self.open_choice(choice).is_some() {
                    self.flush(choice, out);
                    self.emit(event, out);
                }
            }
            Event::Finish { choice, stop } => {
                if self.open_choice(choice).is_some() {
                    self.flush(choice, out);
                    self.stop(choice, stop, out);
                }
            }
        }
    }

    fn open_choice(&mut self, choice: u32) -> Option<&mut ChoiceState> {
        self.attempt
            .choices
            .get_mut(choice as usize)
            .filter(|state| state.stop.is_none())
    }

    /// Text held for a stop sequence that did not come.
    fn flush(&mut self, choice: u32, out: &mut BytesMut) {
        if let Some(text) = self
            .open_choice(choice)
            .and_then(|state| state.stops.flush())
        {
            self.emit(
                Event::Delta {
                    choice,
                    delta: Delta::Text(text),
                    logprobs: None,
                },
                out,
            );
        }
    }

    fn stop(&mut self, choice: u32, stop: Stop, out: &mut BytesMut) {
        if let Some(state) = self.open_choice(choice) {
            state.stop = Some(stop.clone());
        }
        self.emit(Event::Finish { choice, stop }, out);
    }

    fn emit(&mut self, event: Event, out: &mut BytesMut) {
        match &mut self.sink {
            Sink::Stream(encoder) => {
                self.delivered |= matches!(event, Event::Delta { .. });
                encoder.event(&event, || self.attempt.chunks.usage(), out);
            }
            Sink::Whole(answer) => answer.push(event),
        }
    }

    fn frame(&mut self, data: &[u8], out: &mut BytesMut) -> Result<Progress, Fault> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let decoded = self.attempt.chunks.decode(data, &mut scratch);
        let mut progress = Progress::Idle;
        for upstream in scratch.drain(..) {
            match upstream {
                Upstream::Event(event) => {
                    progress = Progress::Content;
                    self.event(event, out);
                }
                Upstream::Progress => progress = progress.max(Progress::Alive),
                Upstream::Done => self.attempt.done = true,
            }
        }
        self.scratch = scratch;
        decoded.map(|()| progress)
    }
}

impl Conversion for ChatConversion {
    fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn begin(&mut self, target: Target<'_>) -> UpstreamRequest {
        self.attempt = Attempt::new(&self.turn, &self.meta.id);
        if let Sink::Whole(answer) = &mut self.sink {
            *answer = Answer::default();
        }
        // A stop sequence cancels the stream before its usage report; timings in every chunk
        // keep the count true.
        let timings_per_token = target.timings_per_token || !self.turn.stop.is_empty();
        let body = llama::chat_body(
            &self.turn,
            &[],
            Target {
                timings_per_token,
                ..target
            },
        );
        UpstreamRequest {
            path: "/v1/chat/completions",
            body: body.freeze(),
        }
    }

    fn feed(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<Progress, Fault> {
        self.attempt.frames.push(chunk);
        let mut progress = Progress::Idle;
        loop {
            let frame = self
                .attempt
                .frames
                .next_frame()
                .map_err(|e| stream_fault(&e.to_string()))?;
            let Some(frame) = frame else { break };
            progress = progress.max(self.frame(&frame.data, out)?);
            if self.attempt.all_stopped() && !self.attempt.chunks.is_complete() {
                // Whatever else has arrived is no part of the answer, nor of its count.
                return Ok(Progress::Cancel);
            }
        }
        Ok(if self.attempt.done {
            Progress::Complete
        } else {
            progress
        })
    }

    fn end(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        if !self.attempt.all_stopped() {
            return Err(stream_fault("the backend ended its answer in the middle"));
        }
        if let Sink::Stream(encoder) = &mut self.sink {
            let usage = self.attempt.chunks.usage();
            encoder.finish(usage, self.attempt.chunks.raw_timings(), out);
        }
        Ok(())
    }

    fn ping(&mut self, out: &mut BytesMut) {
        if let Sink::Stream(encoder) = &mut self.sink {
            encoder.ping(self.attempt.chunks.usage(), out);
        }
    }

    fn fail(&mut self, error: &TurnError, out: &mut BytesMut) {
        error::stream_event(self.dialect, error, out);
    }

    fn delivered(&self) -> bool {
        self.delivered
    }

    fn whole(&mut self) -> Option<BytesMut> {
        let Sink::Whole(answer) = &self.sink else {
            return None;
        };
        let usage = self.attempt.chunks.usage();
        Some(
            self.dialect
                .render(&self.meta, answer, usage, self.attempt.chunks.raw_timings()),
        )
    }

    fn report(&self) -> Report {
        Report {
            usage: self.attempt.chunks.usage(),
            stop: self
                .attempt
                .choices
                .first()
                .and_then(|choice| choice.stop.clone()),
            timings: self.attempt.chunks.timings(),
        }
    }
}
