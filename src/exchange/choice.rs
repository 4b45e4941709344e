//! One choice of one attempt: guard, then stop sequences, then out.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::gate::{Admitted, Gate, Rule};
use super::guards::Guards;
use super::policy_gate::{Passed, PolicyGate};
use super::rules::Rules;
use crate::config::Preset;
use crate::guard::intervention::Ledger;
use crate::guard::stop_sequences::{Matched, StopMatcher};
use crate::guard::stream::{GuardContext, Start, StreamGuard};
use crate::guard::trouble::Trouble;
use crate::policy::NeedsLease;
use crate::policy::lease::Answer;
use crate::turn::{Delta, Stop};

/// What the choices of one attempt have in common.
pub(super) struct Begin<'a> {
    pub(super) guards: &'a Guards,
    pub(super) context: Option<&'a Arc<GuardContext>>,
    pub(super) ledger: &'a Ledger,
    pub(super) stops: Arc<[String]>,
    pub(super) start: Start,
    /// Whether the answer is held to the JSON of a call.
    pub(super) constrained: bool,
    /// What becomes of tool calls.
    pub(super) rule: Rule,
    /// Rules that calls have to pass.
    pub(super) rules: Option<&'a Arc<Rules>>,
}

/// A piece for the client.
type Piece = (Delta, Option<Box<RawValue>>);

/// What came of one event.
#[derive(Default)]
pub(super) struct Taken {
    /// What the client gets, in order.
    pub(super) deltas: Vec<Piece>,
    /// The choice is complete.
    pub(super) stop: Option<Stop>,
    /// It cannot go on like this.
    pub(super) trouble: Option<Trouble>,
    /// Calls left out.
    pub(super) dropped: u32,
    /// What policy has let through, and what not.
    pub(super) policed: Passed,
}

/// See the module's documentation.
pub(super) struct ChoiceState {
    preset: Preset,
    guard: Option<StreamGuard>,
    /// With `observe`: the guard has not complained yet.
    watching: bool,
    gate: Gate,
    policy: Option<PolicyGate>,
    stops: StopMatcher,
    /// Why it ended.
    pub(super) stop: Option<Stop>,
    cut: bool,
    given_up: bool,
    /// JSON the model was held to write, until it is whole.
    constrained: Option<String>,
    /// With `strict`: everything, until it is known to be good.
    held: Vec<Piece>,
    /// What follows a call that waits for its lease.
    parked: VecDeque<Piece>,
    /// Its end, when that has come meanwhile.
    parked_stop: Option<Stop>,
    scratch: Vec<Delta>,
}

impl ChoiceState {
    pub(super) fn new(begin: &Begin<'_>) -> Self {
        let guard = |context| StreamGuard::new(context, begin.start, begin.ledger.part());
        Self {
            preset: begin.guards.preset(),
            guard: begin.context.map(guard),
            watching: true,
            gate: Gate::new(begin.rule.clone()),
            policy: begin
                .rules
                .map(|rules| PolicyGate::new(Arc::clone(rules), begin.context.cloned())),
            stops: StopMatcher::new(Arc::clone(&begin.stops)),
            stop: None,
            cut: false,
            given_up: false,
            constrained: begin.constrained.then(String::new),
            held: Vec::new(),
            parked: VecDeque::new(),
            parked_stop: None,
            scratch: Vec::new(),
        }
    }

    /// Move what its guard has done to `turn`.
    pub(super) fn hand_over(&mut self, turn: &mut Ledger) {
        if let Some(guard) = &mut self.guard {
            turn.take_in(guard.ledger());
        }
    }

    /// It ends because of trouble.
    pub(super) fn give_up(&mut self) {
        self.given_up = true;
    }

    /// Whether what the client has of it went past its guard, and the guard agreed to its end; true
    /// where there is none by the preset.
    pub(super) fn is_guarded(&self) -> bool {
        match &self.guard {
            Some(guard) => self.given_up || !self.watching || guard.has_judged(),
            None => self.preset == Preset::Off,
        }
    }

