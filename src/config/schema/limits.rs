//! Bounds: sizes, times and what a turn may spend.

use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units;

/// Bounds on one client request, and on what is remembered between requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest request body accepted; longer ones are answered 413.
    #[serde(with = "units::size")]
    #[schemars(schema_with = "units::size_schema")]
    pub max_body_bytes: ByteSize,
    /// Longest request header accepted, names and values of all fields together; longer ones are
    /// answered 431.
    #[serde(with = "units::size")]
    #[schemars(schema_with = "units::size_schema")]
    pub max_header_bytes: ByteSize,
    /// Connections of clients open at once; further ones are closed as soon as they come.
    pub max_connections: usize,
    /// Sessions remembered; beyond it the least recently used ones are forgotten. One takes up to 2 KiB.
    pub max_sessions: usize,
    /// Idle time after which a session is forgotten.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub session_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: ByteSize::mib(32),
            max_header_bytes: ByteSize::kib(64),
            max_connections: 8192,
            max_sessions: 100_000,
            session_ttl: Duration::from_secs(7200),
        }
    }
}

/// How long each part of a request may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Connecting to a backend.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub connect: Duration,
    /// A client's connection on which nothing happens: before its first request, and between two.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub client_idle: Duration,
    /// Receiving the whole header of a client's request, beyond `client_idle`.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub request_header: Duration,
    /// Receiving the whole body of a client's request.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub request_body: Duration,
    /// From sending the request to a backend until its first event: queueing and prompt processing.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub first_event: Duration,
    /// Silence of a backend between two events once it has begun to answer.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub inter_token: Duration,
    /// A whole turn, all attempts together.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub total: Duration,
    /// A client taking nothing of what is sent to it; then it counts as gone.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub write: Duration,
    /// Silence after which a streaming client gets its first ping. It commits the answer to status
    /// 200, so it leaves time for errors to be told as such.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub ping_first: Duration,
    /// Silence after which each further ping is sent.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub ping_every: Duration,
    /// Longest wait for open answers at a graceful shutdown (SIGTERM); what is left then is cut.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            client_idle: Duration::from_secs(60),
            request_header: Duration::from_secs(30),
            request_body: Duration::from_secs(60),
            first_event: Duration::from_secs(600),
            inter_token: Duration::from_secs(120),
            total: Duration::from_secs(3600),
            write: Duration::from_secs(30),
            ping_first: Duration::from_secs(12),
            ping_every: Duration::from_secs(20),
            drain: Duration::from_secs(600),
        }
    }
}

/// What one turn may spend on further attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TurnLimits {
    /// Upstream requests one turn may make, the first included.
    pub max_attempts: u32,
    /// Tokens one turn may generate that never reach the client.
    pub max_hidden_tokens: u64,
    /// Time after which no further attempt is begun.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub max_wall: Duration,
}

impl Default for TurnLimits {
    fn default() -> Self {
        Self {
            max_attempts: 6,
            max_hidden_tokens: 16384,
            max_wall: Duration::from_secs(3600),
        }
    }
}
