//! What an operator sees: metrics, the access log, diagnostics.
//!
//! Nothing here decides anything; the other rooms report through these types. Prompt text,
//! generated text and secrets have no field to go to.

pub mod access_log;
mod fleet_gauges;
pub mod labels;
pub mod log;
pub mod metrics;

pub use fleet_gauges::{BackendSample, FleetSample, QueueSample};
pub use metrics::Metrics;
