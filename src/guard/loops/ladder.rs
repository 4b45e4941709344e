//! One step up or down the ladder.

use super::ledger::{Class, Judged, Verdict};
use super::state::{COUNTED, LoopState, Phase, Reason, Transition};
use crate::config::{ForceTools, Loops};

/// Turns the tools of a repetition are withheld.
const NARROW_TURNS: u8 = 2;

/// Turns a hint may be ignored.
const HINT_TURNS: u8 = 2;

/// How often the same must have happened for a hint.
const TIMES: u32 = 3;

/// Detections of the same tool in repetitions that make a ban, and how many tool turns that lasts.
const BAN_AFTER: u32 = 3;
const BAN_TURNS: u32 = 10;

/// Productive turns in a row that make up for one review cycle.
const FORGIVING: u8 = 10;

/// With `force_tools: required`: how often a summary is put off because the work is not complete.
const RECOVERIES: u8 = 3;

/// Turns in which the same call must have been denied.
pub(super) const DENIALS: u32 = 3;

/// How the thresholds of this turn are set.
pub(super) struct Knobs<'a> {
    pub(super) loops: &'a Loops,
    /// The earlier system's way: a repetition is narrowed as soon as it is seen.
    pub(super) narrow_at_once: bool,
}

impl LoopState {
    /// Take in one step.
    pub(super) fn advance(
        &mut self,
        verdict: &Verdict,
        knobs: &Knobs<'_>,
        log: &mut Vec<Transition>,
    ) {
        self.turns_since_human = self.turns_since_human.saturating_add(1);
        if verdict.turn.is_some() {
            self.tool_turns = self.tool_turns.saturating_add(1);
        }
        if self.phase == Phase::Finalize {
            self.start_over();
            self.probation = true;
            self.go(Phase::Act, Reason::FinalizeOver, log);
        }
        if verdict.human {
            return self.unlock(log);
        }
        match &verdict.turn {
            Some(judged) => self.tool_turn(judged, knobs, log),
            None if self.phase == Phase::Narrow => self.narrowed(log),
            None => {}
        }
    }

    /// A human has said something new: everything is open again.
    fn unlock(&mut self, log: &mut Vec<Transition>) {
        self.start_over();
        self.probation = false;
        self.hard_stop_base = self.finalize_hard_stop_count;
        self.bans = Default::default();
        self.cycle_counts = Default::default();
        self.denied = Default::default();
        self.completion_recovery_attempts = 0;
        self.turns_since_human = 0;
        self.tokens_since_human = 0;
        self.tokens_since_progress = 0;
        self.go(Phase::Act, Reason::HumanText, log);
    }

    fn start_over(&mut self) {
        self.zero_streaks();
        self.review_cycles = 0;
        self.phase_turns = 0;
        self.productive_run = 0;
    }

    fn zero_streaks(&mut self) {
        self.stagnation_streak = 0;
        self.no_progress_streak = 0;
        self.exhaustion_streak = 0;
        self.repeats = 0;
    }

    fn tool_turn(&mut self, judged: &Judged, knobs: &Knobs<'_>, log: &mut Vec<Transition>) {
        match judged.class {
            Class::Productive => return self.progress(log),
            Class::Repeated => {
                self.stagnation_streak = self.stagnation_streak.saturating_add(1);
                self.repeats = u16::try_from(judged.run).unwrap_or(u16::MAX);
            }
            Class::Barren => self.barren(knobs.loops),
            Class::Neutral => {}
        }
        self.productive_run = 0;
        if self.phase == Phase::Stop {
            return;
        }
        if let Some(reason) = self.finalizes(judged.class, knobs.loops) {
            return self.finalize(reason, knobs, log);
        }
        if judged.class == Class::Neutral && self.phase == Phase::Act {
            return;
        }
        match self.phase {
            Phase::Act => {
                if let Some(reason) = self.trigger(judged, knobs.loops) {
                    self.review(reason, judged, knobs, log);
                }
            }
            Phase::Hint => self.hinted(judged, knobs.loops, log),
            Phase::Narrow => {
                self.narrowed(log);
                if self.phase == Phase::Act
                    && let Some(reason) = self.trigger(judged, knobs.loops)
                {
                    self.review(reason, judged, knobs, log);
                }
            }
            Phase::Finalize | Phase::Stop => {}
        }
    }

    fn progress(&mut self, log: &mut Vec<Transition>) {
        self.zero_streaks();
        self.probation = false;
        self.tokens_since_progress = 0;
        self.productive_run = self.productive_run.saturating_add(1);
        if self.productive_run.is_multiple_of(FORGIVING) {
            self.review_cycles = self.review_cycles.saturating_sub(1);
        }
        if matches!(self.phase, Phase::Hint | Phase::Narrow) {
            self.phase_turns = 0;
            self.go(Phase::Act, Reason::Progress, log);
        }
    }

