//! Rollouts: a profile, a build or a backend gets a growing share of the sessions, and is judged by what comes
//! of them against a control that gets as many.

mod assign;
mod cross;
mod event;
mod fair;
mod judge;
mod machine;
mod orders;
mod phase;
mod seen;
mod side;
#[cfg(test)]
mod simulation_tests;
mod steps;
mod stratum;

pub use assign::{Arm, Assigned, Mode, Routing, Shares, Site};
pub use event::{Event, Judged, Verdict, What};
pub use fair::{Hardware, Ratios};
pub use judge::{Estimate, Harm, Judge, Trigger, recorded_share};
pub use machine::State;
pub use phase::{Capacity, Command, Fairness, Look, Phase, Refused};
pub use seen::Seen;
pub use side::Side;
