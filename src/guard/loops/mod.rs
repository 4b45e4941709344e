//! Loop protection: loops end, healthy work never does.
//!
//! A transcript is read as a row of steps ([`read`]); each tool turn is productive, repeated or
//! barren in the light of those before it ([`ledger`]); that moves the session up or down a ladder
//! of rungs, act → hint → narrow → finalize → stop ([`ladder`], [`state`]). [`plan()`] does all of
//! it for one request and says what to do about it; nothing is remembered before the turn has been
//! answered ([`Pending::settle`]). Everything new brings the ladder down again, and a human's new
//! text at once.

mod apply;
mod class;
mod contamination;
mod force;
mod ladder;
mod ledger;
mod mask;
mod notes;
mod plan;
mod read;
mod settle;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use ledger::Ledger;
pub use notes::FINALIZE;
pub use plan::{Plan, Remembered, Setting, Spent, Withheld, plan};
pub use read::{Called, call_hash, last_calls};
pub use settle::{Effects, Pending, Settled};
pub use state::{Cut, LoopState, Phase, Reason, Transition};
pub use view::{LoopView, PhaseView};

use crate::turn::{Delta, Tool};

/// A call that does nothing, so that an agent goes on after a summary: the client's own reading tool
/// or shell, in its own spelling. None if it has neither.
pub fn continuation(tools: &[Tool], seed: &str, index: u32) -> Option<[Delta; 2]> {
    let named = |wanted: &str| {
        tools
            .iter()
            .find(|tool| tool.name.eq_ignore_ascii_case(wanted))
    };
    let (tool, arguments) = match (named("read"), named("bash")) {
        (Some(tool), _) => (tool, r#"{"file_path":"/dev/null"}"#),
        (None, Some(tool)) => (
            tool,
            r#"{"command":"true","description":"continuation ping"}"#,
        ),
        (None, None) => return None,
    };
    let open = Delta::ToolOpen {
        index,
        id: format!("{}{seed}", read::OWN_CALLS),
        name: tool.name.clone(),
    };
    let fragment = arguments.to_owned();
    Some([open, Delta::ToolArguments { index, fragment }])
}
