//! The state of a rollout, and what changes it: looks at what came of turns, and people.
//!
//! Nothing here knows a clock or a disk: whoever keeps the state writes it down before anybody acts by it, and
//! after a restart goes on from what was written.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::assign::{Arm, Mode, Routing, Shares};
use super::event::{Event, Judged, Verdict, What};
use super::judge::{Harm, Judge, Trigger};
use super::side::{Drift, Side};
use crate::config::{OnInconclusive, RollbackSignature, Rollout, Webhook};
use crate::spec::Observation;

/// Events that are remembered.
const MOST_EVENTS: usize = 64;

/// Harms of one verdict that are told: the state has to stay small.
const MOST_HARMS: usize = 8;

/// Where a rollout is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nobody has started it.
    #[default]
    Pending,
    /// Its step needs more slots than the candidate has.
    WaitingCapacity,
    /// A step is under way.
    Running,
    /// Somebody paused it: the shares stay, and harm still rolls back.
    Paused,
    /// A step has told nothing: the shares stay until somebody decides, and harm still rolls back.
    Held,
    /// The candidate has all sessions.
    Promoted,
    /// The baseline has all sessions, for a reason.
    RolledBack,
    /// The same because somebody said so.
    Aborted,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::WaitingCapacity,
        Self::Running,
        Self::Paused,
        Self::Held,
        Self::Promoted,
        Self::RolledBack,
        Self::Aborted,
    ];

    /// Its name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::WaitingCapacity => "waiting_capacity",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
        }
    }

    /// Whether it is between its start and its end.
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::WaitingCapacity | Self::Running | Self::Paused | Self::Held
        )
    }
}

/// Time a step has run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Clock {
    /// Until it last stood still, in milliseconds.
    before_ms: u64,
    /// Since when it runs, in milliseconds since 1970; none: it stands still.
    since_ms: Option<u64>,
}

impl Clock {
    fn elapsed(self, now_ms: u64) -> Duration {
        // The system's clock may be set back.
        let running = self
            .since_ms
            .map_or(0, |since| now_ms.saturating_sub(since));
        Duration::from_millis(self.before_ms.saturating_add(running))
    }

    fn stop(&mut self, now_ms: u64) {
        self.before_ms = u64::try_from(self.elapsed(now_ms).as_millis()).unwrap_or(u64::MAX);
        self.since_ms = None;
    }
}

/// Whether a difference can be the hardware's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "fair", content = "because")]
pub enum Fairness {
    /// It cannot, because …
    Equal(String),
    /// It can, because …
    Unequal(String),
}

/// What there is to serve the sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// Slots of the candidate's backends that are ready.
    pub candidate: u32,
    /// Of all backends of the pool that are.
    pub all: u32,
}

impl Capacity {
    /// Slots that the candidate lacks for `share`.
    pub fn missing(self, share: f64) -> u32 {
        let needed = (share * f64::from(self.all) - 1e-9).ceil().max(1.0);
        (needed as u32).saturating_sub(self.candidate)
    }
}

/// What is known besides the turns.
#[derive(Clone, Debug)]
pub struct Look {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// What there is to serve the sides.
    pub capacity: Capacity,
    /// Whether a difference can be the hardware's.
    pub fairness: Fairness,
    /// Signs seen on the candidate's backends, with their evidence.
    pub signs: Vec<(RollbackSignature, String)>,
    /// What makes it impossible to go on.
    pub trouble: Option<String>,
}

/// What somebody orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Begin, or begin anew.
    Start,
    /// Stand still.
    Pause,
    /// Go on; a step that was held has its whole time again.
    Resume,
    /// The next step, whatever is known.
    Promote,
    /// The candidate gets everything.
    PromoteFully,
    /// Back to the baseline.
    Abort,
}

/// An order that makes no sense now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the rollout is {}: it cannot be {order}", .phase.as_str())]
pub struct Refused {
    phase: Phase,
    order: &'static str,
}

