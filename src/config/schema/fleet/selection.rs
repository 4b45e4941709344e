//! How a request finds its backend, and when a second one.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units;

/// When a second backend is asked for an answer of which the first has told nothing (docs/fleet.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hedge {
    /// Most of a pool's turns for which that is done, from 0 to 1. 0: none.
    pub share: f64,
    /// Multiple of the predicted time to the first token after which it is done.
    pub factor: f64,
    /// But not before this time, and not while the backend has told of progress within it.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub after: Duration,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            share: 0.0,
            factor: 3.0,
            after: Duration::from_secs(3),
        }
    }
}

/// How a request finds its backend (docs/fleet.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Shortest stable beginning of a prompt (system text and tools) for which new conversations are
    /// brought together on one backend. Shorter ones go to the least busy backend.
    #[serde(with = "units::size")]
    #[schemars(schema_with = "units::size_schema")]
    pub min_prefix: ByteSize,
    /// How long after its last turn a conversation counts as one that its backend's slots hold. New
    /// conversations avoid backends whose slots are all held.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub warm_for: Duration,
    /// Time in which a backend that was away comes back to its full share of the load, from a tenth of
    /// it; 0s: at once.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub slow_start: Duration,
    /// Requests whose selection `/api/explain/{request_id}` remembers, at least 1. Each takes about
    /// 100 bytes for every backend of its pool.
    pub explain_last: NonZeroUsize,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            min_prefix: ByteSize::kib(2),
            warm_for: Duration::from_secs(600),
            slow_start: Duration::from_secs(10),
            explain_last: NonZeroUsize::MIN.saturating_add(999),
        }
    }
}
