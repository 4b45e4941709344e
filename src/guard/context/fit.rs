//! Making one turn's prompt fit, step by step: what must be counted first, what is left out, and what
//! cannot be helped.

use super::choose::{Aim, choose};
use super::cut::{self, Cut, View};
use super::measure::Measure;
use super::state::{ContextState, Remembered};
use super::{MessageHash, PrefixBreak, weight};
use crate::config::Context;
use crate::turn::{Turn, TurnError};

/// Backends are asked so often at most: about the prompt, and about what is left of it.
const QUESTIONS: u8 = 2;

/// A prompt below this part of the window is not worth remembering: what comes next is far from the
/// window too, or worth a count.
const FAR: u64 = 4;

/// What to do before the turn can be sent.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Ready,
    /// Ask the backend, and tell [`Fit::counted`].
    Count(Question),
    /// It can only be refused.
    Refuse(TurnError),
}

/// What to have counted.
#[derive(Debug, PartialEq, Eq)]
pub enum Question {
    /// The tokens of this text, which is what is new.
    Text(String),
    /// The whole prompt.
    Whole,
}

/// See the module's documentation. One for each turn.
#[derive(Debug)]
pub struct Fit {
    settings: Context,
    acts: bool,
    hash: MessageHash,
    remembered: Remembered,
    /// None until the first step.
    measure: Option<Measure>,
    view: View,
    /// What is left out now.
    cut: Option<Cut>,
    /// Whether the open question is about what is new only.
    asked_new: bool,
    questions: u8,
    /// The window it is to fit, once known.
    window: Option<u64>,
    /// Tokens of the whole conversation, for the client.
    told: Option<u64>,
    notes: Vec<&'static str>,
    breaks: Vec<PrefixBreak>,
}

impl Fit {
    /// For a turn of a conversation; `acts` false only records what would be done.
    pub fn new(settings: &Context, acts: bool, remembered: Remembered, hash: MessageHash) -> Self {
        Self {
            settings: settings.clone(),
            acts,
            hash,
            remembered,
            measure: None,
            view: View::default(),
            cut: None,
            asked_new: false,
            questions: QUESTIONS,
            window: None,
            told: None,
            notes: Vec::new(),
            breaks: Vec::new(),
        }
    }

    /// The next step towards a prompt that fits `n_ctx` tokens. What is remembered is left out even
    /// where the window is not known.
    pub fn step(&mut self, turn: &mut Turn, n_ctx: Option<u64>) -> Step {
        // Taken out for the time of the step, so that both can be changed.
        let mut measure = match self.measure.take() {
            Some(measure) => measure,
            None => self.begin(turn),
        };
        let step = match n_ctx.filter(|n| *n > 0) {
            Some(n_ctx) => self.towards(turn, &mut measure, n_ctx),
            None => Step::Ready,
        };
        self.measure = Some(measure);
        step
    }

    /// The weight of the prompt, and its tokens where it goes on from one that was counted.
    pub fn size(&mut self, turn: &mut Turn) -> (u64, Option<u64>) {
        let measure = match self.measure.take() {
            Some(measure) => measure,
            None => self.begin(turn),
        };
        let size = (measure.weight(), measure.goes_on());
        self.measure = Some(measure);
        size
    }

    fn towards(&mut self, turn: &mut Turn, measure: &mut Measure, n_ctx: u64) -> Step {
        self.window = Some(n_ctx);
        let limit = self.limit(n_ctx);
        // Every cut leaves out more than the last: this ends.
        loop {
            let size = measure.size();
            if size.high < limit {
                return Step::Ready;
            }
            if !measure.is_counted() && self.questions > 0 {
                self.questions -= 1;
                return Step::Count(self.question(turn, measure));
            }
            if size.likely < limit {
                return Step::Ready;
            }
            self.told.get_or_insert(size.likely);
            if !self.settings.prune || !self.recut(turn, measure, size.likely, n_ctx) {
                return self.refusal(measure, n_ctx);
            }
        }
    }

    /// The answer to a question; none when there was none in time.
    pub fn counted(&mut self, tokens: Option<u64>) {
        match (&mut self.measure, tokens) {
            (Some(measure), Some(tokens)) if self.asked_new => measure.counted_new(tokens),
            (Some(measure), Some(tokens)) => measure.counted(tokens),
            _ => self.questions = 0,
        }
    }

