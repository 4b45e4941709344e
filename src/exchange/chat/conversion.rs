//! The steps of a chat turn, as the exchange takes them.

use bytes::BytesMut;

use super::ChatConversion;
use crate::dialect::Dialect;
use crate::dialect::llama::{self, Ask, Fault, Target, stream_fault};
use crate::exchange::choice::ChoiceState;
use crate::exchange::conversion::{Conversion, Prepared, Progress, Report, UpstreamRequest};
use crate::exchange::count;
use crate::exchange::shaping::Shaping;
use crate::fleet::Size;
use crate::guard::context::{self, Question, Step};
use crate::guard::intervention::Intervention;
use crate::guard::reask::reask;
use crate::guard::trouble::Trouble;
use crate::policy::NeedsLease;
use crate::policy::lease::{Answer, Grant};
use crate::turn::{Delta, Stop, TurnError};

impl Conversion for ChatConversion {
    fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn size(&mut self) -> Option<Size> {
        let (bytes, tokens) = match &mut self.shaping {
            Some(shaping) => shaping.size(&mut self.turn),
            None => (context::weight(&self.turn), None),
        };
        Some(Size {
            bytes,
            tokens,
            max_tokens: self.turn.max_tokens,
            answers: self.turn.choices,
        })
    }

    fn occupies(&self) -> (Option<u64>, u64) {
        let chunks = &self.attempt.chunks;
        (chunks.prompt_tokens(), chunks.pieces())
    }

    fn prepare(&mut self, target: Target<'_>) -> Prepared {
        let Some(shaping) = &mut self.shaping else {
            return Prepared::Ready;
        };
        let step = shaping.step(&mut self.turn, target.n_ctx);
        let patience = shaping.patience();
        self.note_shaping();
        match step {
            Step::Ready => Prepared::Ready,
            Step::Refuse(error) => Prepared::Refused(error),
            Step::Count(question) => Prepared::Ask {
                request: match question {
                    Question::Text(text) => count::text(&text),
                    Question::Whole => count::whole(&self.turn, target),
                },
                patience,
            },
        }
    }

    fn answered(&mut self, answer: Option<&[u8]>) {
        if let Some(shaping) = &mut self.shaping {
            shaping.counted(answer.and_then(llama::counted));
        }
    }

    fn overflowed(&mut self, prompt: u64, limit: u64) -> bool {
        let Some(shaping) = &mut self.shaping else {
            return false;
        };
        let shorter = shaping.overflowed(&mut self.turn, prompt, limit);
        self.note_shaping();
        shorter
    }

    fn at_once(&mut self, out: &mut BytesMut) -> bool {
        let Some(text) = self.ladder.stops() else {
            return false;
        };
        for choice in 0..self.turn.choices {
            self.deliver(choice, (Delta::Text(text.clone()), None), out);
            self.stop(choice, Stop::End, out);
        }
        self.close(out);
        true
    }

    fn begin(&mut self, target: Target<'_>, ask: Option<&Ask>) -> UpstreamRequest {
        if self.attempt.has_begun() {
            let usage = self.attempt.chunks.usage();
            self.accounting.attempt_ended(usage, self.delivered);
            self.measured.push(self.measured_now());
        }
        self.ledger.attempt_begins();
        self.forget_attempt();
        if let Some(policy) = &mut self.policy {
            policy.attempt_begins();
        }
        self.attempt = self.new_attempt(ask);
        self.delivered = false;
        self.earlier = self.trouble.take().or(self.earlier.take());
        let target = self.with_timings(target);
        self.counts_steps = target.timings_per_token && self.turn.choices == 1;
        self.request(target, ask)
    }

    fn also(&self, target: Target<'_>) -> Option<UpstreamRequest> {
        Some(self.request(self.with_timings(target), None))
    }

    fn hedged(&mut self) {
        self.ledger.record("hedge", None, None);
    }

