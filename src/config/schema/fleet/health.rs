//! How backends are watched.

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units;

/// How backends are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// Time between two checks of a backend.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub interval: Duration,
    /// Longest wait for the answer to a check.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub timeout: Duration,
    /// Failed checks in a row after which a backend is down, at least 1.
    pub unhealthy_after: NonZeroU32,
    /// Good checks in a row after which a backend that was down is used again, at least 1.
    pub healthy_after: NonZeroU32,
    /// Failed requests in a row after which a backend is ejected although its checks are good, at least 1.
    /// At most half of a pool is: where it would be more, all are used.
    pub eject_after: NonZeroU32,
    /// Length of a first ejection; each further one in a row takes twice as long. Up to half of it is taken
    /// off at random. After it a single request tries whether the backend works.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub eject_for: Duration,
    /// Longest ejection.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub eject_for_max: Duration,
    /// Time between two reads of a backend's `/slots`. At least 1500ms: llama-server does not notice
    /// that a client has gone while it is polled faster.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub slots_every: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            unhealthy_after: NonZeroU32::MIN.saturating_add(1),
            healthy_after: NonZeroU32::MIN,
            eject_after: NonZeroU32::MIN.saturating_add(2),
            eject_for: Duration::from_secs(2),
            eject_for_max: Duration::from_secs(60),
            slots_every: Duration::from_secs(2),
        }
    }
}

/// What is done about a backend whose slots work without getting anywhere (docs/fleet.md). It passes its checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Watchdog {
    /// Time without any progress after which a busy slot counts as stuck, and a request that no slot begins
    /// although one is idle. At least as long as the server takes for one batch of a prompt. Then those of our
    /// requests that were silent as long are closed, and go on elsewhere where that is possible.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub stuck_after: Duration,
    /// Time after which a closed request that is still worked on is told.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub orphan_after: Duration,
    /// Time for the closing to help; then the backend gets no new requests: it is `wedged`.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub close_for: Duration,
    /// Time for the requests it still serves; then the hook runs.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub drain_for: Duration,
    /// Command that brings a wedged backend back, such as `["/etc/drover/heal.sh"]`: program and arguments, no shell. The
    /// same one is run for every backend: it is told which by `DROVER_BACKEND`, `DROVER_ADDRESS` and `DROVER_FINDING` in its
    /// environment, which has `PATH` besides and nothing else. Its output is not kept. Empty: none.
    pub hook: Vec<String>,
    /// Longest time the hook may take.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub hook_timeout: Duration,
    /// Time between two runs of the hook for one backend.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub hook_every: Duration,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self {
            stuck_after: Duration::from_secs(120),
            orphan_after: Duration::from_secs(30),
            close_for: Duration::from_secs(10),
            drain_for: Duration::from_secs(60),
            hook: Vec::new(),
            hook_timeout: Duration::from_secs(60),
            hook_every: Duration::from_secs(600),
        }
    }
}
