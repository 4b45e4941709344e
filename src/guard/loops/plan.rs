//! From transcript and memory to what is done about this turn.

use std::sync::Arc;
use std::time::Duration;

use super::force::{self, Force};
use super::ladder::Knobs;
use super::ledger::{Ledger, Verdict};
use super::notes;
use super::read::{self, name_hash};
use super::settle::Pending;
use super::state::{Cut, LoopState, Phase, Reason};
use super::{class, contamination};
use crate::config::{Budgets, Loops, Preset};
use crate::turn::{ToolChoice, Turn};

/// How the guards are set for this turn.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Thresholds.
    pub loops: &'a Loops,
    /// What a session may spend.
    pub budgets: &'a Budgets,
    /// How much is done.
    pub preset: Preset,
}

/// What is known about the conversation from earlier turns.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// The ladder's state after the last committed turn, where it matters.
    pub state: Option<LoopState>,
    /// What was done and seen until then, while it is remembered.
    pub ledger: Option<Arc<Ledger>>,
    /// How many of the turn's messages were there then; none when they were not the first ones of
    /// this transcript.
    pub covered: Option<usize>,
    /// The last committed turn is asked for again.
    pub is_retry: bool,
    /// What the whole session has spent.
    pub spent: Spent,
}

/// What a session has spent since it was last set free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Turns answered.
    pub turns: u32,
    /// Tokens generated.
    pub generated: u64,
    /// Time since it began.
    pub wall: Duration,
}

/// What is done about this turn. Nothing, as a rule.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The rung of the ladder.
    pub rung: Phase,
    /// Whether anything is done, or only recorded.
    pub acts: bool,
    /// Goes into the last tool result's text, or behind the last message.
    pub(super) note: Option<String>,
    /// Tools whose calls are denied.
    pub withheld: Arc<[Withheld]>,
    pub(super) force: Force,
    pub(super) cut: Option<Cut>,
    pub(super) strips: bool,
    /// What is said where there is nothing else to say.
    pub summary: Arc<str>,
    /// Append a call that does nothing to a summary, so that the agent goes on.
    pub continues: bool,
    /// What is done, by the names of the interventions.
    pub kinds: Vec<&'static str>,
    /// A summary may be asked for within this turn.
    pub may_finalize: bool,
}

/// A tool whose calls are denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// Its name.
    pub name: String,
    /// What the model is told.
    pub why: String,
}

impl Plan {
    /// What the model is told.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Whether a call is required that the client did not ask for.
    pub fn requires_call(&self) -> bool {
        self.force == Force::Require
    }
}

/// Decide about a turn.
pub fn plan(turn: &Turn, remembered: Remembered, setting: Setting<'_>) -> (Plan, Pending) {
    let knobs = Knobs {
        loops: setting.loops,
        narrow_at_once: setting.preset == Preset::UapLegacy,
    };
    let mut pending = Pending {
        cap: setting.loops.finalize_session_hard_cap,
        is_retry: remembered.is_retry,
        ..Pending::default()
    };
    if remembered.is_retry {
        pending.state = remembered.state.unwrap_or_default();
        pending.ledger = remembered.ledger;
    } else {
        let spent = remembered.spent;
        let was_spent = remembered.state.as_ref().is_some_and(|state| {
            state.phase == Phase::Stop && state.reason == Some(Reason::Budget)
        });
        bring_up_to_date(turn, remembered, &knobs, &mut pending);
        let state = &mut pending.state;
        pending.frees_budget = was_spent && state.phase == Phase::Act;
        let resets = state.contamination_resets;
        contamination::check(turn, state, &knobs, &mut pending.transitions);
        pending.resets = state.contamination_resets > resets;
        if !pending.frees_budget
            && exceeds(setting.budgets, spent, state)
            && state.phase != Phase::Stop
        {
            state.go(Phase::Stop, Reason::Budget, &mut pending.transitions);
        }
    }
    let force = match pending.is_retry {
        true => Force::Leave,
        false => force::decide(turn, &mut pending.state, setting.loops),
    };
    let mut plan = decide(turn, &pending.state, setting);
    plan.force = if plan.acts { force } else { Force::Leave };
    if plan.force != Force::Leave {
        plan.kinds.push("force_tools");
    }
    (plan, pending)
}