    /// A backend has refused the prompt as too long. Whether it is shorter now.
    pub fn overflowed(&mut self, turn: &mut Turn, prompt: u64, n_ctx: u64) -> bool {
        if !self.acts || !self.settings.prune || n_ctx == 0 {
            return false;
        }
        let Some(mut measure) = self.measure.take() else {
            return false;
        };
        let tokens = prompt.max(n_ctx);
        measure.counted(tokens);
        self.told.get_or_insert(tokens);
        let shorter = self.recut(turn, &mut measure, tokens, n_ctx);
        self.measure = Some(measure);
        shorter
    }

    /// Tokens the window has left behind the prompt; never less than there are.
    pub fn room(&self, n_ctx: Option<u64>) -> Option<u64> {
        let prompt = self.measure.as_ref().map_or(0, |m| m.size().low);
        n_ctx.map(|n| n.saturating_sub(prompt))
    }

    /// Messages left out now.
    pub fn removed(&self) -> Option<u32> {
        self.cut.map(Cut::removed)
    }

    /// What was done since this was asked last, or would have been: kinds of interventions.
    pub fn take_notes(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.notes)
    }

    /// Whether the prompt begins otherwise than the last one.
    pub fn breaks(&self) -> &[PrefixBreak] {
        &self.breaks
    }

    /// What to remember of the turn, its prompt having come to `prompt` tokens.
    pub fn remember(&self, prompt: u64) -> ContextState {
        let far = self.window.is_none_or(|window| prompt < window / FAR);
        let measure = self.measure.as_ref().filter(|_| !far);
        ContextState {
            counted: measure.and_then(|measure| measure.remember(prompt)),
            cut: self.cut,
            narrowed: None,
        }
    }

    /// Weigh everything, and leave out what was left out before.
    fn begin(&mut self, turn: &mut Turn) -> Measure {
        let Remembered { own, others } = &self.remembered;
        let mut measure = Measure::new(turn, own.counted);
        let cuts = own.cut.iter().chain(others).copied();
        if cuts.clone().next().is_none() || !self.acts || !self.settings.prune {
            return measure;
        }
        let found = cut::find(&turn.messages, cuts, self.hash);
        if let (Some((cut, at)), Some(head_end)) = (found, measure.head_end)
            && at > head_end
        {
            self.apply(turn, &mut measure, cut, at);
            self.note("pruned");
        }
        measure
    }

    fn apply(&mut self, turn: &mut Turn, measure: &mut Measure, cut: Cut, at: usize) {
        if let Some(head_end) = measure.head_end {
            self.view
                .cut(&mut turn.messages, head_end, at, cut.removed());
            self.cut = Some(cut);
            measure.rest = Some(at);
        }
    }

    /// Leave out more, so that a prompt of `tokens` comes down to its target.
    fn recut(&mut self, turn: &mut Turn, measure: &mut Measure, tokens: u64, n_ctx: u64) -> bool {
        let Some(head_end) = measure.head_end else {
            return false;
        };
        let aim = Aim::new(&self.settings, tokens, measure.weight(), n_ctx);
        let before = self.cut.zip(measure.rest);
        self.view.undo(&mut turn.messages);
        let found = choose(&turn.messages, measure, aim, self.hash);
        let found = found.filter(|at| before.is_none_or(|(_, before)| *at > before));
        if found.is_some() {
            self.notes.retain(|note| *note != "pruned");
            self.note("prune");
        }
        if let Some(at) = found.filter(|_| self.acts) {
            let cut = Cut::new(&turn.messages, head_end, at, self.hash);
            self.apply(turn, measure, cut, at);
            self.breaks = vec![PrefixBreak::Prune];
            return true;
        }
        if let Some((cut, at)) = before {
            self.apply(turn, measure, cut, at);
        }
        false
    }

    fn refusal(&self, measure: &Measure, n_ctx: u64) -> Step {
        let tokens = measure.size().likely;
        if !self.acts || !measure.is_certain() || tokens < n_ctx {
            // The backend will say so itself, if it is so.
            return Step::Ready;
        }
        Step::Refuse(TurnError::ContextOverflow {
            prompt: self.told.unwrap_or(tokens).max(tokens),
            limit: n_ctx,
        })
    }

    fn question(&mut self, turn: &Turn, measure: &Measure) -> Question {
        let new = measure.new_messages(&turn.messages);
        self.asked_new = new.is_some();
        match new {
            Some(messages) => Question::Text(weight::text(messages)),
            None => Question::Whole,
        }
    }

    fn limit(&self, n_ctx: u64) -> u64 {
        match self.settings.prune {
            true => (self.settings.threshold * n_ctx as f64) as u64,
            false => n_ctx,
        }
    }

    fn note(&mut self, kind: &'static str) {
        if !self.notes.contains(&kind) {
            self.notes.push(kind);
        }
    }
}
