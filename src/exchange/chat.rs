//! A chat turn: any generating dialect in front, llama-server's chat completions behind.

use std::sync::Arc;

use bytes::BytesMut;

use super::accounting::Accounting;
use super::choice::{ChoiceState, Guards, Taken};
use super::conversion::{Conversion, Progress, Report, UpstreamRequest};
use crate::dialect::llama::{self, Ask, ChunkDecoder, Fault, Target, Upstream, stream_fault};
use crate::dialect::{Dialect, Meta, StreamEncoder, error, sse};
use crate::guard::reask;
use crate::guard::trouble::Trouble;
use crate::turn::{Answer, Delta, Event, Stop, Turn, TurnError};

/// Longest single event accepted from a backend: one token, or one usage report.
const MAX_EVENT: usize = 8 << 20;

/// Conversion of one chat turn.
pub struct ChatConversion {
    dialect: Dialect,
    turn: Turn,
    meta: Meta,
    guards: Guards,
    sink: Sink,
    attempt: Attempt,
    accounting: Accounting,
    /// Whether this attempt has given the client anything.
    delivered: bool,
    /// Tool calls the client has, of all attempts.
    calls: u32,
    trouble: Option<Trouble>,
    asks_left: u32,
    scratch: Vec<Upstream>,
}

/// Where the answer goes: on to the client as it comes, or together.
enum Sink {
    Stream(StreamEncoder),
    Whole {
        answer: Answer,
        /// What earlier attempts contributed: an attempt that fails adds nothing.
        checkpoint: Answer,
    },
}

/// State of the running attempt; a further one begins anew.
struct Attempt {
    frames: sse::Decoder,
    chunks: ChunkDecoder,
    choices: Vec<ChoiceState>,
    done: bool,
}

impl Attempt {
    fn all_stopped(&self) -> bool {
        self.choices.iter().all(|choice| choice.stop.is_some())
    }
}

impl ChatConversion {
    /// A conversion for `turn`, answered in `dialect` under the name and id in `meta`.
    pub fn new(dialect: Dialect, turn: Turn, meta: Meta, guards: Guards) -> Self {
        let sink = if turn.stream {
            Sink::Stream(StreamEncoder::new(dialect, &meta, &turn))
        } else {
            Sink::Whole {
                answer: Answer::default(),
                checkpoint: Answer::default(),
            }
        };
        let attempt = Self::attempt(&turn, &meta, &guards, 0, false);
        Self {
            asks_left: guards.retry_max(),
            dialect,
            turn,
            meta,
            guards,
            sink,
            attempt,
            accounting: Accounting::default(),
            delivered: false,
            calls: 0,
            trouble: None,
            scratch: Vec::new(),
        }
    }

    fn attempt(
        turn: &Turn,
        meta: &Meta,
        guards: &Guards,
        calls: u32,
        constrained: bool,
    ) -> Attempt {
        let stops: Arc<[String]> = turn.stop.as_slice().into();
        let choice = || ChoiceState::new(guards, Arc::clone(&stops), calls, constrained);
        Attempt {
            frames: sse::Decoder::new(MAX_EVENT),
            chunks: ChunkDecoder::new(turn.choices, &meta.id),
            choices: (0..turn.choices).map(|_| choice()).collect(),
            done: false,
        }
    }

    fn event(&mut self, event: Event, out: &mut BytesMut) {
        let choice = match &event {
            Event::Delta { choice, .. } | Event::Finish { choice, .. } => *choice,
        };
        let Some(state) = self.attempt.choices.get_mut(choice as usize) else {
            return;
        };
        if state.stop.is_some() || self.trouble.is_some() {
            return;
        }
        let mut taken = Taken::default();
        match event {
            Event::Delta {
                delta, logprobs, ..
            } => state.push(delta, logprobs, &mut taken),
            Event::Finish { stop, .. } => state.finish(stop, &mut taken),
        }
        self.take(choice, taken, out);
    }

    fn take(&mut self, choice: u32, taken: Taken, out: &mut BytesMut) {
        for (delta, logprobs) in taken.deltas {
            if matches!(delta, Delta::ToolOpen { .. }) {
                self.calls += 1;
            }
            self.emit(
                Event::Delta {
                    choice,
                    delta,
                    logprobs,
                },
                out,
            );
        }
        self.accounting.interventions(taken.interventions);
        match taken.trouble {
            Some(trouble) if self.turn.choices == 1 && self.asks_left > 0 => {
                self.trouble = Some(trouble);
            }
            Some(trouble) => self.give_up_choice(choice, &trouble, out),
            None => {
                if let Some(stop) = taken.stop {
                    self.stop(choice, stop, out);
                }
            }
        }
    }

    fn stop(&mut self, choice: u32, stop: Stop, out: &mut BytesMut) {
        if let Some(state) = self.attempt.choices.get_mut(choice as usize) {
            state.stop = Some(stop.clone());
        }
        self.emit(Event::Finish { choice, stop }, out);
    }

