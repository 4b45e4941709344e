//! What guards did lately.

use std::time::SystemTime;

use serde::Serialize;

use super::lineage::LineageId;
use super::ring::Kept;
use crate::guard::intervention::Intervention;

/// Memory for all of it, in bytes.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// One intervention in one session.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) lineage: LineageId,
    /// The request's identifier.
    pub(super) request: Box<str>,
    /// When its turn ended.
    pub(super) at: SystemTime,
    pub(super) what: Intervention,
}

/// An intervention in the view of its session. Fields are only ever added.
#[derive(Clone, Debug, Serialize)]
pub struct InterventionView {
    /// When its turn ended (RFC 3339, UTC).
    at: String,
    /// The request: `x-request-id`, `request_id` of the access log.
    request_id: Box<str>,
    /// The conversation inside the session.
    lineage: String,
    /// What was done.
    #[serde(flatten)]
    what: Intervention,
}

impl Kept for Done {
    fn texts(&self) -> usize {
        self.request.len() + self.what.excerpt_bytes()
    }
}

impl InterventionView {
    /// The request it was done in.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    pub(super) fn of(done: &Done) -> Self {
        Self {
            at: humantime::format_rfc3339_millis(done.at).to_string(),
            request_id: done.request.clone(),
            lineage: done.lineage.to_string(),
            what: done.what.clone(),
        }
    }
}
