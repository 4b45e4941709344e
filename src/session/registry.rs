//! All sessions: bounded in number and in idle time.
//!
//! Each shard keeps its sessions in the order of their last use, so that making room costs a request
//! one removal, and the sweeper looks at expired sessions only.

use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::hot::HotCache;
use super::key::{SessionId, SessionKey, Source};
use super::lineage::{LineageId, Transcript};
use super::monitor::SessionMonitor;
use super::view::{Page, SessionSummary, SessionView};
use crate::config::Limits;
use crate::fleet::BackendId;
use crate::turn::Usage;

/// Most shards, and fewest sessions worth one of their own.
const MAX_SHARDS: usize = 16;
const MIN_SHARD: usize = 1024;

/// Sessions removed under one lock by the sweeper.
const SWEEP_BATCH: usize = 256;

/// The registry.
pub struct Sessions {
    shards: Box<[Mutex<Shard>]>,
    /// Sessions a shard may hold.
    room: usize,
    ttl: Duration,
    hot: Mutex<HotCache>,
}

type Shard = LruCache<SessionId, Entry>;

struct Entry {
    session: Arc<Session>,
    seen: Instant,
}

/// One session.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) source: Source,
    pub(super) principal: Box<str>,
    pub(super) monitor: Mutex<SessionMonitor>,
}

/// One turn's stay in its session.
pub struct Visit {
    session: Arc<Session>,
    transcript: Transcript,
    /// The conversation inside the session, as far as it was known when the turn began.
    pub lineage: LineageId,
    /// Where that conversation has its KV cache.
    pub preferred: Option<BackendId>,
    /// Whether the same turn was answered before.
    pub is_retry: bool,
    /// Requests of the session in the last 60 s, this one included.
    pub rate: u32,
}

impl Visit {
    /// The session's public name.
    pub fn session(&self) -> SessionId {
        self.session.id
    }
}

/// How a turn was answered.
#[derive(Clone, Debug)]
pub struct Served {
    /// By whom.
    pub backend: BackendId,
    /// What it took.
    pub usage: Usage,
}

impl Sessions {
    /// An empty registry within `limits`.
    pub fn new(limits: &Limits) -> Arc<Self> {
        let max = limits.max_sessions.max(1);
        let shards = (max / MIN_SHARD).clamp(1, MAX_SHARDS);
        Arc::new(Self {
            shards: (0..shards)
                .map(|_| Mutex::new(LruCache::unbounded()))
                .collect(),
            room: max / shards,
            ttl: limits.session_ttl,
            hot: Mutex::new(HotCache::new()),
        })
    }

    /// A turn of the session `key` begins.
    pub fn begin(&self, key: &SessionKey, transcript: Transcript, now: Instant) -> Visit {
        let id = key.id();
        let session = self.enter(id, now, || {
            Arc::new(Session {
                id,
                source: key.source,
                principal: key.principal.name().into(),
                monitor: Mutex::new(SessionMonitor::new(now)),
            })
        });
        let mut monitor = session.monitor.lock();
        let rate = monitor.hit(now);
        let snapshot = monitor.snapshot(&transcript, |lineage| self.hot.lock().get(id, lineage));
        drop(monitor);
        Visit {
            session,
            transcript,
            lineage: snapshot.lineage,
            preferred: snapshot.preferred,
            is_retry: snapshot.is_retry,
            rate,
        }
    }

    /// The turn was answered, and the client has all of it. The lineage it was counted to may be
    /// another than at its beginning, when turns ran side by side.
    pub fn commit(&self, visit: &Visit, served: Served, now: Instant) -> LineageId {
        let Visit {
            session,
            transcript,
            ..
        } = visit;
        let id = session.id;
        // A session pushed out meanwhile comes back.
        let session = self.enter(id, now, || Arc::clone(session));
        let mut monitor = session.monitor.lock();
        let known = |lineage| self.hot.lock().get(id, lineage);
        let Served { backend, usage } = served;
        let lineage = monitor.commit(transcript, known, backend, usage, now);
        drop(monitor);
        let messages = transcript.messages();
        self.hot.lock().put(id, lineage, messages, now);
        lineage
    }

    /// Sessions remembered.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forget sessions that were idle for too long. A session in use stays.
    pub fn sweep(&self, now: Instant) {
        self.hot.lock().sweep(now);
        for shard in &self.shards {
            while self.sweep_some(&mut shard.lock(), now) {}
        }
    }

    /// Whether there may be more.
    fn sweep_some(&self, shard: &mut Shard, now: Instant) -> bool {
        for _ in 0..SWEEP_BATCH {
            let Some((_, oldest)) = shard.peek_lru() else {
                return false;
            };
            if now.saturating_duration_since(oldest.seen) < self.ttl {
                return false;
            }
            let Some((id, mut oldest)) = shard.pop_lru() else {
                return false;
            };
            if Arc::strong_count(&oldest.session) > 1 {
                oldest.seen = now;
                shard.put(id, oldest);
            }
        }
        true
    }

    /// A page of sessions, the most recently used first.
    pub fn page(&self, page: Page, now: Instant) -> Vec<SessionSummary> {
        let wanted = page.offset.saturating_add(page.limit);
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let first = shard.iter().take(wanted);
            found.extend(first.map(|(_, entry)| (entry.seen, Arc::clone(&entry.session))));
        }
        found.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.id.cmp(&b.1.id)));
        let page = found.into_iter().skip(page.offset).take(page.limit);
        page.map(|(seen, session)| SessionSummary::of(&session, seen, now))
            .collect()
    }

    /// One session. Looking does not count as use.
    pub fn view(&self, id: SessionId, now: Instant) -> Option<SessionView> {
        let shard = self.shard(id).lock();
        let entry = shard.peek(&id)?;
        let (session, seen) = (Arc::clone(&entry.session), entry.seen);
        drop(shard);
        Some(SessionView::of(&session, seen, now))
    }

    /// The session `id`, made by `make` if there is none, as the most recently used one.
    fn enter(
        &self,
        id: SessionId,
        now: Instant,
        make: impl FnOnce() -> Arc<Session>,
    ) -> Arc<Session> {
        let mut shard = self.shard(id).lock();
        let entry = shard.get_or_insert_mut(id, || Entry {
            session: make(),
            seen: now,
        });
        entry.seen = now;
        let session = Arc::clone(&entry.session);
        let pushed_out = if shard.len() > self.room {
            shard.pop_lru()
        } else {
            None
        };
        drop(shard);
        // Freed outside the lock.
        drop(pushed_out);
        session
    }

    fn shard(&self, id: SessionId) -> &Mutex<Shard> {
        &self.shards[id.spread() % self.shards.len()]
    }

    #[cfg(test)]
    pub(super) fn hot_lineages(&self) -> usize {
        self.hot.lock().len()
    }
}
