//! All sessions: bounded in number and in idle time.
//!
//! The map is sharded, so that requests of different sessions do not wait for each other;
//! [`recency`](super::recency) tells whom to forget.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::calls::{self, CallView};
use super::decisions::{self, DecisionView};
use super::ended::Ended;
use super::hot::{HotCache, Loops};
use super::interventions::{self, Done, InterventionView};
use super::key::{SessionId, SessionKey};
use super::lineage::{LineageId, Transcript};
use super::monitor::{Counted, SessionMonitor};
use super::recency::Recency;
use super::ring::Ring;
use super::view::{Page, SessionSummary, SessionView, Told};
use super::visit::{Served, Session, Visit};
use crate::config::Limits;
use crate::guard::intervention::Intervention;
use crate::guard::loops::{self, Settled};
use crate::policy::Decision;
use crate::policy::lease::Grant;

/// The registry.
pub struct Sessions {
    /// Locked after `recency` where both are, and for the time of one look-up.
    pub(super) sessions: DashMap<SessionId, Entry>,
    pub(super) recency: Mutex<Recency>,
    pub(super) max: usize,
    pub(super) ttl: Duration,
    pub(super) hot: Mutex<HotCache>,
    recent: Mutex<Ring<Done>>,
    decided: Mutex<Ring<DecisionView>>,
    pub(super) calls: Mutex<Ring<CallView>>,
    pub(super) ended: Ended,
}

/// A session in the map.
pub(super) struct Entry {
    pub(super) session: Arc<Session>,
    pub(super) seen: Instant,
}

