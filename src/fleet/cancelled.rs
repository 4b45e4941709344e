//! From a closed request to an idle slot: whether a backend stops when nobody listens any more.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::told::Voice;
use super::treatment::HealthEvent;

/// Longest time a backend is thought to take until it has put a closed request down. One that is in the middle of
/// a large batch of a prompt may take longer: that is not waited for.
const REST_MAX: Duration = Duration::from_millis(300);

/// What was closed, and how long it took until the slots were idle.
#[derive(Debug)]
pub(super) struct Cancelled {
    now: Mutex<Inner>,
    told: Voice,
}

#[derive(Debug, Default)]
struct Inner {
    /// The first request closed that is not yet known to have ended.
    since: Option<Instant>,
    /// When the last one closed should have been put down.
    rests_at: Option<Instant>,
}

impl Cancelled {
    /// Of a backend that is heard when it has come to rest.
    pub(super) fn new(told: Voice) -> Self {
        Self {
            now: Mutex::default(),
            told,
        }
    }

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
    /// `asked` is when the question was sent: what was closed later is not answered by it. Returns how long it has
    /// taken, where they are idle now.
    pub(super) fn looked(&self, asked: Instant, busy: usize, inflight: usize) -> Option<Duration> {
        let mut inner = self.now.lock();
        let since = inner.since.filter(|since| *since <= asked)?;
        if busy > inflight {
            return None;
        }
        inner.since = None;
        drop(inner);
        let after = since.elapsed();
        self.told.add(HealthEvent::Rested { after });
        Some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn measured_until_no_slot_works_for_nobody() {
        let second = Duration::from_secs(1);
        let cancelled = Cancelled::new(Voice::of(&"a".into()));
        let looked = |busy, inflight| cancelled.looked(Instant::now(), busy, inflight);
        assert_eq!(looked(0, 0), None, "nothing was closed");
        let asked = Instant::now();
        tokio::time::advance(second).await;
        cancelled.begin(None);
        assert_eq!(cancelled.looked(asked, 0, 0), None);
        assert!(cancelled.pending().is_some(), "asked before it was closed");
        tokio::time::advance(second).await;
        cancelled.begin(None);
        assert_eq!(looked(2, 1), None);
        assert!(cancelled.pending().is_some(), "one slot too many is busy");
        tokio::time::advance(second).await;
        assert_eq!(looked(1, 1), Some(2 * second), "counted from the first");
        assert!(looked(1, 1).is_none() && cancelled.pending().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_request_is_put_down_within_two_tokens() {
        let cancelled = Cancelled::new(Voice::of(&"a".into()));
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