    fn feed(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<Progress, Fault> {
        self.attempt.frames.push(chunk);
        let mut progress = Progress::Idle;
        loop {
            if let Some(error) = self.refused.take() {
                return Err(Fault::Permanent(error));
            }
            if self.waiting().is_some() {
                return Ok(Progress::Held);
            }
            if self.attempt.all_stopped() && !self.attempt.chunks.is_complete() {
                // Whatever else has arrived is no part of the answer, nor of its count.
                return Ok(Progress::Cancel);
            }
            if self.trouble.is_some() {
                break;
            }
            let frame = self
                .attempt
                .frames
                .next_frame()
                .map_err(|e| stream_fault(&e.to_string()))?;
            let Some(frame) = frame else { break };
            progress = progress.max(self.frame(&frame.data, out)?);
        }
        if let Some(trouble @ Trouble::HalfSent { .. }) = &self.trouble {
            return Err(Fault::Misparsed(trouble.tell_client()));
        }
        Ok(if self.trouble.is_some() {
            Progress::Again
        } else if self.attempt.done {
            Progress::Complete
        } else {
            progress
        })
    }

    fn claim(&self) -> Option<&NeedsLease> {
        self.waiting()
    }

    fn leased(&mut self, answer: Option<Answer>, out: &mut BytesMut) {
        self.lease_answered(answer, out);
    }

    fn unused(&mut self) -> Vec<Grant> {
        self.policy
            .as_mut()
            .map(|policy| policy.unused())
            .unwrap_or_default()
    }

    fn end(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        if !self.attempt.all_stopped() {
            return Err(stream_fault("the backend ended its answer in the middle"));
        }
        self.close(out);
        Ok(())
    }

    /// llama-server could not read the model's own tool call: that is a bad call.
    fn misparsed(&mut self, why: &str) -> bool {
        if self.is_half_sent() {
            return false;
        }
        let trouble = Trouble::misparsed(why.to_owned());
        if self.context.is_some() {
            self.ledger.record(trouble.kind(), Some(why), None);
        }
        let again = self.may_ask(&trouble) || self.ladder.is_finalizing();
        if again {
            self.trouble = Some(trouble);
        }
        again
    }

    fn ask(&mut self) -> Option<Ask> {
        let trouble = self.trouble.as_ref()?;
        if self.ladder.is_finalizing() {
            return None;
        }
        if let Trouble::Denied { .. } = trouble {
            let said = self.attempt.choices.first().map_or("", ChoiceState::said);
            let ask = self.ladder.ask(trouble, said)?;
            self.keep_told();
            return Some(ask);
        }
        if let (Trouble::Policy { .. }, Some(policy)) = (trouble, &mut self.policy) {
            let said = self.attempt.choices.first().map_or("", ChoiceState::said);
            let ask = policy.ask(trouble, said);
            self.keep_told();
            return Some(ask);
        }
        self.asks.use_up(trouble)?;
        let said = self.attempt.choices.first().map_or("", ChoiceState::said);
        let manner = self.guards.manner(self.guards.retry_max() - self.asks.left);
        let again = reask(&self.turn, trouble, said, manner);
        self.ledger
            .record("reask", trouble.written(), Some(&again.told));
        if let Trouble::Repeating { keep, .. } = trouble {
            self.sink.cut(0, *keep);
        }
        self.keep_told();
        Some(again.ask)
    }

    fn resume(&mut self) -> Option<Ask> {
        self.resumption()
    }

    fn can_resume(&self) -> bool {
        self.said.is_some() && !self.is_half_sent()
    }

    fn give_up(&mut self, out: &mut BytesMut) {
        if let Some(trouble) = self.trouble.take() {
            self.give_up_choice(0, &trouble, out);
        } else if let Some(earlier) = self.earlier.take() {
            // The further attempt has failed: what was there before it counts.
            self.forget_attempt();
            self.give_up_choice(0, &earlier, out);
        }
        self.close(out);
    }

    fn interventions(&self) -> &[Intervention] {
        self.ledger.entries()
    }

    fn ping(&mut self, out: &mut BytesMut) {
        self.sink.ping(self.attempt.chunks.usage(), out);
    }

    fn fail(&mut self, error: &TurnError, out: &mut BytesMut) {
        self.sink.fail(error, out);
    }

    /// Codex compacts when a response fails for its length, and gives up on a status.
    fn fails_in_stream(&self, error: &TurnError) -> bool {
        self.dialect == Dialect::Responses
            && self.sink.is_stream()
            && matches!(error, TurnError::ContextOverflow { .. })
    }

    fn delivered(&self) -> bool {
        self.delivered
    }

    fn whole(&mut self) -> Option<BytesMut> {
        let answer = self.sink.whole()?;
        let chunks = &self.attempt.chunks;
        let usage = self.accounting.told(chunks.usage());
        let timings = chunks.raw_timings();
        let (meta, turn) = (&self.meta, &self.turn);
        Some(self.dialect.render(meta, turn, answer, usage, timings))
    }

    fn hidden_if_abandoned(&self) -> u64 {
        let running = self.attempt.chunks.usage().completion;
        self.accounting.hidden() + if self.delivered { 0 } else { running }
    }

    fn report(&self) -> Report {
        let first = self.attempt.choices.first();
        let usage = self.accounting.told(self.attempt.chunks.usage());
        let shaping = self.shaping.as_ref();
        let hidden = self.accounting.hidden();
        Report {
            loops: self
                .ladder
                .effects(usage.completion + hidden, self.told.calls > 0),
            usage,
            hidden,
            calls: self.told.calls,
            attempts: self.accounting.attempts(self.attempt.chunks.usage()),
            stop: first.and_then(|choice| choice.stop.clone()),
            timings: self.attempt.chunks.timings(),
            measured: self.measured(),
            unguarded: !self.attempt.choices.iter().all(ChoiceState::is_guarded),
            context: shaping.map(|s| s.remember(usage)).unwrap_or_default(),
            breaks: shaping.map(Shaping::breaks).unwrap_or_default(),
            policy: self.policy.as_ref().map(|policy| policy.report()),
        }
    }
}
