//! What happens to requests that no backend has a free place for.

use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units;

/// Who goes first while requests wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// Nobody does: after all interactive requests, until it has waited for `batch_after`.
    Batch,
}

impl Priority {
    /// Every class.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];

    /// Its name in configurations, headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

/// Requests that wait because every slot of a pool's backends is taken (docs/fleet.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Most requests that wait; further ones are refused with 503 (529 in the Anthropic dialect), or 429
    /// where their principal has the most waiting. 0: nobody waits.
    pub max_waiting: usize,
    /// Most bytes of the bodies of waiting requests, all together.
    #[serde(with = "units::size")]
    #[schemars(schema_with = "units::size_schema")]
    pub max_bytes: ByteSize,
    /// Longest wait; then the request is refused.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub timeout: Duration,
    /// Wait after which a batch request counts as an interactive one.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub batch_after: Duration,
    /// Longest wait for the backend that has the conversation in its cache while another one has a free
    /// place. It waits no longer than it saves reading: of its own prompt, and of the one it would push out of
    /// a cache; not at all where a place is not expected by then. 0s: never.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub affinity_wait: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_waiting: 256,
            max_bytes: ByteSize::mib(256),
            timeout: Duration::from_secs(120),
            batch_after: Duration::from_secs(30),
            affinity_wait: Duration::from_secs(10),
        }
    }
}
