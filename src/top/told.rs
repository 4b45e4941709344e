//! What the admin address tells, as far as it is shown. Fields that are not there are empty: the gateway may be of
//! another version.

use serde::Deserialize;

/// Data of `fleet`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fleet {
    pub(super) version: String,
    pub(super) draining: bool,
    pub(super) sessions: u64,
    pub(super) backends: Vec<Backend>,
    pub(super) queues: Vec<Queue>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Backend {
    pub(super) id: String,
    pub(super) pool: String,
    pub(super) state: String,
    pub(super) trouble: Option<String>,
    pub(super) draining: bool,
    pub(super) leaving: bool,
    pub(super) ejected: bool,
    pub(super) inflight: u64,
    pub(super) other_slots: u64,
    pub(super) profile: Option<String>,
    pub(super) speculative: Option<bool>,
    pub(super) build: Option<String>,
    pub(super) model: Option<String>,
    pub(super) total_slots: Option<u64>,
    pub(super) idle_slots: Option<u64>,
    pub(super) kv_used: Option<f64>,
}

impl Backend {
    /// Slots with work: of this gateway, or of anybody as the server says.
    pub(super) fn busy(&self) -> u64 {
        let seen = self.total_slots.zip(self.idle_slots);
        let seen = seen.map_or(0, |(total, idle)| total.saturating_sub(idle));
        seen.max(self.inflight + self.other_slots)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) pool: String,
    pub(super) class: String,
    pub(super) waiting: u64,
}

/// Data of `live`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Live {
    pub(super) turns: Vec<Turn>,
}

/// A turn under way.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Turn {
    pub(super) request_id: String,
    /// Milliseconds since 1970.
    pub(super) since_ms: u64,
    pub(super) dialect: String,
    pub(super) model: String,
    pub(super) session: Option<String>,
    pub(super) backend: Option<String>,
    pub(super) attempts: u32,
}

/// A line of the access log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Request {
    /// RFC 3339.
    pub(super) time: String,
    pub(super) request_id: String,
    pub(super) outcome: String,
    pub(super) model: Option<String>,
    pub(super) backend: Option<String>,
    pub(super) attempts: u32,
    pub(super) tokens_in: Option<u64>,
    pub(super) tokens_cached: Option<u64>,
    pub(super) tokens_out: Option<u64>,
    pub(super) ttft_ms: Option<u64>,
    pub(super) total_ms: u64,
    pub(super) interventions: Vec<String>,
}

impl Request {
    /// Whether it ended as the client wanted.
    pub(super) fn is_well(&self) -> bool {
        matches!(self.outcome.as_str(), "ok" | "client_gone")
    }
}

/// What a guard or the policy did.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Happened {
    /// RFC 3339.
    pub(super) at: String,
    pub(super) request_id: String,
    /// Of an intervention.
    pub(super) what: Option<String>,
    /// Of an intervention or a decision: whether it was only noted.
    pub(super) mode: Option<String>,
    /// Of a decision.
    pub(super) decision: Option<String>,
    pub(super) rule: Option<String>,
    pub(super) tool: Option<String>,
}
