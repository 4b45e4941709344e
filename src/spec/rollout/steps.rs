//! Steps: how one begins, what it comes to, and what follows.

use super::assign::Shares;
use super::event::{Event, Verdict, What};
use super::judge::{Harm, Judge, Trigger};
use super::machine::State;
use super::phase::{Capacity, Clock, Fairness, Look, Phase};
use super::side::Side;
use crate::config::{OnInconclusive, RollbackSignature, Rollout};

/// Harms of one verdict that are told: the state has to stay small.
const MOST_HARMS: usize = 8;

impl State {
    /// What follows from what is known.
    pub fn look(&mut self, plan: &Rollout, look: &Look) -> Vec<Event> {
        if !self.phase.is_active() {
            return Vec::new();
        }
        let now_ms = look.now_ms;
        if let Some(trouble) = &look.trouble {
            return self.fails(Verdict::Error, trouble.clone(), Vec::new(), now_ms);
        }
        let harms = self.harms(plan, look);
        if let Some(first) = harms.first() {
            let reason = first.evidence.clone();
            return self.fails(Verdict::Failed, reason, harms, now_ms);
        }
        match self.phase {
            Phase::WaitingCapacity => self.begin_step(plan, look),
            Phase::WaitingCrossover => self.cross(plan, look),
            Phase::Running => self.judge(plan, look),
            _ => Vec::new(),
        }
    }

    fn harms(&self, plan: &Rollout, look: &Look) -> Vec<Harm> {
        let listed = |sign: &RollbackSignature| plan.rollback_when.signatures.contains(sign);
        let signs = look.signs.iter().filter(|(sign, _)| listed(sign));
        let mut harms: Vec<Harm> = signs
            .map(|(sign, evidence)| Harm {
                trigger: Trigger::Signature(*sign),
                stratum: None,
                evidence: evidence.clone(),
            })
            .collect();
        let judge = Judge::new(plan);
        harms.extend(judge.harms(&self.seen(&look.hardware)));
        harms.truncate(MOST_HARMS);
        harms
    }

    fn begin_step(&mut self, plan: &Rollout, look: &Look) -> Vec<Event> {
        let share = plan.steps.get(self.step).map_or(0.0, |share| share.0);
        let Capacity { candidate, all } = look.capacity;
        let lacks = look.capacity.missing(share);
        if lacks > 0 {
            let missing = format!(
                "{:.0} % of the sessions need {lacks} more of the pool's {all} ready slots for the candidate, which has {candidate}",
                share * 100.0
            );
            if self.reason.as_ref() == Some(&missing) {
                return Vec::new();
            }
            self.reason = Some(missing.clone());
            return vec![self.note(look.now_ms, What::Waiting { missing })];
        }
        self.clock.since_ms = Some(look.now_ms);
        let begins = std::mem::take(&mut self.ahead);
        self.enter(Phase::Running, None, look.now_ms);
        if !begins {
            return Vec::new();
        }
        self.share = share;
        self.candidate = Side::default();
        self.first = None;
        self.choose_partner(plan, look);
        if Shares::of(share).control > 0.0 {
            self.control = Side::default();
        }
        vec![self.note(
            look.now_ms,
            What::StepBegan {
                step: self.step,
                share,
            },
        )]
    }