    /// The visible text so far.
    pub(super) fn said(&self) -> &str {
        self.guard.as_ref().map_or("", StreamGuard::said)
    }

    /// Whether the client has part of a call whose end is not there.
    pub(super) fn has_half_sent(&self) -> bool {
        self.guard.as_ref().is_some_and(StreamGuard::has_half_sent)
    }

    /// Whether the token limit ended it.
    pub(super) fn was_cut(&self) -> bool {
        self.cut
    }

    pub(super) fn push(
        &mut self,
        delta: Delta,
        logprobs: Option<Box<RawValue>>,
        taken: &mut Taken,
    ) {
        if let Some(json) = &mut self.constrained {
            if let Delta::Text(text) = &delta {
                json.push_str(text);
            }
            return;
        }
        match self.preset {
            Preset::Off => self.deliver(delta, logprobs, taken),
            Preset::Observe => {
                self.guarded(Some(delta.clone()), None, taken);
                self.watched(taken);
                self.deliver(delta, logprobs, taken);
            }
            Preset::Standard | Preset::Strict | Preset::UapLegacy => {
                self.guarded(Some(delta), None, taken);
                self.release(logprobs, taken);
            }
        }
        if taken.stop.is_some() {
            self.stopped(taken);
        }
    }

    /// One of the client's stop sequences came up: that end is judged as well.
    fn stopped(&mut self, taken: &mut Taken) {
        let Some(guard) = self.guard.as_mut().filter(|_| self.watching) else {
            return;
        };
        if let Err(trouble) = guard.stopped() {
            guard.ledger().record(trouble.kind(), None, None);
            taken.trouble = self.preset.acts().then_some(trouble);
        }
    }

    pub(super) fn finish(&mut self, stop: Stop, taken: &mut Taken) {
        self.cut = stop == Stop::Length;
        self.guarded(None, Some(&stop), taken);
        if self.preset == Preset::Observe {
            self.watched(taken);
        }
        self.release(None, taken);
        if taken.trouble.is_some() || taken.stop.is_some() {
            return;
        }
        self.ends(stop, taken);
    }

    /// All of it has been said.
    fn ends(&mut self, stop: Stop, taken: &mut Taken) {
        if let Some(policy) = &mut self.policy {
            policy.finish(&mut taken.policed);
            self.policed(None, taken);
        }
        if self.waiting().is_some() {
            self.parked_stop = Some(stop);
            return;
        }
        if let Some(text) = self.stops.flush() {
            self.out((Delta::Text(text), None), taken);
        }
        taken.deltas.append(&mut self.held);
        taken.stop = Some(stop);
    }

    /// Ask the guard, collecting what it lets through.
    fn guarded(&mut self, delta: Option<Delta>, stop: Option<&Stop>, taken: &mut Taken) {
        let Some(guard) = self.guard.as_mut().filter(|_| self.watching) else {
            return;
        };
        let constrained = self.constrained.take();
        let result = match (delta, stop) {
            (Some(delta), _) => guard.push(delta, &mut self.scratch),
            (None, Some(_)) if constrained.is_some() => {
                let json = constrained.unwrap_or_default();
                guard.constrained(&json, self.cut, &mut self.scratch)
            }
            (None, stop) => guard.finish(stop.unwrap_or(&Stop::End), &mut self.scratch),
        };
        if let Err(trouble) = result {
            guard
                .ledger()
                .record(trouble.kind(), trouble.written(), None);
            taken.trouble = Some(trouble);
        }
    }

    /// `observe`: what the guard would have done is recorded, and forgotten.
    fn watched(&mut self, taken: &mut Taken) {
        self.scratch.clear();
        if taken.trouble.take().is_some() {
            // It has said what it had to say; a second complaint would be about the first.
            self.watching = false;
        }
    }

    fn release(&mut self, mut logprobs: Option<Box<RawValue>>, taken: &mut Taken) {
        let mut scratch = std::mem::take(&mut self.scratch);
        for delta in scratch.drain(..) {
            self.deliver(delta, logprobs.take(), taken);
        }
        self.scratch = scratch;
        // Probabilities of text that is held still belong to the answer.
        if logprobs.is_some() {
            self.out((Delta::Text(String::new()), logprobs), taken);
        }
    }

