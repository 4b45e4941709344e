//! Logs, reloading, and the server underneath.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::{EnvSecret, Secret, units};

/// Logs: the access log, one line a request, to standard output; everything else to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Form of the log.
    pub log: LogFormat,
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as
    /// `info,drover::fleet=debug`. The environment variable `DROVER_LOG` takes its place.
    pub level: String,
    /// Requests whose access records `/api/requests` remembers, about 1 KiB each; 0 remembers none.
    pub recent_requests: usize,
    /// Where traces of turns are sent (docs/traces.md); null sends none and costs nothing.
    pub otlp: Option<Otlp>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log: LogFormat::Json,
            level: "info".to_owned(),
            recent_requests: 1000,
            otlp: None,
        }
    }
}

/// A receiver of OpenTelemetry's protocol over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// Its address; `/v1/traces` is appended, as to `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: String,
    /// Share of the turns whose trace begins here that are recorded, from 0 to 1. A client that sends
    /// `traceparent` decides for itself.
    pub sample: f64,
    /// `service.name` of the spans.
    pub service: String,
    /// Environment variable holding the bearer token to send; null sends none.
    pub token_env: Option<EnvSecret>,
}

impl Otlp {
    /// Where traces go.
    ///
    /// # Errors
    /// When the endpoint is no URL, which the check of the configuration finds.
    pub fn traces_url(&self) -> Result<Url, url::ParseError> {
        Url::parse(&format!(
            "{}/v1/traces",
            self.endpoint.trim_end_matches('/')
        ))
    }

    /// The bearer token to send, if there is one.
    pub fn token(&self) -> Option<&Secret> {
        self.token_env.as_ref()?.value()
    }
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:4318".to_owned(),
            sample: 1.0,
            service: "drover".to_owned(),
            token_env: None,
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
    /// Where a successor (`drover serve --upgrade`) is given the listening sockets: a path in a directory of the
    /// user Drover runs as, mode 0700. Null: it is not.
    pub upgrade_sock: Option<PathBuf>,
}

impl Default for PingoraSettings {
    fn default() -> Self {
        Self {
            threads: 2,
            work_stealing: true,
            listener_tasks_per_fd: 1,
            upstream_keepalive_pool_size: 128,
            upgrade_sock: None,
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