    /// Nothing has helped: a well-formed end that says so, unless what the client has is an answer
    /// by itself.
    fn give_up_choice(&mut self, choice: u32, trouble: &Trouble, out: &mut BytesMut) {
        let cut = self
            .attempt
            .choices
            .get(choice as usize)
            .is_some_and(ChoiceState::was_cut);
        if !cut && self.calls == 0 {
            let delta = Delta::Text(trouble.tell_client());
            self.emit(
                Event::Delta {
                    choice,
                    delta,
                    logprobs: None,
                },
                out,
            );
        }
        self.stop(choice, if cut { Stop::Length } else { Stop::End }, out);
    }

    fn emit(&mut self, event: Event, out: &mut BytesMut) {
        match &mut self.sink {
            Sink::Stream(encoder) => {
                self.delivered |= matches!(event, Event::Delta { .. });
                let chunks = &self.attempt.chunks;
                encoder.event(&event, || chunks.usage(), out);
            }
            Sink::Whole { answer, .. } => answer.push(event),
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
        match decoded {
            // llama-server could not read the model's own tool call: that is a bad call.
            Err(Fault::Misparsed(why)) if self.guards.acts() && self.asks_left > 0 => {
                self.trouble = Some(Trouble::misparsed(why));
                Ok(Progress::Content)
            }
            decoded => decoded.map(|()| progress),
        }
    }
}

impl Conversion for ChatConversion {
    fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn begin(&mut self, target: Target<'_>, ask: Option<&Ask>) -> UpstreamRequest {
        self.accounting
            .attempt_ended(self.attempt.chunks.usage(), self.delivered);
        let constrained = ask.is_some_and(|ask| ask.constrain.is_some());
        self.attempt = Self::attempt(
            &self.turn,
            &self.meta,
            &self.guards,
            self.calls,
            constrained,
        );
        self.delivered = false;
        self.trouble = None;
        if let Sink::Whole { answer, checkpoint } = &mut self.sink {
            answer.clone_from(checkpoint);
        }
        // A stop sequence cancels the stream before its usage report; timings in every chunk
        // keep the count true.
        let timings_per_token = target.timings_per_token || !self.turn.stop.is_empty();
        let body = llama::chat_body(
            &self.turn,
            ask,
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
        while self.trouble.is_none() {
            let frame = self
                .attempt
                .frames
                .next_frame()
                .map_err(|e| stream_fault(&e.to_string()))?;
            let Some(frame) = frame else { break };
            progress = progress.max(self.frame(&frame.data, out)?);
        }
        Ok(if self.trouble.is_some() {
            Progress::Again
        } else if self.attempt.done {
            Progress::Complete
        } else if self.attempt.all_stopped() && !self.attempt.chunks.is_complete() {
            Progress::Cancel
        } else {
            progress
        })
    }

    fn end(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        if !self.attempt.all_stopped() {
            return Err(stream_fault("the backend ended its answer in the middle"));
        }
        let usage = self.accounting.told(self.attempt.chunks.usage());
        if let Sink::Stream(encoder) = &mut self.sink {
            encoder.finish(usage, self.attempt.chunks.raw_timings(), out);
        }
        Ok(())
    }

    fn misparsed(&mut self, why: &str) -> bool {
        let again = self.guards.acts() && self.asks_left > 0;
        if again {
            self.trouble = Some(Trouble::misparsed(why.to_owned()));
        }
        again
    }

    fn ask(&mut self) -> Option<Ask> {
        let trouble = self.trouble.as_ref()?;
        self.asks_left = self.asks_left.checked_sub(1)?;
        self.accounting.reasked();
        let said = self.attempt.choices.first().map_or("", ChoiceState::said);
        if let Sink::Whole { answer, checkpoint } = &mut self.sink {
            checkpoint.clone_from(answer);
        }
        Some(reask::ask(
            &self.turn,
            trouble,
            said,
            self.guards.settings(),
        ))
    }

    fn give_up(&mut self, out: &mut BytesMut) {
        if let Some(trouble) = self.trouble.take() {
            self.give_up_choice(0, &trouble, out);
        }
        let usage = self.accounting.told(self.attempt.chunks.usage());
        if let Sink::Stream(encoder) = &mut self.sink {
            encoder.finish(usage, self.attempt.chunks.raw_timings(), out);
        }
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
        let Sink::Whole { answer, .. } = &self.sink else {
            return None;
        };
        let chunks = &self.attempt.chunks;
        let usage = self.accounting.told(chunks.usage());
        Some(
            self.dialect
                .render(&self.meta, answer, usage, chunks.raw_timings()),
        )
    }

    fn hidden_if_abandoned(&self) -> u64 {
        let running = self.attempt.chunks.usage().completion;
        self.accounting.hidden() + if self.delivered { 0 } else { running }
    }

    fn report(&self) -> Report {
        Report {
            usage: self.accounting.told(self.attempt.chunks.usage()),
            hidden: self.accounting.hidden(),
            stop: self
                .attempt
                .choices
                .first()
                .and_then(|choice| choice.stop.clone()),
            timings: self.attempt.chunks.timings(),
            interventions: self.accounting.all_interventions().to_vec(),
        }
    }
}
