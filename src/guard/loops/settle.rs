//! What is remembered of a turn once it has been answered, and only then.

use std::sync::Arc;

use super::force;
use super::ledger::Ledger;
use super::state::{LoopState, Phase, Reason, Transition};

/// What is remembered of this turn once it is answered.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    pub(super) state: LoopState,
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) transitions: Vec<Transition>,
    pub(super) is_retry: bool,
    pub(super) cap: u32,
    pub(super) resets: bool,
    /// A human has set the session free whose budget was spent.
    pub frees_budget: bool,
}

/// What came of a turn, as far as the ladder is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Calls that were denied, by [`super::call_hash`].
    pub denied: Vec<u64>,
    /// The model insisted, and a summary was asked for instead.
    pub finalized: bool,
    /// A call that does nothing was appended.
    pub continued: bool,
    /// The answer's tool calls could not be used.
    pub bad: bool,
    /// A call was required, and there was none.
    pub missed: bool,
    /// The client got a tool call.
    pub called: bool,
    /// Tokens generated.
    pub generated: u64,
}

impl Effects {
    /// Whether loop protection stepped in.
    pub fn interfered(&self) -> bool {
        !self.denied.is_empty() || self.finalized || self.continued
    }
}

/// To be kept in the monitor.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The ladder's state.
    pub state: LoopState,
    /// What was done and seen.
    pub ledger: Option<Arc<Ledger>>,
    /// What changed in this turn.
    pub transitions: Vec<Transition>,
    /// See [`Pending::frees_budget`].
    pub frees_budget: bool,
    /// The view was reset in this turn.
    pub resets: bool,
    cap: u32,
}

impl Pending {
    /// The turn was answered, with these effects.
    pub fn settle(self, effects: &Effects) -> Settled {
        let Self {
            mut state,
            ledger,
            mut transitions,
            is_retry,
            cap,
            resets,
            frees_budget,
        } = self;
        if !is_retry {
            state.settle(effects, &mut transitions);
        }
        Settled {
            state,
            ledger,
            transitions,
            frees_budget,
            resets,
            cap,
        }
    }
}

impl LoopState {
    fn settle(&mut self, effects: &Effects, log: &mut Vec<Transition>) {
        for call in &effects.denied {
            self.deny(*call);
        }
        if effects.finalized {
            self.count_finalize();
            self.go(Phase::Finalize, Reason::NarrowIgnored, log);
        }
        if effects.continued {
            self.count_finalize();
        }
        if effects.called {
            self.malformed_tool_streak = 0;
            self.required_tool_miss_streak = 0;
        }
        if effects.bad {
            self.malformed_tool_streak = self.malformed_tool_streak.saturating_add(1);
        }
        if effects.missed {
            self.required_tool_miss_streak = self.required_tool_miss_streak.saturating_add(1);
        }
        force::dampen(self, effects);
        self.tokens_since_human = self.tokens_since_human.saturating_add(effects.generated);
        self.tokens_since_progress = self.tokens_since_progress.saturating_add(effects.generated);
    }
}

impl Settled {
    /// A line for the log, for each change of phase.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.transitions.iter().map(|change| {
            let cap = match change.reason {
                Reason::HardCap => {
                    format!(
                        " session hard cap reached ({}/{})",
                        self.state.finalized(),
                        self.cap
                    )
                }
                _ => String::new(),
            };
            format!(
                "TOOL STATE MACHINE: phase {} -> {} ({} -> {}) reason={} turn={} stagnation={} \
                 review_cycles={} exhaustion={} finalize_hard_stop_count={}{cap}",
                change.from.earlier(),
                change.to.earlier(),
                change.from.as_str(),
                change.to.as_str(),
                change.reason.as_str(),
                change.turn,
                self.state.stagnation_streak,
                self.state.review_cycles,
                self.state.exhaustion_streak,
                self.state.finalize_hard_stop_count,
            )
        })
    }
}
