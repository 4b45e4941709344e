//! One choice of one attempt: guard, then stop sequences, then out.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::config::{Preset, ToolCalls};
use crate::guard::stop_sequences::{Matched, StopMatcher};
use crate::guard::stream::{GuardContext, StreamGuard};
use crate::guard::trouble::{Intervention, Trouble};
use crate::turn::{Delta, Stop, Turn};

/// The guards of a turn, as its preset has them.
#[derive(Clone)]
pub struct Guards {
    preset: Preset,
    settings: ToolCalls,
    context: Option<GuardContext>,
}

impl Guards {
    /// Guards for `turn`; `seed` makes identifiers for calls that come without.
    pub fn new(preset: Preset, settings: ToolCalls, turn: &Turn, seed: &str) -> Self {
        let context = (preset != Preset::Off).then(|| GuardContext::new(turn, seed));
        Self {
            preset,
            settings,
            context,
        }
    }

    /// No guards: the answer is relayed.
    pub fn off() -> Self {
        Self {
            preset: Preset::Off,
            settings: ToolCalls::default(),
            context: None,
        }
    }

    /// Whether they may change the answer.
    pub(super) fn acts(&self) -> bool {
        matches!(self.preset, Preset::Standard | Preset::Strict)
    }

    pub(super) fn retry_max(&self) -> u32 {
        if self.acts() {
            self.settings.retry_max
        } else {
            0
        }
    }

    pub(super) fn settings(&self) -> &ToolCalls {
        &self.settings
    }
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
    pub(super) interventions: Vec<Intervention>,
}

/// See the module's documentation.
pub(super) struct ChoiceState {
    preset: Preset,
    guard: Option<StreamGuard>,
    stops: StopMatcher,
    /// Why it ended.
    pub(super) stop: Option<Stop>,
    cut: bool,
    /// JSON the model was held to write, until it is whole.
    constrained: Option<String>,
    /// With `strict`: everything, until it is known to be good.
    held: Vec<Piece>,
    scratch: Vec<Delta>,
}

impl ChoiceState {
    pub(super) fn new(
        guards: &Guards,
        stops: Arc<[String]>,
        calls: u32,
        constrained: bool,
    ) -> Self {
        Self {
            preset: guards.preset,
            guard: guards
                .context
                .as_ref()
                .map(|context| StreamGuard::new(context, calls)),
            stops: StopMatcher::new(stops),
            stop: None,
            cut: false,
            constrained: constrained.then(String::new),
            held: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The visible text so far.
    pub(super) fn said(&self) -> &str {
        self.guard.as_ref().map_or("", StreamGuard::said)
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
            Preset::Standard | Preset::Strict => {
                self.guarded(Some(delta), None, taken);
                self.release(logprobs, taken);
            }
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
        if let Some(text) = self.stops.flush() {
            self.out((Delta::Text(text), None), taken);
        }
        taken.deltas.append(&mut self.held);
        taken.stop = Some(stop);
    }

    /// Ask the guard, collecting what it lets through.
    fn guarded(&mut self, delta: Option<Delta>, stop: Option<&Stop>, taken: &mut Taken) {
        let Some(guard) = &mut self.guard else { return };
        let constrained = self.constrained.take();
        let result = match (delta, stop) {
            (Some(delta), _) => guard.push(delta, &mut self.scratch),
            (None, Some(_)) if constrained.is_some() => {
                let json = constrained.unwrap_or_default();
                guard.constrained(&json, self.cut, &mut self.scratch)
            }
            (None, stop) => guard.finish(stop.unwrap_or(&Stop::End), &mut self.scratch),
        };
        let acted = self.preset != Preset::Observe;
        let changes = guard.take_changes().into_iter();
        taken
            .interventions
            .extend(changes.map(|kind| Intervention { kind, acted }));
        if let Err(trouble) = result {
            taken.interventions.push(Intervention {
                kind: trouble.kind(),
                acted,
            });
            taken.trouble = Some(trouble);
        }
    }

    /// `observe`: what the guard would have done is recorded, and forgotten.
    fn watched(&mut self, taken: &mut Taken) {
        self.scratch.clear();
        if taken.trouble.take().is_some() {
            // It has said what it had to say; a second complaint would be about the first.
            self.guard = None;
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
