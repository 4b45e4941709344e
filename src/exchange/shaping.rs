//! What a turn's request becomes before the first attempt: its sampling, its tools, and a prompt that
//! fits the backend.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, ModelProfile, Preset};
use crate::guard::context::{
    ContextState, Fit, Limits, MessageHash, PrefixBreak, Remembered, Step, limit, volatile, weight,
};
use crate::guard::sampling::{self, Narrowed};
use crate::turn::{ToolChoice, Turn, Usage};

/// See the module's documentation. One for each turn.
pub struct Shaping {
    config: Arc<Config>,
    preset: Preset,
    /// The profile, and whether it applies whatever the preset says: its client has chosen it.
    profile: Option<(ModelProfile, bool)>,
    fit: Fit,
    known: Option<Narrowed>,
    narrowed: Option<Narrowed>,
    /// The client's token limit, once the request has been shaped.
    asked: Option<Option<u64>>,
    thinking_off: bool,
    notes: Vec<&'static str>,
    /// What was done to the token limit, as last noted.
    limited: Option<&'static str>,
    breaks: Vec<PrefixBreak>,
    /// Messages left out, as last logged.
    told: u32,
}

impl Shaping {
    /// For a turn of a conversation that remembers `remembered`.
    pub fn new(
        config: Arc<Config>,
        preset: Preset,
        profile: Option<(ModelProfile, bool)>,
        mut remembered: Remembered,
        hash: MessageHash,
    ) -> Self {
        let acts = preset.acts();
        let known = remembered.own.narrowed.take();
        Self {
            fit: Fit::new(&config.guard.context, acts, remembered, hash),
            config,
            preset,
            profile,
            known,
            narrowed: None,
            asked: None,
            thinking_off: false,
            notes: Vec::new(),
            limited: None,
            breaks: Vec::new(),
            told: 0,
        }
    }

    /// The weight of the prompt in bytes, as far as it is known before a backend is, and its tokens where it goes on
    /// from one that was counted.
    pub(super) fn size(&mut self, turn: &mut Turn) -> (u64, Option<u64>) {
        if self.asked.is_none() {
            self.begin(turn);
        }
        match self.preset {
            Preset::Off => (weight(turn), None),
            _ => self.fit.size(turn),
        }
    }

    /// The next step towards a request that the backend can serve.
    pub(super) fn step(&mut self, turn: &mut Turn, n_ctx: Option<u64>) -> Step {
        if self.asked.is_none() {
            self.begin(turn);
        }
        if self.preset == Preset::Off {
            return Step::Ready;
        }
        let step = self.fit.step(turn, n_ctx);
        if step == Step::Ready {
            self.limit(turn, n_ctx);
            self.tell(turn);
        }
        step
    }

    /// Longest wait for a count.
    pub(super) fn patience(&self) -> Duration {
        self.config.guard.context.count_timeout
    }

    pub(super) fn counted(&mut self, tokens: Option<u64>) {
        self.fit.counted(tokens);
    }

    /// A backend has refused the prompt as too long. Whether it is shorter now.
    pub(super) fn overflowed(&mut self, turn: &mut Turn, prompt: u64, n_ctx: u64) -> bool {
        self.acts() && self.fit.overflowed(turn, prompt, n_ctx)
    }

    /// What was done since this was asked last, or would have been: kinds of interventions.
    pub(super) fn take_notes(&mut self) -> Vec<&'static str> {
        let mut notes = std::mem::take(&mut self.notes);
        notes.append(&mut self.fit.take_notes());
        notes
    }

    /// Whether anything is changed, or only seen.
    pub(super) fn acts(&self) -> bool {
        self.preset.acts()
    }

    /// Why the prompt begins otherwise than the last one.
    pub(super) fn breaks(&self) -> Vec<PrefixBreak> {
        self.breaks
            .iter()
            .chain(self.fit.breaks())
            .copied()
            .collect()
    }

    /// What to remember of the turn.
    pub(super) fn remember(&self, usage: Usage) -> ContextState {
        let mut state = self.fit.remember(usage.prompt);
        // A turn that could not be narrowed changes nothing for the next one.
        state.narrowed = self.narrowed.clone().or_else(|| self.known.clone());
        state
    }

    /// What does not depend on the backend, once.
    fn begin(&mut self, turn: &mut Turn) {
        if let Some((profile, chosen)) = &self.profile
            && (*chosen || self.acts())
            && sampling::apply(turn, profile)
            && self.acts()
        {
            self.notes.push("model_profile");
        }
        self.asked = Some(turn.max_tokens);
        if matches!(turn.tool_choice, ToolChoice::Named(_)) && turn.tools.len() > 1 {
            self.breaks.push(PrefixBreak::ToolChoice);
        }
        if self.preset == Preset::Off {
            return;
        }
        let config = Arc::clone(&self.config);
        let settings = &config.guard.sampling;
        self.narrow(turn);
        if turn.is_tool_turn() {
            self.tool_turn(turn);
        }
        if settings.schema_cleanup && sampling::clean(&mut turn.tools, self.acts()) {
            self.notes.push("schema_cleanup");
        }
        let fragments = &config.guard.context.volatile;
        if volatile::normalize(&mut turn.messages, fragments, self.acts()) {
            self.notes.push("normalized_prompt");
        }
    }

    fn narrow(&mut self, turn: &mut Turn) {
        let settings = &self.config.guard.sampling;
        let narrowed = sampling::narrow(turn, settings, self.known.as_ref(), self.acts());
        if narrowed.is_some() {
            self.notes.push("narrowed_tools");
            if self.acts() && narrowed != self.known {
                self.breaks.push(PrefixBreak::Narrowing);
            }
        }
        self.narrowed = narrowed.filter(|_| self.acts());
    }

    fn tool_turn(&mut self, turn: &mut Turn) {
        let config = Arc::clone(&self.config);
        let settings = &config.guard.sampling;
        // Observing, the rest is tried on a copy.
        let mut copy = None;
        let extra = match self.acts() {
            true => &mut turn.extra,
            false => copy.insert(turn.extra.clone()),
        };
        if settings.thinking_off_on_tool_turns {
            self.thinking_off = true;
            if sampling::thinking_off(extra) {
                self.notes.push("thinking_off");
            }
        }
        if let Some(highest) = settings.tool_turn_temperature
            && sampling::ceiling(extra, highest)
        {
            self.notes.push("temperature_ceiling");
        }
    }

    /// The token limit, for the backend at hand.
    fn limit(&mut self, turn: &mut Turn, n_ctx: Option<u64>) {
        let asked = self.asked.flatten();
        let limits = Limits {
            settings: &self.config.guard.sampling,
            tool_turn: turn.is_tool_turn(),
            thinking_off: self.thinking_off,
            room: self.fit.room(n_ctx),
        };
        let (limited, done) = limit(asked, limits);
        // Another backend may have another window.
        if std::mem::replace(&mut self.limited, done) != done {
            self.notes.extend(done);
        }
        turn.max_tokens = if self.acts() { limited } else { asked };
    }

    /// A new cut is rare, and an operator may wonder what the model forgot.
    fn tell(&mut self, turn: &Turn) {
        let removed = self.fit.removed().filter(|_| !self.fit.breaks().is_empty());
        if let Some(removed) = removed
            && std::mem::replace(&mut self.told, removed) != removed
        {
            let left = turn.messages.len();
            tracing::warn!(
                removed,
                left,
                "PRUNED: older messages were left out of the prompt"
            );
        }
    }
}
