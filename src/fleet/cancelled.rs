//! From a closed request to an idle slot: whether a backend stops when nobody listens any more.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Measurements kept for the next scrape; more than a scrape interval brings.
const KEPT: usize = 256;

/// What was closed, and how long it took until the slots were idle.
#[derive(Debug, Default)]
pub(super) struct Cancelled(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The first request closed that is not yet known to have ended.
    since: Option<Instant>,
    took: Vec<Duration>,
}

impl Cancelled {
    /// A request was closed.
    pub(super) fn begin(&self) {
        self.0.lock().since.get_or_insert_with(Instant::now);
    }

    /// When the first was closed of those that are not yet known to have ended.
    pub(super) fn pending(&self) -> Option<Instant> {
        self.0.lock().since
    }

    /// The slots were looked at: `busy` are at work, `inflight` requests of ours were before that.
    /// `asked` is when the question was sent: what was closed later is not answered by it.
    pub(super) fn looked(&self, asked: Instant, busy: usize, inflight: usize) {
        let mut inner = self.0.lock();
        let Some(since) = inner.since.filter(|since| *since <= asked) else {
            return;
        };
        if busy > inflight {
            return;
        }
        inner.since = None;
        if inner.took.len() < KEPT {
            inner.took.push(since.elapsed());
        }
    }

    /// What was measured since the last call.
    pub(super) fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut self.0.lock().took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn measured_until_no_slot_works_for_nobody() {
        let second = Duration::from_secs(1);
        let cancelled = Cancelled::default();
        cancelled.looked(Instant::now(), 0, 0);
        assert!(cancelled.take().is_empty(), "nothing was closed");
        let asked = Instant::now();
        tokio::time::advance(second).await;
        cancelled.begin();
        cancelled.looked(asked, 0, 0);
        assert!(cancelled.pending().is_some(), "asked before it was closed");
        tokio::time::advance(second).await;
        cancelled.begin();
        cancelled.looked(Instant::now(), 2, 1);
        assert!(cancelled.pending().is_some(), "one slot too many is busy");
        tokio::time::advance(second).await;
        cancelled.looked(Instant::now(), 1, 1);
        assert_eq!(cancelled.take(), [2 * second], "counted from the first");
        assert!(cancelled.take().is_empty() && cancelled.pending().is_none());
    }
}