impl Sessions {
    /// An empty registry within `limits`.
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            sessions: DashMap::new(),
            recency: Mutex::new(Recency::default()),
            max: limits.max_sessions.max(1),
            ttl: limits.session_ttl,
            hot: Mutex::new(HotCache::new()),
            recent: Mutex::new(Ring::new(interventions::MAX_BYTES)),
            decided: Mutex::new(Ring::new(decisions::MAX_BYTES)),
            calls: Mutex::new(Ring::new(calls::MAX_BYTES)),
            ended: Ended::default(),
        })
    }

    /// A turn of the session `key` begins.
    pub fn begin(&self, key: &SessionKey, transcript: Transcript, now: Instant) -> Visit {
        let session = self.of(key, now);
        let id = session.id;
        let mut monitor = session.monitor.lock();
        let rate = monitor.hit(now);
        let snapshot = monitor.snapshot(&transcript, |lineage| self.hot.lock().get(id, lineage));
        let spent = monitor.spent(now);
        drop(monitor);
        let hot = self.hot.lock().loops(id, snapshot.lineage);
        let (state, ledger) = match hot {
            Some(Loops { state, ledger }) => (Some(state), ledger),
            None => (snapshot.loops, None),
        };
        let loops = loops::Remembered {
            state,
            ledger,
            covered: snapshot.covered,
            is_retry: snapshot.is_retry,
            spent,
        };
        Visit {
            loops,
            session,
            transcript,
            lineage: snapshot.lineage,
            preferred: snapshot.preferred,
            cache: snapshot.cache,
            main: snapshot.main,
            is_retry: snapshot.is_retry,
            rate,
            context: snapshot.context,
        }
    }

    /// A request of the session `key` that is no turn: it counts as use, and to the rate, which is
    /// returned.
    pub fn touch(&self, key: &SessionKey, now: Instant) -> (SessionId, u32) {
        let session = self.of(key, now);
        let rate = session.monitor.lock().hit(now);
        (session.id, rate)
    }

    fn of(&self, key: &SessionKey, now: Instant) -> Arc<Session> {
        let id = key.id();
        self.enter(id, now, || {
            Arc::new(Session {
                id,
                source: key.source,
                principal: key.principal.name().into(),
                monitor: Mutex::new(SessionMonitor::new(now)),
                policy: Mutex::default(),
                last_step: AtomicU32::default(),
            })
        })
    }

    /// The turn was answered, and the client has all of it. The lineage it was counted to may be
    /// another than at its beginning, when turns ran side by side.
    ///
    /// Whether the turn was counted is part of the answer: retries of the last one are not.
    pub fn commit(&self, visit: &Visit, mut served: Served, now: Instant) -> (LineageId, bool) {
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
        let settled = served.loops.take();
        let counted = monitor.commit(transcript, known, served, now);
        let Counted { lineage, is_retry } = counted;
        let before = self.hot.lock().loops(id, lineage);
        let loops = match settled {
            Some(settled) if !is_retry => {
                Some(keep_loops(&mut monitor, lineage, settled, before, now))
            }
            _ => before,
        };
        drop(monitor);
        let messages = transcript.messages();
        self.hot.lock().put(id, lineage, messages, loops, now);
        (lineage, !is_retry)
    }

    /// What guards did in the turn of request `request`, whatever became of it.
    pub fn record(&self, visit: &Visit, request: &str, interventions: &[Intervention]) {
        if interventions.is_empty() {
            return;
        }
        let acted = interventions.iter().filter(|done| done.acted()).count();
        visit.session.monitor.lock().intervened(acted);
        let at = SystemTime::now();
        let mut recent = self.recent.lock();
        for what in interventions {
            let done = Done {
                lineage: visit.lineage,
                request: request.into(),
                at,
                what: what.clone(),
            };
            recent.push(visit.session.id, done);
        }
    }

    /// Leases of sessions that are over, once there are some.
    pub async fn leases_of_ended(&self) -> Vec<Grant> {
        self.ended.leases().await
    }

    /// Sessions remembered.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Policy has decided something in `visit`. Calls that no rule had anything to say about are not shown.
    pub fn decided(&self, visit: &Visit, request: &str, decisions: &[Decision]) {
        let mut telling = decisions
            .iter()
            .filter(|one| !one.is_plain_allow())
            .peekable();
        if telling.peek().is_none() {
            return;
        }
        let mut decided = self.decided.lock();
        for one in telling {
            decided.push(visit.session.id, DecisionView::new(request, one));
        }
    }

    /// A page of sessions, the most recently used first.
    pub fn page(&self, page: Page, now: Instant) -> Vec<SessionSummary> {
        let all = self.sessions.iter();
        let mut found: Vec<_> = all
            .map(|entry| (Reverse(entry.seen), *entry.key()))
            .collect();
        let wanted = page.offset.saturating_add(page.limit);
        if wanted < found.len() {
            found.select_nth_unstable(wanted);
            found.truncate(wanted);
        }
        found.sort_unstable();
        let page = found.into_iter().skip(page.offset);
        page.filter_map(|(_, id)| {
            let (session, seen) = self.find(id)?;
            Some(SessionSummary::of(&session, seen, now))
        })
        .collect()
    }

    /// One session. Looking does not count as use.
    pub fn view(&self, id: SessionId, now: Instant) -> Option<SessionView> {
        let (session, seen) = self.find(id)?;
        let told = Told {
            interventions: self
                .recent
                .lock()
                .of(id)
                .map(InterventionView::of)
                .collect(),
            decisions: self.decided.lock().of(id).cloned().collect(),
            calls: self.calls.lock().of(id).cloned().collect(),
        };
        let loops = |lineage| Some(self.hot.lock().loops(id, lineage)?.state);
        Some(SessionView::of(&session, seen, now, loops, told))
    }

    fn find(&self, id: SessionId) -> Option<(Arc<Session>, Instant)> {
        let entry = self.sessions.get(&id)?;
        Some((Arc::clone(&entry.session), entry.seen))
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.recency.lock().len()
    }

    #[cfg(test)]
    pub(super) fn hot_lineages(&self) -> usize {
        self.hot.lock().len()
    }
}

/// Remember where a lineage stands on the ladder. Another turn of it may have been committed since
/// this one began: what only ever grows does not shrink by that.
fn keep_loops(
    monitor: &mut SessionMonitor,
    lineage: LineageId,
    settled: Settled,
    before: Option<Loops>,
    now: Instant,
) -> Loops {
    let Settled {
        mut state,
        ledger,
        frees_budget,
        ..
    } = settled;
    let stored = before.as_ref().map(|loops| &loops.state);
    if let Some(stored) = stored.or_else(|| monitor.loops(lineage)) {
        state.keep_up_with(stored);
    }
    if frees_budget {
        monitor.free(now);
    }
    monitor.keep_loops(lineage, &state);
    Loops { state, ledger }
}
