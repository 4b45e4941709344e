//! Which session has been idle for longest, without work for those in use.
//!
//! Each session is queued once, under the moment of its last use as it was known when it was queued.
//! That moment is never later than the true one, so the head of the queue is the session idle for
//! longest if its moment still holds; if not, it is queued again under the true one. A request to a
//! known session therefore costs nothing here, and making room O(log n) amortised.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::time::Instant;

use super::key::SessionId;

/// The queue.
#[derive(Default)]
pub(super) struct Recency(BinaryHeap<Reverse<(Instant, SessionId)>>);

/// What becomes of the session at the head.
pub(super) enum Fate {
    /// It is gone.
    Removed,
    /// It was used since, at this moment.
    Used(Instant),
}

impl Recency {
    /// A session that is not queued yet.
    pub(super) fn push(&mut self, id: SessionId, seen: Instant) {
        self.0.push(Reverse((seen, id)));
    }

    /// Sessions queued.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Since when at least the head of the queue has been idle.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((seen, _))| *seen)
    }

    /// Ask `decide` about the session at the head, with the moment under which it is queued, and do
    /// accordingly.
    pub(super) fn settle_oldest(&mut self, decide: impl FnOnce(SessionId, Instant) -> Fate) {
        let Some(Reverse((queued, id))) = self.0.pop() else {
            return;
        };
        if let Fate::Used(seen) = decide(id, queued) {
            self.push(id, seen);
        }
    }
}
