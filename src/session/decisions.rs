//! What policy decided lately.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::ring::Kept;
use crate::policy::Decision;
use crate::turn::floor;

/// Memory for all of it, in bytes.
pub(super) const MAX_BYTES: usize = 2 << 20;

/// Longest tool name or reason, in bytes.
const MAX_TEXT: usize = 200;

/// A decision in the view of its session. Fields are only ever added.
#[derive(Clone, Debug, Serialize)]
pub struct DecisionView {
    /// When its turn was decided on (RFC 3339, UTC).
    #[serde(serialize_with = "time")]
    at: SystemTime,
    /// The request: `x-request-id`.
    request_id: Box<str>,
    /// The rule.
    rule: Arc<str>,
    /// Where.
    stage: &'static str,
    /// What.
    decision: &'static str,
    /// Whether the rule acts.
    mode: &'static str,
    /// The tool, where it is about a call or a result.
    tool: Box<str>,
    /// Why.
    reason: Box<str>,
}

fn time<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*at))
}

impl DecisionView {
    pub(super) fn new(request: &str, decision: &Decision) -> Self {
        let short = |text: &str| text[..floor(text, MAX_TEXT)].into();
        Self {
            at: SystemTime::now(),
            request_id: request.into(),
            rule: Arc::clone(&decision.rule),
            stage: decision.stage,
            decision: decision.decision,
            mode: decision.mode,
            tool: short(&decision.tool),
            reason: short(&decision.reason),
        }
    }
}

impl Kept for DecisionView {
    fn texts(&self) -> usize {
        self.request_id.len() + self.tool.len() + self.reason.len()
    }
}
