//! `force_tools`: making the model call tools, for models that stop in the middle of their work.

use super::settle::Effects;
use super::state::{LoopState, Phase, Reason};
use crate::config::{ForceTools, Loops};
use crate::turn::{Part, Role, ToolChoice, Turn};

/// Fewest messages of a conversation in which a call is forced.
const MIN_MESSAGES: usize = 6;

/// Forced turns before one bad answer is reason to let go, and for how many turns.
const DAMPENED_AFTER: u8 = 4;
const DAMPENED_TURNS: u8 = 2;

/// Forced turns after which a plain answer means that the model has nothing to call.
const STARVING: u8 = 5;

/// What is done about the choice of tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Force {
    /// The client's choice stands.
    #[default]
    Leave,
    /// The model is reminded.
    Nudge,
    /// A call is required.
    Require,
    /// No call, for this turn.
    Release,
}

/// Decide for `turn`, and count.
pub(super) fn decide(turn: &Turn, state: &mut LoopState, loops: &Loops) -> Force {
    let applies = loops.force_tools != ForceTools::Off
        && turn.tool_choice == ToolChoice::Auto
        && turn.is_tool_turn()
        && matches!(state.phase, Phase::Act | Phase::Hint | Phase::Narrow);
    if !applies {
        return Force::Leave;
    }
    if state.forced_auto_cooldown_turns > 0 {
        state.forced_auto_cooldown_turns -= 1;
        state.consecutive_forced_count = 0;
        return Force::Leave;
    }
    if state.reason == Some(Reason::CompletionPending) && state.phase == Phase::Hint {
        state.consecutive_forced_count = 0;
        return Force::Leave;
    }
    let forced = state.consecutive_forced_count;
    let ended_in_text = ended_in_text(turn);
    if forced >= STARVING && ended_in_text {
        state.consecutive_forced_count = 0;
        return Force::Release;
    }
    let unproductive = state.stagnation_streak > 0 || state.no_progress_streak > 0;
    let enough = u32::from(forced) >= loops.forced_threshold && unproductive;
    let working = turn.messages.len() >= MIN_MESSAGES && answers_a_call(turn);
    if enough || !(working || (forced > 0 && ended_in_text)) {
        state.consecutive_forced_count = 0;
        return Force::Leave;
    }
    state.consecutive_forced_count = forced.saturating_add(1);
    match loops.force_tools {
        ForceTools::Required => Force::Require,
        ForceTools::Nudge => Force::Nudge,
        ForceTools::Off => Force::Leave,
    }
}

/// After the answer: a bad one under force is reason to let go for a while.
pub(super) fn dampen(state: &mut LoopState, effects: &Effects) {
    let bad = effects.bad || state.required_tool_miss_streak >= 2;
    if bad
        && state.consecutive_forced_count >= DAMPENED_AFTER
        && state.forced_auto_cooldown_turns == 0
    {
        state.forced_auto_cooldown_turns = DAMPENED_TURNS;
        state.consecutive_forced_count = 0;
    }
}

/// Whether the last message brings a tool's result.
fn answers_a_call(turn: &Turn) -> bool {
    let last = turn.messages.last();
    last.is_some_and(|message| {
        let mut parts = message.parts().iter();
        parts.any(|part| matches!(part, Part::ToolResult(_)))
    })
}

/// Whether the model's last answer had no call.
fn ended_in_text(turn: &Turn) -> bool {
    let mut back = turn.messages.iter().rev();
    let answer = back.find(|message| message.role() == Role::Assistant);
    answer.is_some_and(|message| message.tool_calls().next().is_none())
}
