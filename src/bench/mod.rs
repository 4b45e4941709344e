//! Measuring speculative profiles on real llama-servers: `drover bench`.
//!
//! [`measure`] puts servers and a gateway on a [`Stage`], sends every contestant the same prompts in turns, and
//! makes an [`Artifact`] of it: one JSON document with every turn, what they add up to, and where it all comes
//! from. [`compare`] tells two artifacts apart, [`report`] shows one to people, [`tune`] looks for the settings of a
//! profile, and [`Baseline`] is how others read an artifact.

mod artifact;
mod baseline;
mod client;
pub mod compare;
mod contestant;
mod embedded;
mod flags;
mod fleet;
mod lineage;
pub mod measure;
mod plot;
mod process;
mod prompt;
pub mod report;
mod scrape;
mod stage;
mod summary;
#[cfg(test)]
pub(crate) mod tests;
pub mod tune;

pub use artifact::{
    Artifact, Cell, ContestantResult, Counters, Hardware, Lineage, Model, Parent, Percentiles,
    Protocol, SCHEMA_ID, StopReason, Summary, Totals, TurnResult, Unusable, VERSION, Workload,
    schema,
};
pub use baseline::Baseline;
pub use contestant::Contestant;
pub use flags::Help;
pub use process::Children;
pub use stage::{Gateway, Servers, Source, Stage, StageError};