    /// Past the stop sequences, to the client.
    fn deliver(&mut self, delta: Delta, logprobs: Option<Box<RawValue>>, taken: &mut Taken) {
        if taken.stop.is_some() || matches!(taken.trouble, Some(Trouble::Denied { .. })) {
            return;
        }
        let delta = match self.gate.admit(delta) {
            Admitted::Piece(delta) => delta,
            Admitted::Nothing => return,
            Admitted::Dropped => {
                taken.dropped += 1;
                return;
            }
            Admitted::Denied(trouble) => {
                taken.trouble = Some(trouble);
                return;
            }
        };
        self.pass_policy(delta, logprobs, taken);
    }

    fn pass_policy(&mut self, delta: Delta, logprobs: Option<Box<RawValue>>, taken: &mut Taken) {
        let Some(policy) = &mut self.policy else {
            return self.admitted(delta, logprobs, taken);
        };
        match policy.push(delta, &mut taken.policed) {
            Some(later) => {
                self.policed(None, taken);
                self.parked.push_back((later, logprobs));
            }
            None => self.policed(logprobs, taken),
        }
    }

    /// What a call needs before the answer goes on.
    pub(super) fn waiting(&self) -> Option<&NeedsLease> {
        self.policy.as_ref()?.waiting()
    }

    /// It has its answer: on with what was waiting behind it.
    pub(super) fn leased(&mut self, answer: Option<&Answer>, taken: &mut Taken) {
        if let Some(policy) = &mut self.policy {
            policy.answered(answer, &mut taken.policed);
        }
        self.policed(None, taken);
        for (delta, logprobs) in std::mem::take(&mut self.parked) {
            self.pass_policy(delta, logprobs, taken);
        }
        if taken.stop.is_some() {
            return self.stopped(taken);
        }
        if let Some(stop) = self.parked_stop.take() {
            self.ends(stop, taken);
        }
    }

    /// On with what policy has let through.
    fn policed(&mut self, mut logprobs: Option<Box<RawValue>>, taken: &mut Taken) {
        for delta in std::mem::take(&mut taken.policed.deltas) {
            self.admitted(delta, logprobs.take(), taken);
        }
    }

    fn admitted(&mut self, delta: Delta, logprobs: Option<Box<RawValue>>, taken: &mut Taken) {
        if taken.stop.is_some() {
            return;
        }
        let Delta::Text(text) = delta else {
            if let Some(text) = self.stops.flush() {
                self.out((Delta::Text(text), None), taken);
            }
            return self.out((delta, logprobs), taken);
        };
        let (text, stop) = match self.stops.push(text) {
            Matched::Text(text) => (text, None),
            Matched::Stop { text, sequence } => (text, Some(Stop::Sequence(sequence))),
        };
        if !text.is_empty() || logprobs.is_some() {
            self.out((Delta::Text(text), logprobs), taken);
        }
        if stop.is_some() {
            taken.deltas.append(&mut self.held);
            taken.stop = stop;
        }
    }

    fn out(&mut self, piece: Piece, taken: &mut Taken) {
        if self.preset == Preset::Strict {
            self.held.push(piece);
        } else {
            taken.deltas.push(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// What `drover_guard_not_evaluated_total` counts can be noticed.
    #[test]
    fn an_answer_without_its_guard_is_noticed() {
        for (preset, guarded) in [(Preset::Standard, false), (Preset::Off, true)] {
            let guards = Guards::new(preset, &config::Guard::default());
            let mut choice = ChoiceState::new(&Begin {
                guards: &guards,
                context: None,
                ledger: &guards.ledger(),
                start: Start::default(),
                stops: Arc::default(),
                constrained: false,
                rule: Rule::Open,
                rules: None,
            });
            choice.push(Delta::Text("x".into()), None, &mut Taken::default());
            choice.finish(Stop::End, &mut Taken::default());
            assert_eq!(choice.is_guarded(), guarded, "{preset:?}");
        }
    }
}
