//! Crossover: half-way of a step the control's backend and one of the candidate's exchange their profiles, so that
//! both have run on both. Who is the control then is the other one's backend.

use std::sync::Arc;

use super::assign::Shares;
use super::event::{Event, What};
use super::fair::Hardware;
use super::machine::State;
use super::phase::{Look, Phase};
use super::seen::Seen;
use crate::config::{Rollout, Subject};

impl State {
    /// The backend whose sessions are compared with the candidate's.
    pub fn control<'a>(&'a self, plan: &'a Rollout) -> &'a str {
        match &self.partner {
            Some(partner) if self.swapped => partner,
            _ => &plan.control,
        }
    }

    /// The backend of the candidate that is compared with the control; none without a crossover.
    fn crossed_with<'a>(&'a self, plan: &'a Rollout) -> Option<&'a str> {
        let partner = self.partner.as_deref()?;
        Some(if self.swapped { &plan.control } else { partner })
    }

    pub(super) fn pair(&self, plan: &Rollout) -> Option<[Arc<str>; 2]> {
        let partner = self.partner.as_deref().filter(|_| plan.crossover)?;
        Some([Arc::from(plan.control.as_str()), Arc::from(partner)])
    }

    /// What came of the step so far.
    pub fn seen<'a>(&'a self, hardware: &'a Hardware) -> Seen<'a> {
        Seen {
            candidate: &self.candidate,
            control: &self.control,
            first: self.first.as_deref().map(|(now, than)| (now, than)),
            drift: &self.drift,
            hardware,
        }
    }

    /// Turns of the candidate and of the control, in the whole step.
    pub fn turns(&self) -> (u64, u64) {
        let first = self.first.as_deref();
        let of_first = first.map_or((0, 0), |(now, than)| (now.turns(), than.turns()));
        (
            self.candidate.turns() + of_first.0,
            self.control.turns() + of_first.1,
        )
    }

    /// Sessions of both.
    pub fn sessions(&self) -> (usize, usize) {
        let first = self.first.as_deref();
        let (now, than) = (first.map(|first| &first.0), first.map(|first| &first.1));
        (
            self.candidate.sessions_with(now),
            self.control.sessions_with(than),
        )
    }

    /// The backend that exchanges its profile with the control's in this step. Those that have exchanged theirs in the
    /// step before stay the pair.
    pub(super) fn choose_partner(&mut self, plan: &Rollout, look: &Look) {
        if !plan.crossover || self.swapped {
            return;
        }
        let mut others = look.candidates.iter().filter(|name| **name != plan.control);
        self.partner = others.next().cloned();
    }

    /// Half of everything that a step takes is there, and the other half is to be seen with the backends exchanged.
    pub(super) fn is_half_way(&self, plan: &Rollout, now_ms: u64) -> bool {
        let (candidate, control) = self.turns();
        plan.crossover
            && self.first.is_none()
            && self.partner.is_some()
            && Shares::of(self.share).control > 0.0
            && candidate.min(control) >= plan.step.min_turns.div_ceil(2)
            && self.elapsed(now_ms) >= plan.step.min_time / 2
    }

    pub(super) fn begin_crossing(&mut self, plan: &Rollout, look: &Look) -> Vec<Event> {
        self.clock.stop(look.now_ms);
        self.crossing = true;
        self.enter(Phase::WaitingCrossover, None, look.now_ms);
        self.cross(plan, look)
    }

    /// Goes on as soon as each of the two runs what the other did.
    pub(super) fn cross(&mut self, plan: &Rollout, look: &Look) -> Vec<Event> {
        if let Some((backend, profile)) = self.to_set(plan, look) {
            let missing = missing(plan, backend, profile);
            if self.reason.as_ref() == Some(&missing) {
                return Vec::new();
            }
            self.reason = Some(missing.clone());
            return vec![self.note(look.now_ms, What::Crossing { missing })];
        }
        let halves = (
            std::mem::take(&mut self.candidate),
            std::mem::take(&mut self.control),
        );
        self.first = Some(Box::new(halves));
        self.crossing = false;
        self.swapped = !self.swapped;
        self.clock.since_ms = Some(look.now_ms);
        self.enter(Phase::Running, None, look.now_ms);
        let control = self.control(plan).to_owned();
        vec![self.note(look.now_ms, What::Crossed { control })]
    }

    /// The next backend that has to run another profile for the crossover, and which: the candidate's first, so that
    /// there is always one that serves.
    pub fn to_set<'a>(&'a self, plan: &'a Rollout, look: &Look) -> Option<(&'a str, &'a str)> {
        let (Subject::Profile(candidate), Subject::Profile(baseline)) =
            (&plan.candidate, &plan.baseline)
        else {
            return None;
        };
        let (was, control) = (self.crossed_with(plan)?, self.control(plan));
        let runs = |backends: &[String], name: &str| backends.iter().any(|known| known == name);
        if !runs(&look.baselines, was) {
            return Some((was, baseline));
        }
        (!runs(&look.candidates, control)).then_some((control, candidate))
    }
}

fn missing(plan: &Rollout, backend: &str, profile: &str) -> String {
    let by = match plan.hooks.set_profile.is_empty() {
        true => {
            "restart it so, name the profile in the configuration and reload (there is no `hooks.set_profile`)"
        }
        false => "`hooks.set_profile` does it as soon as it can be drained",
    };
    format!("crossover: {backend} has to run profile {profile}: {by}")
}

#[cfg(test)]
mod tests;
