//! What the ladder remembers of a lineage: small, copied freely, kept while the session is.

/// A rung of the ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The client's own choice is respected.
    #[default]
    Act,
    /// The model is told what it repeats.
    Hint,
    /// The tools it repeats are withheld.
    Narrow,
    /// No calls: a summary is asked for.
    Finalize,
    /// Nothing is generated any more until a human says something.
    Stop,
}

impl Phase {
    /// Its name in metrics and in the session view.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Hint => "hint",
            Self::Narrow => "narrow",
            Self::Finalize => "finalize",
            Self::Stop => "stop",
        }
    }

    /// Its earlier name, in the log and in `tool_turn_phase`.
    pub const fn earlier(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Hint | Self::Narrow => "review",
            Self::Finalize | Self::Stop => "finalize",
        }
    }
}

/// Why the phase changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The same call with the same result, again and again.
    SameCall,
    /// A few calls in a circle.
    Cycle,
    /// The same thing read again though it has not changed.
    Reread,
    /// Repetitions of any kind in a row.
    Stagnation,
    /// The hint changed nothing.
    HintIgnored,
    /// The same call with the same result even more often.
    RepeatThreshold,
    /// Too many hints.
    ReviewCycleLimit,
    /// Repetitions in a row, many of them.
    StagnationLimit,
    /// New calls, but nothing new comes of them.
    UnproductiveExhaustion,
    /// The same call was denied in several turns.
    Denied,
    /// Calls of withheld tools only.
    NarrowIgnored,
    /// It went on after a summary was asked for.
    AfterFinalize,
    /// So many summaries were asked for.
    HardCap,
    /// Tool calls go wrong although the view was reset.
    ContaminationLoop,
    /// The session's budget is spent.
    Budget,
    /// Something new came.
    Progress,
    /// A human said something new.
    HumanText,
    /// The tools were withheld long enough.
    NarrowOver,
    /// The summary was given.
    FinalizeOver,
    /// With `force_tools`: the work is not complete.
    CompletionPending,
}

impl Reason {
    /// Its name in metrics, logs and the session view.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SameCall => "same_call",
            Self::Cycle => "cycle_detected",
            Self::Reread => "duplicate_read_target",
            Self::Stagnation => "stagnation",
            Self::HintIgnored => "hint_ignored",
            Self::RepeatThreshold => "repeat_threshold",
            Self::ReviewCycleLimit => "review_cycle_limit",
            Self::StagnationLimit => "stagnation_limit",
            Self::UnproductiveExhaustion => "unproductive_exhaustion",
            Self::Denied => "denied",
            Self::NarrowIgnored => "narrow_ignored",
            Self::AfterFinalize => "after_finalize",
            Self::HardCap => "hard_cap",
            Self::ContaminationLoop => "contamination_loop",
            Self::Budget => "budget",
            Self::Progress => "progress",
            Self::HumanText => "fresh_user_text",
            Self::NarrowOver => "review_complete",
            Self::FinalizeOver => "finalize_complete",
            Self::CompletionPending => "completion_pending",
        }
    }
}

/// A change of phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// From this.
    pub from: Phase,
    /// To this.
    pub to: Phase,
    /// Because of this.
    pub reason: Reason,
    /// At this tool turn of the lineage.
    pub turn: u32,
}

/// Changes of phase that are remembered.
const HISTORY: usize = 4;

/// Things of one kind that are counted by name: tools, calls.
pub(super) const COUNTED: usize = 4;

/// Counts by hash, the least counted forgotten first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally([(u32, u32); COUNTED]);

impl Tally {
    pub(super) fn get(&self, key: u32) -> u32 {
        let found = self.0.iter().find(|(known, _)| *known == key);
        found.map_or(0, |(_, count)| *count)
    }

    pub(super) fn set(&mut self, key: u32, value: u32) {
        let place = self.0.iter().position(|(known, _)| *known == key);
        let least = || (0..COUNTED).min_by_key(|at| self.0[*at].1).unwrap_or(0);
        let place = place.unwrap_or_else(least);
        self.0[place] = (key, value);
    }

