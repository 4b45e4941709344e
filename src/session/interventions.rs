//! What guards did lately, of all sessions together: too large to be kept with each of them.

use std::collections::VecDeque;
use std::time::SystemTime;

use serde::Serialize;

use super::key::SessionId;
use super::lineage::LineageId;
use crate::guard::intervention::Intervention;

/// Memory for all of it, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// What an entry takes besides its texts.
const ENTRY_BYTES: usize = size_of::<Done>();

/// Most interventions shown of one session.
const MAX_SHOWN: usize = 100;

/// One intervention in one session.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) session: SessionId,
    pub(super) lineage: LineageId,
    /// The request's identifier.
    pub(super) request: Box<str>,
    /// When its turn ended.
    pub(super) at: SystemTime,
    pub(super) what: Intervention,
}

/// A ring bounded by memory; the oldest go first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: VecDeque<Done>,
    bytes: usize,
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

impl Done {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.request.len() + self.what.excerpt_bytes()
    }
}

impl Recent {
    pub(super) fn push(&mut self, done: Done) {
        self.bytes += done.bytes();
        self.entries.push_back(done);
        while self.bytes > MAX_BYTES {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
        }
    }

    /// The latest of one session, the last one first. Reads the whole ring: people ask, not requests.
    pub(super) fn of(&self, session: SessionId) -> Vec<InterventionView> {
        let newest = self.entries.iter().rev();
        let own = newest.filter(|done| done.session == session);
        own.take(MAX_SHOWN).map(InterventionView::of).collect()
    }
}

impl InterventionView {
    /// The request it was done in.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    fn of(done: &Done) -> Self {
        Self {
            at: humantime::format_rfc3339_millis(done.at).to_string(),
            request_id: done.request.clone(),
            lineage: done.lineage.to_string(),
            what: done.what.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::intervention::{Ledger, Mode};

    fn done(session: usize, number: usize) -> Done {
        let mut ledger = Ledger::new(Mode::Act, true);
        ledger.record("x", Some(&"a".repeat(500)), None);
        Done {
            session: format!("{session:020x}").parse().unwrap(),
            lineage: LineageId {
                base: 1,
                sibling: 1,
            },
            request: format!("{number:032}").into(),
            at: SystemTime::UNIX_EPOCH,
            what: ledger.entries()[0].clone(),
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let mut recent = Recent::default();
        for number in 0..100_000 {
            recent.push(done(number % 2, number));
            assert!(recent.bytes <= MAX_BYTES);
        }
        let sum: usize = recent.entries.iter().map(Done::bytes).sum();
        assert_eq!(recent.bytes, sum);
        let shown = recent.of(done(1, 0).session);
        assert_eq!(shown.len(), MAX_SHOWN);
        assert!(shown[0].request_id.ends_with("99999"));
        assert!(shown[1].request_id.ends_with("99997"), "its own only");
    }
}
