//! From a closed request to an idle slot: whether a backend stops when nobody listens any more.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::untold::Untold;

/// Longest time a backend is thought to take until it has put a closed request down. One that is in the middle of
/// a large batch of a prompt may take longer: that is not waited for.
const REST_MAX: Duration = Duration::from_millis(300);

/// What was closed, and how long it took until the slots were idle.
#[derive(Debug, Default)]
pub(super) struct Cancelled {
    now: Mutex<Inner>,
    took: Untold<Duration>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The first request closed that is not yet known to have ended.
    since: Option<Instant>,
    /// When the last one closed should have been put down.
    rests_at: Option<Instant>,
}

impl Cancelled {
    /// A request was closed that told something every `step`, `None` if it had told nothing yet.
    ///
    /// llama-server sees that a connection is closed when it has something to write to it, and stops the slot
    /// before the next token: two steps at most, and a little for the way there.
    pub(super) fn begin(&self, step: Option<Duration>) {
        let rest = step.map_or(REST_MAX, |step| step * 2 + REST_MAX / 15);
        let rests_at = Instant::now() + rest.min(REST_MAX);
        let mut inner = self.now.lock();
        inner.since.get_or_insert_with(Instant::now);
        inner.rests_at = inner.rests_at.max(Some(rests_at));
    }

    /// When the slots of closed requests should be idle, if that is still to come. A request sent before finds its
    /// conversation's slot busy, and is served by one that does not have its cache.
    pub(super) fn rests_at(&self) -> Option<Instant> {
        let mut inner = self.now.lock();
        inner.rests_at = inner.rests_at.filter(|at| *at > Instant::now());
        inner.rests_at
    }

    /// When the first was closed of those that are not yet known to have ended.
    pub(super) fn pending(&self) -> Option<Instant> {
        self.now.lock().since
    }

    /// The slots were looked at: `busy` are at work, `inflight` requests of ours were before that.
    /// `asked` is when the question was sent: what was closed later is not answered by it.
    pub(super) fn looked(&self, asked: Instant, busy: usize, inflight: usize) {
        let mut inner = self.now.lock();
        let Some(since) = inner.since.filter(|since| *since <= asked) else {
            return;
        };
        if busy > inflight {
            return;
        }
        inner.since = None;
        self.took.add(since.elapsed());
    }

    /// What was measured since the last call.
    pub(super) fn take(&self) -> Vec<Duration> {
        self.took.take()
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
        cancelled.begin(None);
        cancelled.looked(asked, 0, 0);
        assert!(cancelled.pending().is_some(), "asked before it was closed");
        tokio::time::advance(second).await;
        cancelled.begin(None);
        cancelled.looked(Instant::now(), 2, 1);
        assert!(cancelled.pending().is_some(), "one slot too many is busy");
        tokio::time::advance(second).await;
        cancelled.looked(Instant::now(), 1, 1);
        assert_eq!(cancelled.take(), [2 * second], "counted from the first");
        assert!(cancelled.take().is_empty() && cancelled.pending().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_request_is_put_down_within_two_tokens() {
        let cancelled = Cancelled::default();
        assert_eq!(cancelled.rests_at(), None, "nothing was closed");
        let now = Instant::now();
        cancelled.begin(Some(Duration::from_millis(40)));
        assert_eq!(cancelled.rests_at(), Some(now + Duration::from_millis(100)));
        cancelled.begin(Some(Duration::from_millis(5)));
        assert_eq!(
            cancelled.rests_at(),
            Some(now + Duration::from_millis(100)),
            "the slowest counts"
        );
        for (slow, step) in [(0, None), (1, Some(Duration::from_secs(9)))] {
            cancelled.begin(step);
            assert_eq!(cancelled.rests_at(), Some(now + REST_MAX), "{slow}");
        }
        tokio::time::advance(REST_MAX).await;
        assert_eq!(cancelled.rests_at(), None);
    }
}
