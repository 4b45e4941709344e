//! Sessions: which requests belong to one agent conversation, and what is remembered about it.
//!
//! [`key`] tells whose session a request is, [`lineage`] which of the conversations inside it; both
//! are pure. [`Sessions`] is the bounded registry of what is remembered ([`monitor`]): a request
//! [begins](Sessions::begin) a visit and, once its answer has been delivered,
//! [commits](Sessions::commit) it. A turn that fails leaves no trace but its place in the rate.

mod calls;
mod counters;
mod decisions;
mod ended;
mod hot;
mod interventions;
pub mod key;
pub mod lineage;
mod monitor;
mod rate;
mod recency;
mod registry;
mod ring;
mod sweeper;
mod upkeep;
mod view;
mod visit;

pub use calls::CallView;
pub use decisions::DecisionView;
pub use interventions::InterventionView;
pub use key::{Claims, Principal, SessionId, SessionKey, Source};
pub use lineage::{LineageId, Transcript};
pub use monitor::Cache;
pub use registry::Sessions;
pub use sweeper::Sweeper;
pub use view::{LineageView, Page, SessionSummary, SessionView};
pub use visit::{Served, Visit};

#[cfg(test)]
mod tests;
