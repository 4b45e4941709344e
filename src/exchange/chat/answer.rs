//! What becomes of what the model says: on to the client, asked for again, or the end.

use bytes::BytesMut;
use serde_json::value::RawValue;

use super::ChatConversion;
use crate::exchange::choice::{ChoiceState, Taken};
use crate::exchange::policy_turn::AtEnd;
use crate::guard::trouble::Trouble;
use crate::policy::lease::Answer;
use crate::policy::{Kept, NeedsLease};
use crate::turn::{Delta, Event, Stop};

/// Longest text of a rewritten call in the record of interventions, in bytes.
const MOST_SHOWN: usize = 2000;

impl ChatConversion {
    pub(super) fn event(&mut self, event: Event, out: &mut BytesMut) {
        let choice = match &event {
            Event::Delta { choice, .. } | Event::Finish { choice, .. } => *choice,
        };
        let Some(state) = self.attempt.choices.get_mut(choice as usize) else {
            return;
        };
        if state.stop.is_some() || self.trouble.is_some() {
            return;
        }
        if let Event::Delta {
            choice: 0, delta, ..
        } = &event
        {
            self.attempt.shape.push(delta);
        }
        let mut taken = Taken::default();
        match event {
            Event::Delta {
                delta, logprobs, ..
            } => state.push(delta, logprobs, &mut taken),
            Event::Finish { stop, .. } => state.finish(stop, &mut taken),
        }
        state.hand_over(&mut self.ledger);
        self.take(choice, taken, out);
    }

    fn take(&mut self, choice: u32, mut taken: Taken, out: &mut BytesMut) {
        self.policed(&mut taken);
        for piece in taken.deltas {
            self.deliver(choice, piece, out);
        }
        for _ in 0..taken.dropped {
            self.ledger.record("finalize_dropped_call", None, None);
        }
        if let Some(Trouble::Denied {
            name, arguments, ..
        }) = &taken.trouble
        {
            self.ledger
                .record("denied_call", Some(arguments), Some(name));
            self.ladder.denied(name, arguments);
        }
        match taken.trouble {
            Some(trouble @ Trouble::HalfSent { .. }) => self.trouble = Some(trouble),
            // The client has calls to go on with, or the summary that was wanted.
            Some(Trouble::Denied { .. }) if self.told.calls > 0 => {
                self.stop(choice, Stop::End, out)
            }
            Some(_) if self.ladder.is_finalizing() => self.stop(choice, Stop::End, out),
            Some(trouble) if self.may_ask_after(&trouble) => self.trouble = Some(trouble),
            Some(trouble) => self.give_up_choice(choice, &trouble, out),
            None => {
                if let Some(stop) = taken.stop {
                    self.ends(choice, stop, out);
                }
            }
        }
    }

    /// What a call needs before the answer goes on.
    pub(super) fn waiting(&self) -> Option<&NeedsLease> {
        if self.trouble.is_some() {
            return None;
        }
        let open = self
            .attempt
            .choices
            .iter()
            .filter(|choice| choice.stop.is_none());
        open.into_iter().find_map(ChoiceState::waiting)
    }

    /// The call that the answer waits for has its lease, or not.
    pub(super) fn lease_answered(&mut self, answer: Option<Answer>, out: &mut BytesMut) {
        let waits = |choice: &ChoiceState| choice.stop.is_none() && choice.waiting().is_some();
        let Some(place) = self.attempt.choices.iter().position(waits) else {
            return;
        };
        let mut taken = Taken::default();
        self.attempt.choices[place].leased(answer.as_ref(), &mut taken);
        self.take(place as u32, taken, out);
    }

    /// Whether the client has part of a call: only its rest could follow.
    pub(super) fn is_half_sent(&self) -> bool {
        matches!(self.trouble, Some(Trouble::HalfSent { .. }))
            || self.attempt.choices.iter().any(ChoiceState::has_half_sent)
    }

    /// Note what policy has blocked and changed.
    fn policed(&mut self, taken: &mut Taken) {
        let Some(policy) = &mut self.policy else {
            return;
        };
        for call in &taken.policed.blocked {
            self.ledger.record(
                "policy_block",
                Some(&call.arguments),
                Some(&call.why.reason),
            );
            self.ladder.denied(&call.name, &call.arguments);
        }
        for decision in &taken.policed.decisions {
            if decision.decision == "rewrite" && decision.acted {
                let shown = |text: &Option<Kept>| Some(text.as_ref()?.redacted(MOST_SHOWN).0);
                let (old, new) = (shown(&decision.old), shown(&decision.new));
                self.ledger
                    .record("policy_rewrite", old.as_deref(), new.as_deref());
            }
        }
        if let Err(error) = policy.take(&mut taken.policed) {
            self.refused.get_or_insert(error);
        }
    }

