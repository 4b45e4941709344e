//! Which sessions stay: those in use, as many as there is room for, as long as they are used.

use std::sync::Arc;

use dashmap::mapref::entry::Entry as MapEntry;
use tokio::time::Instant;

use super::key::SessionId;
use super::recency::{Fate, Recency};
use super::registry::{Entry, Sessions};
use super::visit::Session;

/// Sessions removed under one lock by the sweeper.
const SWEEP_BATCH: usize = 256;

impl Sessions {
    /// Forget sessions that were idle for too long. A session in use stays.
    pub fn sweep(&self, now: Instant) {
        self.hot.lock().sweep(now);
        while self.sweep_some(&mut self.recency.lock(), now) {}
    }

    /// Whether there may be more.
    fn sweep_some(&self, recency: &mut Recency, now: Instant) -> bool {
        for _ in 0..SWEEP_BATCH {
            let idle = recency
                .oldest()
                .map(|seen| now.saturating_duration_since(seen));
            if idle.is_none_or(|idle| idle < self.ttl) {
                return false;
            }
            recency.settle_oldest(|id, queued| {
                let idle = |_: &SessionId, entry: &Entry| {
                    entry.seen <= queued && Arc::strong_count(&entry.session) == 1
                };
                match self.sessions.remove_if(&id, idle) {
                    Some((_, entry)) => {
                        self.ended.note(&entry.session);
                        Fate::Removed
                    }
                    None => self.used(id, queued, now),
                }
            });
        }
        true
    }

    /// What the queue has to know of a session that stays. One under way although nothing was heard
    /// of it since `queued` counts as used `now`.
    fn used(&self, id: SessionId, queued: Instant, now: Instant) -> Fate {
        match self.sessions.get_mut(&id) {
            None => Fate::Removed,
            Some(mut entry) => {
                if entry.seen <= queued {
                    entry.seen = now;
                }
                Fate::Used(entry.seen)
            }
        }
    }

    /// The session `id`, made by `make` if there is none, as the most recently used one.
    pub(super) fn enter(
        &self,
        id: SessionId,
        now: Instant,
        make: impl FnOnce() -> Arc<Session>,
    ) -> Arc<Session> {
        let session = match self.sessions.entry(id) {
            MapEntry::Occupied(mut known) => {
                let known = known.get_mut();
                known.seen = known.seen.max(now);
                return Arc::clone(&known.session);
            }
            MapEntry::Vacant(place) => {
                let session = make();
                place.insert(Entry {
                    session: Arc::clone(&session),
                    seen: now,
                });
                session
            }
        };
        self.make_room(id, now);
        session
    }

    /// For the new session `id`, by forgetting those idle for longest. One under way comes back when
    /// its turn ends.
    fn make_room(&self, id: SessionId, now: Instant) {
        let mut pushed_out = Vec::new();
        let mut recency = self.recency.lock();
        recency.push(id, now);
        while recency.len() > self.max {
            recency.settle_oldest(|id, queued| {
                let idle = |_: &SessionId, entry: &mut Entry| entry.seen <= queued;
                match self.sessions.remove_if_mut(&id, idle) {
                    Some(removed) => {
                        pushed_out.push(removed);
                        Fate::Removed
                    }
                    None => self.used(id, queued, queued),
                }
            });
        }
        // Freed outside the lock.
        drop(recency);
        for (_, entry) in &pushed_out {
            self.ended.note(&entry.session);
        }
    }
}
