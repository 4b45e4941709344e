//! What an operator sees: metrics, the access log, diagnostics.
//!
//! Nothing here decides anything; the other rooms report through these types. Prompt text,
//! generated text and secrets have no field to go to.

pub mod access_log;
mod client_text;
pub mod feed;
mod fleet_gauges;
pub mod heartbeat;
pub mod labels;
pub mod level;
mod lines;
pub mod log;
pub mod metrics;
pub mod post;
pub mod recent;
pub mod trace;

pub use fleet_gauges::{BackendSample, FleetSample, FoundSample, QueueSample};
pub use metrics::Metrics;
pub use recent::Recent;