    pub(super) fn add(&mut self, key: u32) -> u32 {
        let count = self.get(key).saturating_add(1);
        self.set(key, count);
        count
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.into_iter().filter(|(_, count)| *count > 0)
    }
}

/// The part of the client's messages that the model does not see any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Index of the first message that is kept behind the first of all.
    pub keep_from: u32,
}

/// See the module's documentation. Counters keep the names they had in the earlier system.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoopState {
    /// Where the ladder stands for the turn this state belongs to.
    pub phase: Phase,
    /// Why it stands there.
    pub(super) reason: Option<Reason>,
    pub(super) stagnation_streak: u16,
    pub(super) no_progress_streak: u8,
    pub(super) exhaustion_streak: u8,
    pub(super) review_cycles: u8,
    /// Turns since the hint, or left of narrowing.
    pub(super) phase_turns: u8,
    /// Productive turns in a row.
    pub(super) productive_run: u8,
    /// Identical turns in a row, and tools of the last repetition.
    pub(super) repeats: u16,
    pub(super) cycling: [u32; COUNTED],
    pub(super) cycle_counts: Tally,
    /// Banned tools, and the tool turn at which each ban ends.
    pub(super) bans: Tally,
    /// Denied calls, and in how many turns.
    pub(super) denied: Tally,
    pub(super) finalize_hard_stop_count: u16,
    /// The count when a human last said something.
    pub(super) hard_stop_base: u16,
    pub(super) finalize_fired: bool,
    /// A summary was asked for and no human has said anything since.
    pub(super) probation: bool,
    pub(super) transitions: u16,
    pub(super) tool_turns: u32,
    pub(super) turns_since_human: u32,
    pub(super) tokens_since_human: u64,
    pub(super) tokens_since_progress: u64,
    pub(super) consecutive_forced_count: u8,
    pub(super) forced_auto_cooldown_turns: u8,
    pub(super) completion_recovery_attempts: u8,
    pub(super) malformed_tool_streak: u8,
    pub(super) required_tool_miss_streak: u8,
    pub(super) contamination_resets: u8,
    /// Attempts of the model to call tools after the reset are its own; the view stays cut.
    pub(super) cut: Option<Cut>,
    pub(super) history: [Option<Transition>; HISTORY],
}

impl LoopState {
    /// Whether there is anything to remember that a look at the transcript would not tell.
    pub fn matters(&self) -> bool {
        self.phase != Phase::Act
            || self.transitions > 0
            || self.cut.is_some()
            || self.malformed_tool_streak > 0
            || self.required_tool_miss_streak > 0
            || self.consecutive_forced_count > 0
            || self.denied.iter().next().is_some()
    }

    /// Summaries asked for since a human last said something.
    pub(super) fn finalized(&self) -> u16 {
        self.finalize_hard_stop_count
            .saturating_sub(self.hard_stop_base)
    }

    /// The counters that never go back, where another turn of the same lineage has been committed
    /// in between.
    pub fn keep_up_with(&mut self, stored: &Self) {
        let up = |mine: &mut u16, theirs: u16| *mine = (*mine).max(theirs);
        up(
            &mut self.finalize_hard_stop_count,
            stored.finalize_hard_stop_count,
        );
        up(&mut self.hard_stop_base, stored.hard_stop_base);
        up(&mut self.transitions, stored.transitions);
        self.finalize_fired |= stored.finalize_fired;
        self.contamination_resets = self.contamination_resets.max(stored.contamination_resets);
    }

    pub(super) fn go(&mut self, to: Phase, reason: Reason, log: &mut Vec<Transition>) {
        let change = Transition {
            from: self.phase,
            to,
            reason,
            turn: self.tool_turns,
        };
        self.phase = to;
        self.reason = Some(reason);
        if change.from == to && to == Phase::Act {
            return;
        }
        self.transitions = self.transitions.saturating_add(1);
        self.history.rotate_right(1);
        self.history[0] = Some(change);
        log.push(change);
    }

    /// As if the phase had never changed.
    pub(super) fn forget_changes(&mut self) {
        self.transitions = 0;
        self.history = Default::default();
    }
}
