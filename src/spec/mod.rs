//! Speculative decoding: what a turn wants of it, what came of it, and when it got worse.
//!
//! Everything here is pure: decisions over what others have seen. Since 2026 llama-server ignores
//! per-request `speculative.*` fields, so a profile belongs to a backend, control is mostly routing,
//! and what was asked for and what ran are two things that are told apart everywhere.

mod attribute;
mod book;
mod choice;
mod class;
mod ledger;
mod log;
mod observe;
mod regress;
pub mod rollout;
mod runs;
pub mod sequential;
mod signature;
#[cfg(test)]
mod simulation_tests;

pub use crate::config::RequestClass;
pub use attribute::{Blame, Cell, Dimension, When, attribute};
pub use book::{Book, Key, Strata};
pub use choice::{Asked, Cause, Choice, Sources, resolve};
pub use ledger::{Ledger, Row};
pub use log::{LogSignature, log_signature};
pub use observe::{Aggregate, Drafts, Observation, Place, StopKind, Stratum};
pub use regress::{Change, Comparison, Limits, Metric, compare, findings};
pub use runs::{Honours, NONE, Runs};
pub use signature::{Finding, Signature};