    fn barren(&mut self, loops: &Loops) {
        self.no_progress_streak += 1;
        if u32::from(self.no_progress_streak) >= loops.no_progress_threshold.max(1) {
            self.no_progress_streak = 0;
            self.exhaustion_streak = self.exhaustion_streak.saturating_add(1);
        }
    }

    /// Why it is time to ask for a summary.
    fn finalizes(&self, class: Class, loops: &Loops) -> Option<Reason> {
        let exhaustion = u32::from(self.exhaustion_streak);
        if self.probation && (class == Class::Repeated || exhaustion > 0) {
            Some(Reason::AfterFinalize)
        } else if u32::from(self.stagnation_streak) >= loops.finalize_threshold {
            Some(Reason::StagnationLimit)
        } else if exhaustion >= loops.unproductive_exhaustion_limit {
            Some(Reason::UnproductiveExhaustion)
        } else if u32::from(self.review_cycles) >= loops.review_cycle_limit {
            Some(Reason::ReviewCycleLimit)
        } else {
            None
        }
    }

    /// A summary is asked for, or nothing at all any more.
    pub(super) fn finalize(
        &mut self,
        reason: Reason,
        knobs: &Knobs<'_>,
        log: &mut Vec<Transition>,
    ) {
        let required = knobs.loops.force_tools == ForceTools::Required;
        if required && self.completion_recovery_attempts < RECOVERIES {
            self.completion_recovery_attempts += 1;
            self.start_over();
            return self.go(Phase::Hint, Reason::CompletionPending, log);
        }
        if u32::from(self.finalized()) >= knobs.loops.finalize_session_hard_cap {
            return self.go(Phase::Stop, Reason::HardCap, log);
        }
        self.count_finalize();
        self.go(Phase::Finalize, reason, log);
    }

    pub(super) fn count_finalize(&mut self) {
        self.finalize_hard_stop_count = self.finalize_hard_stop_count.saturating_add(1);
        self.finalize_fired = true;
    }

    /// Why it is time to say something.
    fn trigger(&self, judged: &Judged, loops: &Loops) -> Option<Reason> {
        let denied = self.denied.iter().any(|(_, turns)| turns >= DENIALS);
        if judged.run >= TIMES {
            Some(Reason::SameCall)
        } else if judged.cycle.is_some() {
            Some(Reason::Cycle)
        } else if judged.reread {
            Some(Reason::Reread)
        } else if u32::from(self.stagnation_streak) >= loops.stagnation_threshold {
            Some(Reason::Stagnation)
        } else {
            denied.then_some(Reason::Denied)
        }
    }

    /// From act to hint: one review cycle.
    fn review(
        &mut self,
        reason: Reason,
        judged: &Judged,
        knobs: &Knobs<'_>,
        log: &mut Vec<Transition>,
    ) {
        self.review_cycles = self.review_cycles.saturating_add(1);
        self.phase_turns = 0;
        self.remember_cycling(&judged.names);
        for name in judged.names.iter().take(COUNTED) {
            if self.cycle_counts.add(*name) >= BAN_AFTER {
                self.bans.set(*name, self.tool_turns + BAN_TURNS);
            }
        }
        if knobs.narrow_at_once {
            self.phase_turns = NARROW_TURNS;
            self.go(Phase::Narrow, reason, log);
        } else {
            self.go(Phase::Hint, reason, log);
        }
    }

    fn remember_cycling(&mut self, names: &[u32]) {
        self.cycling = [0; COUNTED];
        for (place, name) in self.cycling.iter_mut().zip(names) {
            *place = *name;
        }
    }

    fn hinted(&mut self, judged: &Judged, loops: &Loops, log: &mut Vec<Transition>) {
        self.phase_turns += 1;
        let reason = if judged.run > loops.loop_repeat_threshold {
            Reason::RepeatThreshold
        } else if self.phase_turns >= HINT_TURNS {
            Reason::HintIgnored
        } else {
            return;
        };
        if judged.class == Class::Repeated {
            self.remember_cycling(&judged.names);
        }
        self.phase_turns = NARROW_TURNS;
        self.go(Phase::Narrow, reason, log);
    }

    fn narrowed(&mut self, log: &mut Vec<Transition>) {
        self.phase_turns = self.phase_turns.saturating_sub(1);
        if self.phase_turns == 0 {
            self.go(Phase::Act, Reason::NarrowOver, log);
        }
    }

    /// A call of a tool was denied in this turn.
    pub(super) fn deny(&mut self, call: u64) {
        self.denied.add(call as u32);
    }
}
