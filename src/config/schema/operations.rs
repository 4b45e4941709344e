//! Logs, reloading, and the server underneath.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units;

/// Logs: the access log, one line a request, to standard output; everything else to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Form of the log.
    pub log: LogFormat,
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as
    /// `info,drover::fleet=debug`. The environment variable `DROVER_LOG` takes its place.
    pub level: String,
    /// Requests whose access records `/api/requests` remembers, about 1 KiB each; 0 remembers none.
    pub recent_requests: usize,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log: LogFormat::Json,
            level: "info".to_owned(),
            recent_requests: 1000,
        }
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Settings of the Pingora server underneath.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PingoraSettings {
    /// Threads that serve clients, at least 1.
    pub threads: usize,
    /// Whether an idle thread takes over work of a busy one.
    pub work_stealing: bool,
    /// Tasks that accept connections, for each address in `listen`, at least 1.
    pub listener_tasks_per_fd: usize,
    /// Idle connections kept open to backends, for each thread, at least 1.
    pub upstream_keepalive_pool_size: usize,
}

impl Default for PingoraSettings {
    fn default() -> Self {
        Self {
            threads: 2,
            work_stealing: true,
            listener_tasks_per_fd: 1,
            upstream_keepalive_pool_size: 128,
        }
    }
}

/// When the configuration is loaded anew, besides on SIGHUP and `POST /api/reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// Whether the file is watched, and loaded when it has changed and then stayed the same for one
    /// further look. An empty file is taken for one that is being written.
    pub watch: bool,
    /// Time between two looks at the file. Looking costs one `stat`, and works where the file is a
    /// link that is swapped or comes from the network.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub every: Duration,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            watch: true,
            every: Duration::from_secs(2),
        }
    }
}
