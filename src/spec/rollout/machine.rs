//! The state of a rollout, and what changes it: looks at what came of turns, and people.
//!
//! Nothing here knows a clock or a disk: whoever keeps the state writes it down before anybody acts by it, and
//! after a restart goes on from what was written.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::assign::{Arm, Mode, Routing, Shares};
use super::event::{Event, Judged, Verdict, What};
use super::judge::Harm;
use super::phase::{Clock, Phase};
use super::side::{Drift, Side};
use crate::config::{Rollout, Webhook};
use crate::spec::Observation;

/// Events that are remembered.
const MOST_EVENTS: usize = 64;

/// The state of a rollout: all there is to it besides its configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Of the configuration that it belongs to.
    pub(super) fingerprint: u64,
    /// How often it was started.
    pub(super) run: u32,
    pub(super) phase: Phase,
    pub(super) step: usize,
    /// The candidate's share of the sessions now.
    pub(super) share: f64,
    /// The step has not begun yet.
    pub(super) ahead: bool,
    pub(super) clock: Clock,
    pub(super) candidate: Side,
    pub(super) control: Side,
    pub(super) drift: Drift,
    /// Both sides in the first half of a crossover.
    pub(super) first: Option<Box<(Side, Side)>>,
    /// The backends are to exchange their profiles.
    pub(super) crossing: bool,
    /// They have, an odd number of times.
    pub(super) swapped: bool,
    /// The backend that the control exchanges its profile with.
    pub(super) partner: Option<String>,
    pub(super) verdicts: VecDeque<Judged>,
    pub(super) events: VecDeque<Event>,
    /// Why it is where it is.
    pub(super) reason: Option<String>,
    pub(super) changed_ms: u64,
    /// Backends that the operator's command has given another profile.
    pub(super) profiles: BTreeMap<String, String>,
}

/// What tells configurations apart; whom to tell is no part of what is found out.
fn fingerprint(plan: &Rollout) -> u64 {
    let plan = Rollout {
        webhooks: Vec::<Webhook>::new(),
        hooks: Default::default(),
        ..plan.clone()
    };
    xxh3_64(&serde_json::to_vec(&plan).unwrap_or_default())
}

impl State {
    /// One that nobody has started.
    pub fn new(plan: &Rollout) -> Self {
        Self {
            fingerprint: fingerprint(plan),
            ..Self::default()
        }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Which step, from 0.
    pub fn step(&self) -> usize {
        self.step
    }

    /// How often it was started.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Why it is where it is.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// When that began, in milliseconds since 1970.
    pub fn changed_ms(&self) -> u64 {
        self.changed_ms
    }

    /// How long the step has run.
    pub fn elapsed(&self, now_ms: u64) -> Duration {
        self.clock.elapsed(now_ms)
    }

    /// What came of the candidate's turns, and of the control's.
    pub fn sides(&self) -> (&Side, &Side) {
        (&self.candidate, &self.control)
    }

    /// What the steps came to, the latest last.
    pub fn verdicts(&self) -> impl Iterator<Item = &Judged> {
        self.verdicts.iter()
    }

    /// The latest events, the last one last.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// Backends that the operator's command has given another profile.
    pub fn profiles(&self) -> &BTreeMap<String, String> {
        &self.profiles
    }

    /// Whether two backends are to exchange their profiles now.
    pub fn is_crossing(&self) -> bool {
        self.crossing
    }

    /// The shares of the sessions.
    pub fn shares(&self) -> Shares {
        match self.phase {
            Phase::Promoted => Shares {
                candidate: 1.0,
                control: 0.0,
            },
            _ => Shares::of(self.share),
        }
    }

    /// Whether there have to be sessions of a control, now or in the step that is to come.
    pub fn needs_control(&self, plan: &Rollout) -> bool {
        let share = match self.phase {
            Phase::WaitingCapacity => plan.steps.get(self.step).map_or(0.0, |share| share.0),
            _ => self.share,
        };
        Shares::of(share).control > 0.0
    }

    /// What requests need to know.
    pub fn routing(&self, plan: &Rollout) -> Routing {
        Routing {
            rollout: plan.name.as_str().into(),
            pool: plan.pool.as_str().into(),
            run: self.run,
            step: self.step,
            crossed: self.first.is_some(),
            pair: self.pair(plan),
            candidate: plan.candidate.clone(),
            baseline: plan.baseline.clone(),
            control: Arc::from(self.control(plan)),
            mode: match self.phase {
                Phase::Pending => Mode::Off,
                Phase::Promoted => Mode::Promoted,
                Phase::RolledBack | Phase::Aborted => Mode::Baseline,
                _ => Mode::Trial(self.shares()),
            },
        }
    }

    /// A turn of one of the sides. Turns that began in another step or run are of no use.
    pub fn push(&mut self, routing: &Routing, arm: Arm, session: &str, seen: &Observation) {
        let now = (self.run, self.step, self.first.is_some());
        let is_over = self.crossing || !self.phase.is_active();
        if (routing.run, routing.step, routing.crossed) != now || is_over {
            return;
        }
        match arm {
            Arm::Candidate => {
                self.candidate.push(session, seen);
                self.drift.push(seen);
            }
            // Beyond the last share that leaves it any, it is what it was.
            Arm::Control => self.control.push(session, seen),
            Arm::Outside | Arm::Baseline | Arm::Promoted => {}
        }
    }

    /// The configuration may be another one than when this was written.
    pub fn reconcile(&mut self, plan: &Rollout, now_ms: u64) -> Vec<Event> {
        let now = fingerprint(plan);
        if now == self.fingerprint {
            return Vec::new();
        }
        let begun = self.phase != Phase::Pending;
        *self = Self {
            fingerprint: now,
            run: self.run,
            events: std::mem::take(&mut self.events),
            verdicts: std::mem::take(&mut self.verdicts),
            profiles: std::mem::take(&mut self.profiles),
            ..Self::default()
        };
        match begun {
            true => vec![self.note(now_ms, What::Reset)],
            false => Vec::new(),
        }
    }

    /// The operator's command has given `backend` another profile.
    pub fn profile_set(&mut self, backend: &str, profile: &str, now_ms: u64) -> Event {
        self.profiles.insert(backend.to_owned(), profile.to_owned());
        let (backend, profile) = (backend.to_owned(), profile.to_owned());
        self.note(now_ms, What::ProfileSet { backend, profile })
    }

    pub(super) fn enter(&mut self, phase: Phase, reason: Option<String>, now_ms: u64) {
        self.phase = phase;
        self.reason = reason;
        self.changed_ms = now_ms;
    }

    pub(super) fn verdict(
        &mut self,
        verdict: Verdict,
        reason: String,
        harms: Vec<Harm>,
        at_ms: u64,
    ) -> Event {
        let judged = Judged {
            step: self.step,
            share: self.share,
            verdict,
            reason,
            harms,
            turns: self.turns(),
            sessions: self.sessions(),
            judged_ms: at_ms,
        };
        keep(&mut self.verdicts, judged.clone());
        self.note(at_ms, What::Verdict(judged))
    }

    pub(super) fn note(&mut self, at_ms: u64, what: What) -> Event {
        let event = Event { at_ms, what };
        keep(&mut self.events, event.clone());
        event
    }
}

fn keep<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() >= MOST_EVENTS {
        all.pop_front();
    }
    all.push_back(one);
}

#[cfg(test)]
mod tests;
