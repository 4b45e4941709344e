//! The ladder as the session view shows it.

use serde::Serialize;

use super::state::{LoopState, Transition};

impl LoopState {
    /// What the session view shows.
    pub fn view(&self) -> LoopView {
        let history = self.history.iter().flatten();
        LoopView {
            tool_turn_phase: self.phase.earlier(),
            rung: self.phase.as_str(),
            tool_turns: self.tool_turns,
            tool_state_stagnation_streak: self.stagnation_streak,
            no_progress_streak: self.no_progress_streak,
            tool_state_unproductive_exhaustion_streak: self.exhaustion_streak,
            tool_state_review_cycles: self.review_cycles,
            tool_state_transitions: self.transitions,
            finalize_hard_stop_count: self.finalize_hard_stop_count,
            finalize_since_human_text: self.finalized(),
            finalize_fired: self.finalize_fired,
            consecutive_forced_count: self.consecutive_forced_count,
            forced_auto_cooldown_turns: self.forced_auto_cooldown_turns,
            completion_recovery_attempts: self.completion_recovery_attempts,
            malformed_tool_streak: self.malformed_tool_streak,
            required_tool_miss_streak: self.required_tool_miss_streak,
            contamination_resets: self.contamination_resets,
            banned_tools: self
                .bans
                .iter()
                .filter(|(_, until)| *until > self.tool_turns)
                .count(),
            loop_repeat_count: self.repeats,
            turns_since_human_text: self.turns_since_human,
            tokens_since_human_text: self.tokens_since_human,
            tokens_since_progress: self.tokens_since_progress,
            phases: history.map(PhaseView::of).collect(),
        }
    }
}

/// Loop protection of one conversation, by the earlier names.
#[derive(Clone, Debug, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the counters in docs/loops.md"
)]
pub struct LoopView {
    pub tool_turn_phase: &'static str,
    pub rung: &'static str,
    pub tool_turns: u32,
    pub tool_state_stagnation_streak: u16,
    pub no_progress_streak: u8,
    pub tool_state_unproductive_exhaustion_streak: u8,
    pub tool_state_review_cycles: u8,
    pub tool_state_transitions: u16,
    pub finalize_hard_stop_count: u16,
    pub finalize_since_human_text: u16,
    pub finalize_fired: bool,
    pub consecutive_forced_count: u8,
    pub forced_auto_cooldown_turns: u8,
    pub completion_recovery_attempts: u8,
    pub malformed_tool_streak: u8,
    pub required_tool_miss_streak: u8,
    pub contamination_resets: u8,
    pub banned_tools: usize,
    pub loop_repeat_count: u16,
    pub turns_since_human_text: u32,
    pub tokens_since_human_text: u64,
    pub tokens_since_progress: u64,
    /// The last changes of phase, the latest first.
    pub phases: Vec<PhaseView>,
}

/// A change of phase.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseView {
    /// From this rung.
    pub from: &'static str,
    /// To this one.
    pub to: &'static str,
    /// Because of this.
    pub reason: &'static str,
    /// At this tool turn.
    pub turn: u32,
}

impl PhaseView {
    fn of(change: &Transition) -> Self {
        Self {
            from: change.from.as_str(),
            to: change.to.as_str(),
            reason: change.reason.as_str(),
            turn: change.turn,
        }
    }
}