    fn judge(&mut self, plan: &Rollout, look: &Look) -> Vec<Event> {
        let now_ms = look.now_ms;
        if self.is_half_way(plan, now_ms) {
            return self.begin_crossing(plan, look);
        }
        let lacking = self.lacking(plan, now_ms);
        let judge = Judge::new(plan);
        // With no sessions left the control is that of the step before, and has told already who is better.
        let superior =
            self.shares().control <= 0.0 || judge.is_superior(&self.seen(&look.hardware));
        match (lacking, superior, &look.fairness) {
            (None, true, Fairness::Equal(_)) => {
                let reason = self.better_in(&judge, look);
                let verdict = self.verdict(Verdict::Successful, reason, Vec::new(), now_ms);
                let mut events = vec![verdict];
                events.extend(self.advance(plan, now_ms));
                events
            }
            (None, true, Fairness::Unequal(why)) => {
                let reason = format!("{}, but {why}", self.better_in(&judge, look));
                self.inconclusive(plan, reason, now_ms)
            }
            (lacking, _, _) if self.elapsed(now_ms) >= plan.step.max_time => {
                let reason = lacking.unwrap_or_else(|| {
                    format!(
                        "no class is certain to be better by {}",
                        plan.promote_when.decode_tps
                    )
                });
                self.inconclusive(plan, reason, now_ms)
            }
            _ => Vec::new(),
        }
    }

    /// What the step lacks of what it takes, in words.
    fn lacking(&self, plan: &Rollout, now_ms: u64) -> Option<String> {
        let step = &plan.step;
        let ((turns, control_turns), (sessions, control_sessions)) =
            (self.turns(), self.sessions());
        let mut sides = vec![("candidate", turns, sessions)];
        if self.shares().control > 0.0 {
            sides.push(("control", control_turns, control_sessions));
        }
        for (name, turns, sessions) in sides {
            if turns < step.min_turns {
                return Some(format!("{turns} of {} turns of the {name}", step.min_turns));
            }
            if sessions < step.min_sessions as usize {
                return Some(format!(
                    "{sessions} of {} sessions of the {name}",
                    step.min_sessions
                ));
            }
        }
        let elapsed = self.elapsed(now_ms);
        (elapsed < step.min_time)
            .then(|| format!("{} s of {} s", elapsed.as_secs(), step.min_time.as_secs()))
    }

    fn better_in(&self, judge: &Judge<'_>, look: &Look) -> String {
        let (better, _) = judge.better(&self.seen(&look.hardware));
        let names: Vec<_> = better.iter().map(|class| class.as_str()).collect();
        match names.is_empty() {
            true => "no harm with all sessions".to_owned(),
            false => format!("better in {}", names.join(", ")),
        }
    }

    fn inconclusive(&mut self, plan: &Rollout, reason: String, now_ms: u64) -> Vec<Event> {
        let mut events =
            vec![self.verdict(Verdict::Inconclusive, reason.clone(), Vec::new(), now_ms)];
        events.push(match plan.on_inconclusive {
            OnInconclusive::Hold => {
                self.clock.stop(now_ms);
                self.enter(Phase::Held, Some(reason.clone()), now_ms);
                self.note(now_ms, What::Held { reason })
            }
            OnInconclusive::Rollback => self.roll_back(reason, now_ms),
        });
        events
    }

    fn fails(
        &mut self,
        verdict: Verdict,
        reason: String,
        harms: Vec<Harm>,
        now_ms: u64,
    ) -> Vec<Event> {
        let verdict = self.verdict(verdict, reason.clone(), harms, now_ms);
        vec![verdict, self.roll_back(reason, now_ms)]
    }

    fn roll_back(&mut self, reason: String, now_ms: u64) -> Event {
        self.clock.stop(now_ms);
        self.share = 0.0;
        self.enter(Phase::RolledBack, Some(reason.clone()), now_ms);
        self.note(now_ms, What::RolledBack { reason })
    }

    /// The next step, or the end.
    pub(super) fn advance(&mut self, plan: &Rollout, now_ms: u64) -> Vec<Event> {
        if self.step + 1 >= plan.steps.len() {
            return vec![self.promote(now_ms)];
        }
        self.step += 1;
        self.ahead = true;
        self.crossing = false;
        self.clock = Clock::default();
        self.enter(Phase::WaitingCapacity, None, now_ms);
        Vec::new()
    }

    pub(super) fn promote(&mut self, now_ms: u64) -> Event {
        self.clock.stop(now_ms);
        self.share = 1.0;
        self.enter(Phase::Promoted, None, now_ms);
        self.note(now_ms, What::Promoted)
    }
}
