//! A history full of broken tool calls teaches the model to break them: after a streak of bad turns
//! the model sees only how the conversation began and its end.

use super::ladder::Knobs;
use super::state::{Cut, LoopState, Phase, Reason, Transition};
use crate::config::Loops;
use crate::turn::{Message, Part, Role, Turn};

/// Forced turns that make a shorter streak suffice.
const FORCED: u8 = 8;

/// Look at the streaks, and reset the view or, when that has been done often enough, ask for a
/// summary once.
pub(super) fn check(
    turn: &Turn,
    state: &mut LoopState,
    knobs: &Knobs<'_>,
    log: &mut Vec<Transition>,
) {
    let loops = knobs.loops;
    if !triggers(state, loops) || matches!(state.phase, Phase::Finalize | Phase::Stop) {
        return;
    }
    state.malformed_tool_streak = 0;
    state.required_tool_miss_streak = 0;
    state.consecutive_forced_count = 0;
    state.forced_auto_cooldown_turns = 0;
    if u32::from(state.contamination_resets) >= loops.contamination_max_resets {
        // The view stays as it is: the whole history would be read anew, broken calls and all.
        return state.finalize(Reason::ContaminationLoop, knobs, log);
    }
    if let Some(cut) = cut(&turn.messages, loops.contamination_keep_last as usize) {
        state.contamination_resets = state.contamination_resets.saturating_add(1);
        state.cut = Some(cut);
    }
}

fn triggers(state: &LoopState, loops: &Loops) -> bool {
    let threshold = loops.contamination_threshold;
    let streak = u32::from(state.malformed_tool_streak);
    threshold > 0
        && (streak >= threshold
            || (streak + 1 >= threshold && state.consecutive_forced_count >= FORCED)
            || u32::from(state.required_tool_miss_streak)
                >= loops.contamination_required_miss_threshold.max(1))
}

/// Keep the last `keep` messages, and as many more as it takes to begin with a message of the model
/// or of a human.
fn cut(messages: &[Message], keep: usize) -> Option<Cut> {
    let first = first(messages)?;
    let mut from = messages.len().checked_sub(keep.max(2))?;
    while from > first + 1 && carries_result(&messages[from]) {
        from -= 1;
    }
    (from > first + 1).then_some(Cut {
        keep_from: u32::try_from(from).ok()?,
    })
}

/// The first message that is not an instruction.
pub(super) fn first(messages: &[Message]) -> Option<usize> {
    messages
        .iter()
        .position(|message| message.role() != Role::System)
}

fn carries_result(message: &Message) -> bool {
    let mut parts = message.parts().iter();
    parts.any(|part| matches!(part, Part::ToolResult(_)))
}