/// The state of a rollout: all there is to it besides its configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Of the configuration that it belongs to.
    fingerprint: u64,
    /// How often it was started.
    run: u32,
    phase: Phase,
    step: usize,
    /// The candidate's share of the sessions now.
    share: f64,
    /// The step has not begun yet.
    ahead: bool,
    clock: Clock,
    candidate: Side,
    control: Side,
    drift: Drift,
    verdicts: VecDeque<Judged>,
    events: VecDeque<Event>,
    /// Why it is where it is.
    reason: Option<String>,
    changed_ms: u64,
    /// Backends that the operator's command has given another profile.
    profiles: BTreeMap<String, String>,
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
            candidate: plan.candidate.clone(),
            baseline: plan.baseline.clone(),
            control: Arc::from(plan.control.as_str()),
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
        if (routing.run, routing.step) != (self.run, self.step) || !self.phase.is_active() {
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

    /// An order.
    ///
    /// # Errors
    /// It makes no sense now.
    pub fn order(
        &mut self,
        plan: &Rollout,
        command: Command,
        now_ms: u64,
    ) -> Result<Vec<Event>, Refused> {
        let refuse = |order| {
            Err(Refused {
                phase: self.phase,
                order,
            })
        };
        Ok(match command {
            Command::Start if self.phase.is_active() => return refuse("started"),
            Command::Start => self.start(now_ms),
            Command::Pause if matches!(self.phase, Phase::Running | Phase::WaitingCapacity) => {
                self.clock.stop(now_ms);
                self.enter(Phase::Paused, None, now_ms);
                vec![self.note(now_ms, What::Paused)]
            }
            Command::Pause => return refuse("paused"),
            Command::Resume if matches!(self.phase, Phase::Paused | Phase::Held) => {
                if self.phase == Phase::Held {
                    self.clock = Clock::default();
                }
                self.enter(Phase::WaitingCapacity, None, now_ms);
                vec![self.note(now_ms, What::Resumed)]
            }
            Command::Resume => return refuse("resumed"),
            Command::Promote if self.phase.is_active() => {
                let step = self.step;
                let mut events = vec![self.note(now_ms, What::MovedOn { step })];
                events.extend(self.advance(plan, now_ms));
                events
            }
            Command::Promote => return refuse("promoted"),
            Command::PromoteFully if self.phase == Phase::Promoted => return refuse("promoted"),
            Command::PromoteFully => vec![self.promote(now_ms)],
            Command::Abort if self.phase.is_active() || self.phase == Phase::Promoted => {
                self.clock.stop(now_ms);
                self.share = 0.0;
                self.enter(Phase::Aborted, None, now_ms);
                vec![self.note(now_ms, What::Aborted)]
            }
            Command::Abort => return refuse("aborted"),
        })
    }

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
            Phase::Running => self.judge(plan, look),
            _ => Vec::new(),
        }
    }

    /// The operator's command has given `backend` the candidate's profile.
    pub fn profile_set(&mut self, backend: &str, profile: &str, now_ms: u64) -> Event {
        self.profiles.insert(backend.to_owned(), profile.to_owned());
        let backend = backend.to_owned();
        self.note(now_ms, What::ProfileSet { backend })
    }

    fn start(&mut self, now_ms: u64) -> Vec<Event> {
        *self = Self {
            fingerprint: self.fingerprint,
            run: self.run.saturating_add(1),
            ahead: true,
            events: std::mem::take(&mut self.events),
            verdicts: std::mem::take(&mut self.verdicts),
            profiles: std::mem::take(&mut self.profiles),
            ..Self::default()
        };
        self.enter(Phase::WaitingCapacity, None, now_ms);
        vec![self.note(now_ms, What::Started)]
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
        harms.extend(judge.harms(&self.candidate, &self.control, &self.drift));
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
        let lacking = self.lacking(plan, now_ms);
        let judge = Judge::new(plan);
        // With no sessions left the control is that of the step before, and has told already who is better.
        let superior =
            self.shares().control <= 0.0 || judge.is_superior(&self.candidate, &self.control);
        match (lacking, superior, &look.fairness) {
            (None, true, Fairness::Equal(_)) => {
                let reason = self.better_in(&judge);
                let verdict = self.verdict(Verdict::Successful, reason, Vec::new(), now_ms);
                let mut events = vec![verdict];
                events.extend(self.advance(plan, now_ms));
                events
            }
            (None, true, Fairness::Unequal(why)) => {
                let reason = format!("{}, but {why}", self.better_in(&judge));
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
        let mut sides = vec![("candidate", &self.candidate)];
        if self.shares().control > 0.0 {
            sides.push(("control", &self.control));
        }
        for (name, side) in sides {
            let (turns, sessions) = (side.turns(), side.sessions());
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

    fn better_in(&self, judge: &Judge<'_>) -> String {
        let (better, _) = judge.better(&self.candidate, &self.control);
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
    fn advance(&mut self, plan: &Rollout, now_ms: u64) -> Vec<Event> {
        if self.step + 1 >= plan.steps.len() {
            return vec![self.promote(now_ms)];
        }
        self.step += 1;
        self.ahead = true;
        self.clock = Clock::default();
        self.enter(Phase::WaitingCapacity, None, now_ms);
        Vec::new()
    }

    fn promote(&mut self, now_ms: u64) -> Event {
        self.clock.stop(now_ms);
        self.share = 1.0;
        self.enter(Phase::Promoted, None, now_ms);
        self.note(now_ms, What::Promoted)
    }

    fn enter(&mut self, phase: Phase, reason: Option<String>, now_ms: u64) {
        self.phase = phase;
        self.reason = reason;
        self.changed_ms = now_ms;
    }

    fn verdict(&mut self, verdict: Verdict, reason: String, harms: Vec<Harm>, at_ms: u64) -> Event {
        let judged = Judged {
            step: self.step,
            share: self.share,
            verdict,
            reason,
            harms,
            turns: (self.candidate.turns(), self.control.turns()),
            sessions: (self.candidate.sessions(), self.control.sessions()),
            judged_ms: at_ms,
        };
        keep(&mut self.verdicts, judged.clone());
        self.note(at_ms, What::Verdict(judged))
    }

    fn note(&mut self, at_ms: u64, what: What) -> Event {
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