    /// The answer ends, if policy lets it.
    fn ends(&mut self, choice: u32, stop: Stop, out: &mut BytesMut) {
        let gated = stop == Stop::End && self.turn.is_tool_turn() && !self.ladder.is_finalizing();
        let free = self.turn.choices == 1 && !self.ladder.is_finalizing();
        let called = self.told.calls > 0;
        let at_end = match &mut self.policy {
            None => AtEnd::Ends,
            Some(policy) => policy.at_end(called, free, gated),
        };
        match at_end {
            AtEnd::Ends => self.stop(choice, stop, out),
            AtEnd::Says(text) => {
                self.ledger.record("policy_notice", None, Some(&text));
                self.say(choice, &text, out);
                self.stop(choice, Stop::End, out);
            }
            AtEnd::GoesOn(trouble) => {
                if trouble.kind() == "policy_gate" {
                    self.ledger
                        .record("policy_gate", None, Some(&trouble.tell_model()));
                }
                self.trouble = Some(trouble);
            }
        }
    }

    /// A text of ours, in a paragraph of its own.
    fn say(&mut self, choice: u32, text: &str, out: &mut BytesMut) {
        let gap = if self.told.text { "\n\n" } else { "" };
        self.deliver(choice, (Delta::Text(format!("{gap}{text}")), None), out);
    }

    /// One answer can be asked for again; of several, the others would be asked for with it.
    pub(super) fn may_ask(&self, trouble: &Trouble) -> bool {
        self.turn.choices == 1 && self.asks.allow(trouble)
    }

    /// A denial says what to do, and takes nothing from what is there for mistakes.
    fn may_ask_after(&self, trouble: &Trouble) -> bool {
        match trouble {
            Trouble::Denied { .. } => self.turn.choices == 1,
            _ => self.may_ask(trouble),
        }
    }

    /// To the client.
    pub(super) fn deliver(
        &mut self,
        choice: u32,
        piece: (Delta, Option<Box<RawValue>>),
        out: &mut BytesMut,
    ) {
        self.told.note(&piece.0);
        self.note_said(&piece.0);
        let chunks = &self.attempt.chunks;
        self.delivered |= self.sink.delta(choice, piece, || chunks.usage(), out);
    }

    /// A summary of which nothing is left is ours, and may be followed by a call that does nothing.
    fn complete_summary(&mut self, choice: u32, out: &mut BytesMut) {
        if let Some(summary) = self.ladder.own_summary(self.told.text) {
            self.ledger.record("finalize_summary", None, Some(&summary));
            self.deliver(choice, (Delta::Text(summary), None), out);
        }
        let call = self
            .ladder
            .continuation(&self.turn.tools, &self.meta.id, self.told.calls);
        if let Some(call) = call {
            self.ledger.record("finalize_continuation", None, None);
            for delta in call {
                self.deliver(choice, (delta, None), out);
            }
        }
    }

    pub(super) fn stop(&mut self, choice: u32, stop: Stop, out: &mut BytesMut) {
        if self.ladder.is_finalizing() {
            self.complete_summary(choice, out);
        }
        if let Some(state) = self.attempt.choices.get_mut(choice as usize) {
            state.stop = Some(stop.clone());
        }
        let chunks = &self.attempt.chunks;
        let finish = Event::Finish { choice, stop };
        self.sink.event(finish, || chunks.usage(), out);
    }

    /// Nothing has helped: a well-formed end that says so, unless what the client has is an answer
    /// by itself.
    pub(super) fn give_up_choice(&mut self, choice: u32, trouble: &Trouble, out: &mut BytesMut) {
        let state = self.attempt.choices.get(choice as usize);
        let cut = state.is_some_and(ChoiceState::was_cut);
        self.drop_repetition(choice, trouble);
        self.ladder.gave_up(trouble);
        let answered = self.told.calls > 0 || (self.told.text && trouble.leaves_an_answer());
        if let Trouble::Policy { client, .. } = trouble {
            self.say(choice, client, out);
            return self.stop(choice, Stop::End, out);
        }
        if !cut && !answered && !self.ladder.is_finalizing() {
            let text = match trouble {
                Trouble::Denied { .. } => self.ladder.gives_up(),
                _ => self.guards.tell_client(trouble),
            };
            self.deliver(choice, (Delta::Text(text), None), out);
        }
        if let Some(state) = self.attempt.choices.get_mut(choice as usize) {
            state.give_up();
        }
        self.stop(choice, if cut { Stop::Length } else { Stop::End }, out);
    }

    /// What has been said stays, whatever comes of the next attempt.
    pub(super) fn keep_told(&mut self) {
        self.sink.keep();
        self.kept = self.told;
        if let Some(policy) = &mut self.policy {
            policy.keep();
        }
    }

    /// Whatever an attempt that failed has put into a whole answer goes. What a stream has said is
    /// said, and then there is no further attempt.
    pub(super) fn forget_attempt(&mut self) {
        self.sink.attempt_begins();
        self.told = self.kept;
        if let Some(policy) = &mut self.policy {
            policy.forget();
        }
    }

    fn drop_repetition(&mut self, choice: u32, trouble: &Trouble) {
        if let Trouble::Repeating { keep, .. } = trouble {
            self.sink.cut(choice, *keep);
        }
    }

    /// The end of the client's stream.
    pub(super) fn close(&mut self, out: &mut BytesMut) {
        let usage = self.accounting.told(self.attempt.chunks.usage());
        let timings = self.attempt.chunks.raw_timings();
        self.sink.finish(usage, timings, out);
    }
}
