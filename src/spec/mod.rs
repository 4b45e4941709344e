//! Speculative decoding: what a turn wants of it, what came of it, and when it got worse.
//!
//! Everything here is pure: decisions over what others have seen. Since 2026 llama-server ignores
//! per-request `speculative.*` fields, so a profile belongs to a backend, control is mostly routing,
//! and what was asked for and what ran are two things that are told apart everywhere.

mod aggregate;
mod answer;
mod attribute;
mod book;
mod choice;
mod class;
mod latest;
mod ledger;
mod log;
mod observe;
mod recorded;
mod regress;
pub mod rollout;
mod runs;
pub mod sequential;
mod signature;
#[cfg(test)]
mod simulation_tests;
mod timeline;

pub use crate::config::RequestClass;
pub use aggregate::{Aggregate, Measured};
pub use answer::{AnswerClass, AnswerShape};
pub use attribute::{Blame, Cell, Dimension, When, attribute};
pub use book::{Book, Key, Page, Strata};
pub use choice::{Asked, Cause, Choice, Sources, resolve};
pub use latest::{Latest, of_block};
pub use ledger::{Kept, Ledger, Row};
pub use log::{LogSignature, log_signature};
pub use observe::{Drafts, Observation, Place, Position, StopKind, Stratum, UNKNOWN};
pub use recorded::Recorded;
pub use regress::{
    Change, Comparison, Limits, Metric, Sign, compare, findings, lost_caches, signs,
};
pub use runs::{Honours, NONE, Runs, Trial};
pub use signature::{Finding, Signature};
pub use timeline::{Event, Shown, Timeline, Turned};
