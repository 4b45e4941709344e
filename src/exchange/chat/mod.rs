//! A chat turn: any generating dialect in front, llama-server's chat completions behind.

mod answer;
mod conversion;
mod resume;

use std::sync::Arc;

use bytes::BytesMut;

use resume::Said;

use crate::dialect::llama::{self, Ask, Fault, Target, Upstream};
use crate::dialect::{Dialect, Meta};
use crate::exchange::accounting::Accounting;
use crate::exchange::chat_state::{Asks, Attempt, Told};
use crate::exchange::choice::{Begin, ChoiceState};
use crate::exchange::conversion::{Conversion, Measured, Progress, UpstreamRequest};
use crate::exchange::gate::Rule;
use crate::exchange::guards::Guards;
use crate::exchange::ladder::Ladder;
use crate::exchange::policy_turn::PolicyTurn;
use crate::exchange::rules::Rules;
use crate::exchange::shaping::Shaping;
use crate::exchange::sink::Sink;
use crate::guard::intervention::Ledger;
use crate::guard::loops::Plan;
use crate::guard::stream::{GuardContext, Start, TextSoFar};
use crate::guard::trouble::Trouble;
use crate::turn::{Turn, TurnError};

/// Conversion of one chat turn.
pub struct ChatConversion {
    dialect: Dialect,
    turn: Turn,
    meta: Meta,
    guards: Guards,
    context: Option<Arc<GuardContext>>,
    ledger: Ledger,
    /// None: the request goes as it came.
    shaping: Option<Shaping>,
    ladder: Ladder,
    /// None: no rule is asked.
    policy: Option<Box<PolicyTurn>>,
    /// The client is told no.
    refused: Option<TurnError>,
    sink: Sink,
    attempt: Attempt,
    accounting: Accounting,
    /// What came of the attempts before the running one.
    measured: Vec<Measured>,
    /// Whether this attempt has given the client anything.
    delivered: bool,
    /// What the answer has, of all attempts.
    told: Told,
    /// What it had when the running attempt was asked for.
    kept: Told,
    /// What is wrong with the running attempt.
    trouble: Option<Trouble>,
    /// What was wrong with the one before.
    earlier: Option<Trouble>,
    asks: Asks,
    /// The running attempt tells its timings in every chunk, and has one choice.
    counts_steps: bool,
    /// None: a half-delivered answer stays half.
    said: Option<Said>,
    scratch: Vec<Upstream>,
}

impl ChatConversion {
    /// A conversion for `turn`, answered in `dialect` under the name and id in `meta`.
    pub fn new(dialect: Dialect, turn: Turn, meta: Meta, guards: Guards) -> Self {
        Self {
            sink: Sink::new(dialect, &meta, &turn),
            context: guards.context(&turn, &meta.id),
            attempt: Attempt::new(Vec::new(), &meta.id),
            asks: Asks::new(guards.retry_max()),
            ledger: guards.ledger(),
            ladder: Ladder::default(),
            policy: None,
            refused: None,
            dialect,
            turn,
            meta,
            guards,
            shaping: None,
            accounting: Accounting::default(),
            measured: Vec::new(),
            delivered: false,
            told: Told::default(),
            kept: Told::default(),
            trouble: None,
            earlier: None,
            counts_steps: false,
            said: None,
            scratch: Vec::new(),
        }
    }

    /// Carry out what loop protection has planned.
    #[must_use]
    pub fn with_plan(mut self, plan: Plan) -> Self {
        for kind in &plan.kinds {
            self.ledger.record(kind, None, plan.note());
        }
        plan.apply(&mut self.turn);
        self.ladder = Ladder::new(plan);
        self
    }

    /// With rules that calls and the end of the turn have to pass.
    #[must_use]
    pub fn with_policy(self, rules: Rules) -> Self {
        Self {
            policy: Some(Box::new(PolicyTurn::new(rules))),
            ..self
        }
    }

    /// That another backend goes on with when its own fails in the middle.
    #[must_use]
    pub fn resumable(mut self) -> Self {
        self.said = Said::of(&self.turn);
        self
    }

    /// Where guards that decide before the first attempt record what they did.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// With the request shaped for its backend.
    #[must_use]
    pub fn shaped(self, shaping: Shaping) -> Self {
        Self {
            shaping: Some(shaping),
            ..self
        }
    }

    /// What the shaping of the request amounts to is part of the turn's record.
    fn note_shaping(&mut self) {
        let notes = self.shaping.as_mut().map(Shaping::take_notes);
        for kind in notes.unwrap_or_default() {
            self.ledger.record(kind, None, None);
        }
    }

    fn measured_now(&self) -> Measured {
        let chunks = &self.attempt.chunks;
        Measured {
            timings: chunks.timings(),
            verify_steps: self.counts_steps.then(|| chunks.verify_steps()),
            answer: Some(self.attempt.shape.class()),
            bad_call: matches!(self.trouble, Some(Trouble::Call { .. })),
        }
    }

    fn measured(&self) -> Vec<Measured> {
        let running = self.attempt.has_begun().then(|| self.measured_now());
        self.measured.iter().copied().chain(running).collect()
    }

    fn new_attempt(&self, ask: Option<&Ask>) -> Attempt {
        let constrained = ask.is_some_and(|ask| ask.constrain.is_some());
        let continues = ask.is_some_and(|ask| ask.continues);
        let rule = self.ladder.rule();
        let begin = Begin {
            guards: &self.guards,
            context: self.context.as_ref(),
            ledger: &self.ledger,
            stops: self.turn.stop.as_slice().into(),
            start: Start {
                calls: self.told.calls,
                text: match self.told.text {
                    false => TextSoFar::None,
                    true if continues => TextSoFar::Beginning,
                    true => TextSoFar::Earlier,
                },
                may_nudge: self.may_ask(&Trouble::Announced) || !self.guards.act(),
                early_release: self.guards.release_early()
                    && self.sink.is_stream()
                    && matches!(rule, Rule::Open)
                    // A call that has begun to flow cannot be taken back.
                    && self.policy.is_none(),
            },
            constrained,
            rule,
            rules: self.policy.as_ref().map(|policy| policy.rules()),
        };
        let choices = (0..self.turn.choices).map(|_| ChoiceState::new(&begin));
        Attempt::new(choices.collect(), &self.meta.id)
    }

    /// A stop sequence cancels the stream before its usage report; timings in every chunk keep the count true.
    fn with_timings<'a>(&self, target: Target<'a>) -> Target<'a> {
        let timings_per_token = target.timings_per_token || !self.turn.stop.is_empty();
        Target {
            timings_per_token,
            ..target
        }
    }

    fn request(&self, target: Target<'_>, ask: Option<&Ask>) -> UpstreamRequest {
        UpstreamRequest {
            path: "/v1/chat/completions",
            body: llama::chat_body(&self.turn, ask, target).freeze(),
            trace: None,
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
            Err(Fault::Misparsed(why)) if self.misparsed(&why) => Ok(Progress::Content),
            decoded => decoded.map(|()| progress),
        }
    }
}
