//! Policy: what agents may do, decided on the wire, where it cannot be talked out of.
//!
//! Rules are CEL expressions over tool calls, sessions, requests and results ([`source`]). An
//! [`Engine`] is a policy compiled; a [`TurnPolicy`] is the part of it in force for one turn. Nothing
//! here runs where no policy is configured.

mod arguments;
mod bindings;
mod builtin;
mod call;
mod command_line;
mod compile;
mod engine;
mod evidence;
mod expr;
mod functions;
mod judge;
mod kept;
pub mod lease;
pub mod patch;
pub mod path;
mod rewrite;
mod roots;
pub mod secret;
mod seen;
mod session;
pub mod shell;
pub mod source;
mod sure;
pub mod tools;
mod trees;
mod unrecorded;
mod verdict;

pub use bindings::{Actor, Request};
pub use builtin::TEXT as BUILTIN;
pub use call::Call;
pub use engine::{Active, Engine, Mistake, NoProfile};
pub use evidence::Evidence;
pub use judge::{Blocker, Judged, ResultDecision, TurnPolicy, notice, tell_blockers};
pub use kept::Kept;
pub use roots::stated_root;
pub use session::{SessionPolicy, SessionState};
pub use source::Source;
pub use unrecorded::AUDIT_UNAVAILABLE;
pub use verdict::{Blocked, Decision, NeedsLease, Verdict};

#[cfg(test)]
mod tests;