/// Take in what is new since the last committed turn.
fn bring_up_to_date(turn: &Turn, remembered: Remembered, knobs: &Knobs<'_>, pending: &mut Pending) {
    let polling = |name: &str| {
        knobs
            .loops
            .polling_tools
            .iter()
            .any(|tool| tool.matches(name))
    };
    let messages = &turn.messages;
    let knows_state = remembered.state.is_some();
    let mut state = remembered.state.unwrap_or_default();
    let covered = remembered
        .covered
        .map(|covered| covered.min(messages.len()));
    let (mut ledger, known, new) = match (remembered.ledger, covered) {
        (Some(ledger), Some(covered)) => {
            let new = read::steps(&messages[covered..], polling);
            (Arc::unwrap_or_clone(ledger), Vec::new(), new)
        }
        (None, Some(covered)) => {
            let known = read::steps(&messages[..covered], polling);
            let new = read::steps(&messages[covered..], polling);
            (Ledger::default(), known, new)
        }
        // The client has rewritten its history, or it is new here: only its last step is.
        (older, None) => {
            let mut known = read::steps(messages, polling);
            let new = known.pop().into_iter().collect();
            let mut ledger = Ledger::default();
            if let Some(older) = older {
                known.iter().for_each(|step| _ = ledger.judge(step));
                ledger.absorb(&older);
                known.clear();
            }
            (ledger, known, new)
        }
    };
    if covered.is_none() {
        state.cut = None;
    }
    for step in &known {
        let verdict = ledger.judge(step);
        if !knows_state {
            state.replay(&verdict, knobs);
        }
    }
    for step in &new {
        let verdict = ledger.judge(step);
        state.advance(&verdict, knobs, &mut pending.transitions);
    }
    pending.state = state;
    pending.ledger = Some(Arc::new(ledger));
}

impl LoopState {
    /// Take in a step of which nothing is known but what the transcript says: no summary was asked
    /// for then, so that none counts.
    fn replay(&mut self, verdict: &Verdict, knobs: &Knobs<'_>) {
        self.advance(verdict, knobs, &mut Vec::new());
        if matches!(self.phase, Phase::Finalize | Phase::Stop) {
            self.phase = Phase::Act;
        }
        (self.finalize_hard_stop_count, self.hard_stop_base) = (0, 0);
        self.finalize_fired = false;
        self.forget_changes();
    }
}

fn exceeds(budgets: &Budgets, spent: Spent, state: &LoopState) -> bool {
    let over = |limit: Option<u64>, value: u64| limit.is_some_and(|limit| value >= limit);
    over(budgets.turns.map(u64::from), u64::from(spent.turns))
        || over(budgets.generated_tokens, spent.generated)
        || budgets.wall.is_some_and(|limit| spent.wall >= limit)
        || over(budgets.tokens_without_progress, state.tokens_since_progress)
}

/// What the state calls for.
fn decide(turn: &Turn, state: &LoopState, setting: Setting<'_>) -> Plan {
    let acts = !matches!(setting.preset, Preset::Off | Preset::Observe);
    let withheld = withheld(turn, state);
    let mut plan = Plan {
        rung: state.phase,
        acts,
        cut: state.cut,
        strips: setting.loops.synthetic_continuation,
        may_finalize: u32::from(state.finalized()) < setting.loops.finalize_session_hard_cap,
        ..Plan::default()
    };
    match state.phase {
        Phase::Act => {}
        Phase::Hint => {
            plan.kinds.push("loop_hint");
            plan.note = Some(notes::hint(turn, state));
        }
        Phase::Narrow => {
            plan.kinds.push("loop_narrow");
            plan.note = Some(notes::narrow(turn, state, &withheld));
        }
        Phase::Finalize => {
            plan.kinds.push("loop_finalize");
            plan.note = Some(notes::FINALIZE.to_owned());
            plan.continues = setting.loops.synthetic_continuation && plan.may_finalize;
        }
        Phase::Stop => plan.kinds.push("loop_stop"),
    }
    if state.cut.is_some() {
        plan.kinds.push("session_reset");
    }
    if matches!(state.phase, Phase::Finalize | Phase::Stop) || !withheld.is_empty() {
        plan.summary = notes::summary(turn, state).into();
    }
    plan.withheld = withheld.into();
    if !acts {
        plan.note = None;
        plan.cut = None;
        plan.withheld = Arc::default();
        plan.continues = false;
    }
    plan
}

/// Never all tools, and never the one the client insists on.
fn withheld(turn: &Turn, state: &LoopState) -> Vec<Withheld> {
    if matches!(state.phase, Phase::Finalize | Phase::Stop) || !turn.is_tool_turn() {
        return Vec::new();
    }
    let narrows = state.phase == Phase::Narrow;
    let cycling = |hash: u32| narrows && hash != 0 && state.cycling.contains(&hash);
    let banned = |hash: u32| state.bans.get(hash) > state.tool_turns;
    let bans = || state.bans.iter().any(|(_, until)| until > state.tool_turns);
    if !narrows && !bans() {
        return Vec::new();
    }
    let insists =
        |name: &str| matches!(&turn.tool_choice, ToolChoice::Named(named) if named == name);
    let names = || turn.tools.iter().map(|tool| tool.name.as_str());
    let reads = names().any(|name| cycling(name_hash(name)) && class::is_read_only(name));
    let out = |name: &&str| {
        let hash = name_hash(name);
        let class = reads && class::is_read_only(name);
        (cycling(hash) || banned(hash) || class) && !insists(name)
    };
    let found: Vec<&str> = names().filter(out).collect();
    if found.len() == turn.tools.len() {
        return Vec::new();
    }
    let withheld = found.into_iter().map(|name| Withheld {
        name: name.to_owned(),
        why: notes::denied(name, state),
    });
    withheld.collect()
}
