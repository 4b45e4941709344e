//! Message hashes and deeds of conversations under way: too large to be kept for every session, and of use
//! only while a conversation goes on.

use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use super::key::SessionId;
use super::lineage::LineageId;
use crate::guard::loops::{Ledger, LoopState};

/// Idle time after which hashes are forgotten.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// Memory for all hashes together, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// About what an entry takes besides its hashes.
const ENTRY_BYTES: usize = 128;

/// Bounded by memory; the least recently used hashes go first.
pub(super) struct HotCache {
    entries: LruCache<(SessionId, LineageId), Entry>,
    bytes: usize,
}

struct Entry {
    messages: Arc<[u64]>,
    loops: Option<Loops>,
    seen: Instant,
}

/// Loop protection of a conversation under way, complete.
#[derive(Clone)]
pub(super) struct Loops {
    pub(super) state: LoopState,
    pub(super) ledger: Option<Arc<Ledger>>,
}

impl Entry {
    fn bytes(&self) -> usize {
        let ledger = self.loops.as_ref().and_then(|loops| loops.ledger.as_ref());
        ENTRY_BYTES
            + size_of_val(&*self.messages)
            + ledger.map_or(0, |ledger| size_of::<LoopState>() + ledger.bytes())
    }
}

impl HotCache {
    pub(super) fn new() -> Self {
        Self {
            entries: LruCache::unbounded(),
            bytes: 0,
        }
    }

    /// The hashes of a lineage's last transcript. Looking is no use: only a committed turn keeps
    /// them alive.
    pub(super) fn get(&self, session: SessionId, lineage: LineageId) -> Option<Arc<[u64]>> {
        let entry = self.entries.peek(&(session, lineage))?;
        Some(Arc::clone(&entry.messages))
    }

    /// Where a lineage stands on the ladder, and what it has done.
    pub(super) fn loops(&self, session: SessionId, lineage: LineageId) -> Option<Loops> {
        self.entries.peek(&(session, lineage))?.loops.clone()
    }

    pub(super) fn put(
        &mut self,
        session: SessionId,
        lineage: LineageId,
        messages: &[u64],
        loops: Option<Loops>,
        now: Instant,
    ) {
        let entry = Entry {
            messages: messages.into(),
            loops,
            seen: now,
        };
        self.bytes += entry.bytes();
        if let Some(before) = self.entries.put((session, lineage), entry) {
            self.bytes -= before.bytes();
        }
        while self.bytes > MAX_BYTES && self.drop_oldest() {}
    }

    /// Forget what was not used for [`IDLE`].
    pub(super) fn sweep(&mut self, now: Instant) {
        let idle = |entry: &Entry| now.saturating_duration_since(entry.seen) >= IDLE;
        while self
            .entries
            .peek_lru()
            .is_some_and(|(_, entry)| idle(entry))
        {
            self.drop_oldest();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.entries.pop_lru();
        if let Some((_, entry)) = &oldest {
            self.bytes -= entry.bytes();
        }
        oldest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(n: usize) -> SessionId {
        format!("{n:020x}").parse().unwrap()
    }

    const LINEAGE: LineageId = LineageId {
        base: 1,
        sibling: 1,
    };

    #[test]
    fn memory_is_bounded_and_the_oldest_go() {
        let mut cache = HotCache::new();
        let now = Instant::now();
        let hashes = vec![7; 4096];
        for n in 0..1000 {
            cache.put(session(n), LINEAGE, &hashes, None, now);
            assert!(cache.bytes <= MAX_BYTES);
        }
        assert!(cache.get(session(999), LINEAGE).is_some());
        assert!(cache.get(session(0), LINEAGE).is_none());
        let bytes: usize = cache.entries.iter().map(|(_, entry)| entry.bytes()).sum();
        assert_eq!(cache.bytes, bytes);
        cache.put(session(1), LINEAGE, &vec![7; MAX_BYTES], None, now);
        assert_eq!(
            (cache.len(), cache.bytes),
            (0, 0),
            "what never fits is not kept"
        );
    }

    #[test]
    fn idle_hashes_are_forgotten() {
        let mut cache = HotCache::new();
        let start = Instant::now();
        cache.put(session(1), LINEAGE, &[1], None, start);
        cache.put(session(2), LINEAGE, &[2], None, start + IDLE / 2);
        cache.sweep(start + IDLE);
        assert!(cache.get(session(1), LINEAGE).is_none());
        assert_eq!(*cache.get(session(2), LINEAGE).unwrap(), [2]);
        cache.put(session(2), LINEAGE, &[3], None, start + IDLE);
        cache.sweep(start + IDLE + IDLE / 2);
        assert_eq!(*cache.get(session(2), LINEAGE).unwrap(), [3]);
        assert_eq!(cache.len(), 1);
    }
}
