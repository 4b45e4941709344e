//! What the model and the client are told. All texts of the ladder are here.

use std::collections::HashMap;

use super::plan::Withheld;
use super::read::name_hash;
use super::state::{LoopState, Reason};
use crate::turn::{ToolCall, Turn};

/// Asks for a summary.
pub const FINALIZE: &str = "Respond with plain text only. Do not emit any tool calls, XML \
tags, or JSON objects. The last steps brought nothing new, so stop here: say what is done, what \
remains to be done, and what you would try next.";

/// Where nothing else is left of a message.
pub(super) const CONTINUE: &str = "Continue working on the task.";

/// Reminds a model that stops in the middle.
pub(super) const NUDGE: &str = "[Note: if work remains, make the next tool call now; if it is done, \
give the final answer.]";

/// Stands for the part of the history that is not shown any more.
pub(super) const RESET: &str = "[SESSION RESET: tool-call quality degraded in earlier turns, so the \
part of the conversation between the first message and the ones below is left out. Continue from \
the recent context. Make each tool call as one object with valid JSON arguments.]";

/// The tools of the repetition, as far as they are on offer.
fn cycling(turn: &Turn, state: &LoopState) -> String {
    let names = turn.tools.iter().map(|tool| tool.name.as_str());
    let is_cycling = |name: &&str| {
        let hash = name_hash(name);
        hash != 0 && state.cycling.contains(&hash)
    };
    let names: Vec<String> = names
        .filter(is_cycling)
        .map(|name| format!("`{name}`"))
        .collect();
    if names.is_empty() {
        "the same tools".to_owned()
    } else {
        names.join(" and ")
    }
}

fn times(state: &LoopState) -> u16 {
    state.repeats.max(state.stagnation_streak + 1)
}

/// What was repeated, how often, and what to do instead.
pub(super) fn hint(turn: &Turn, state: &LoopState) -> String {
    let tools = cycling(turn, state);
    let rounds = state.review_cycles;
    if rounds > 1 {
        return format!(
            "[CRITICAL: You have cycled {tools} for {rounds} review rounds without progress. Say \
             what is done, take a DIFFERENT next action, or give the final answer.]"
        );
    }
    let what = match state.reason {
        Some(Reason::Reread) => {
            format!("{tools} has read the same thing again and again, and it has not changed")
        }
        Some(Reason::Denied) => format!("calls of {tools} were denied in several turns"),
        Some(Reason::CompletionPending) => "The task is not complete".to_owned(),
        _ => format!(
            "{tools} was called {} times with the same results",
            times(state)
        ),
    };
    format!(
        "[Note: {what}. This is not progress. Use a DIFFERENT tool or different arguments, or give \
         the final answer.]"
    )
}

/// The hint, and which tools are withheld.
pub(super) fn narrow(turn: &Turn, state: &LoopState, withheld: &[Withheld]) -> String {
    let hint = hint(turn, state);
    if withheld.is_empty() {
        return hint;
    }
    let names: Vec<String> = withheld
        .iter()
        .map(|tool| format!("`{}`", tool.name))
        .collect();
    format!(
        "{hint}\n[Withheld for now: {}. Calls of them are denied.]",
        names.join(", ")
    )
}

/// The answer to a call of a withheld tool.
pub(super) fn denied(name: &str, state: &LoopState) -> String {
    format!(
        "The call was denied: `{name}` is withheld for now, because {} steps in a row only repeated \
         what was known. It was not carried out. Use a DIFFERENT tool, or answer in plain text what \
         is done and what remains.",
        times(state)
    )
}

/// What the client reads where the model has nothing to say, or is not asked.
pub(super) fn summary(turn: &Turn, state: &LoopState) -> String {
    let why = match state.reason {
        Some(Reason::Budget) => "The session has spent its budget.".to_owned(),
        Some(Reason::ContaminationLoop) => "The model's tool calls kept going wrong.".to_owned(),
        _ => match repeated(turn) {
            Some((call, times)) if times > 1 => format!(
                "The agent was going round in circles: {call} was called {times} times in its last \
                 steps without bringing anything new."
            ),
            _ => "The agent's last steps brought nothing new.".to_owned(),
        },
    };
    format!(
        "I have stopped here. {why} {} turns and {} generated tokens went by since your last \
         message. To go on, send a message: say what to do differently, give the information that \
         is missing, or take a smaller step.",
        state.turns_since_human, state.tokens_since_human
    )
}

/// The most frequent call of the last turns, and how often it was made.
fn repeated(turn: &Turn) -> Option<(String, usize)> {
    const LOOKED_AT: usize = 24;
    let calls = turn
        .messages
        .iter()
        .rev()
        .flat_map(|message| message.tool_calls());
    let calls: Vec<&ToolCall> = calls.take(LOOKED_AT).collect();
    let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
    for call in &calls {
        *counts.entry((&call.name, &call.arguments)).or_default() += 1;
    }
    let most = calls.iter().max_by_key(|call| {
        counts
            .get(&(call.name.as_str(), call.arguments.as_str()))
            .copied()
            .unwrap_or(0)
    })?;
    let times = counts
        .get(&(most.name.as_str(), most.arguments.as_str()))
        .copied()?;
    Some((
        format!("`{}` with {}", most.name, clip(&most.arguments)),
        times,
    ))
}

fn clip(arguments: &str) -> String {
    const LONGEST: usize = 120;
    match arguments.char_indices().nth(LONGEST) {
        None => format!("`{arguments}`"),
        Some((end, _)) => format!("`{}…`", &arguments[..end]),
    }
}
