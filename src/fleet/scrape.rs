//! Reading `/props`, `/slots` and `/metrics`. This is the only place that polls them: llama-server pays for being
//! polled (see [`SLOTS_EVERY_MIN`]), so whoever wants to know subscribes here instead of asking again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::backend::Backend;
use super::drafts::DraftCounts;
use super::facts::{Facts, Slots};
use super::probe::Probe;
use crate::config::SLOTS_EVERY_MIN;

/// What reading `/props` led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PropsOutcome {
    /// The facts are current.
    Fresh,
    /// The server says that it is loading.
    Loading,
    /// The server refuses the key: it would refuse requests too.
    Refused(u16),
    /// No facts to be had (an unloaded preset of a router, an old build, a hiccup).
    Unknown,
}

/// Reads `/props` into the facts of `backend`.
pub(super) async fn read_props(
    probe: &dyn Probe,
    backend: &Backend,
    patience: Duration,
) -> PropsOutcome {
    let path = question(backend, "/props");
    match timeout(patience, probe.get(backend, &path)).await {
        Ok(Ok(reply)) => match reply.status {
            200 => match backend.facts().with_props(&reply.body) {
                Ok(facts) => {
                    note_change(backend, &facts);
                    backend.set_facts(facts);
                    PropsOutcome::Fresh
                }
                Err(error) => {
                    tracing::debug!(backend = %backend.id(), %error, "unreadable /props");
                    PropsOutcome::Unknown
                }
            },
            503 => PropsOutcome::Loading,
            status @ (401 | 403) => PropsOutcome::Refused(status),
            _ => PropsOutcome::Unknown,
        },
        Ok(Err(_)) | Err(_) => PropsOutcome::Unknown,
    }
}

/// A new build or model under a known address is worth a line: it explains what follows.
fn note_change(backend: &Backend, now: &Facts) {
    let before = backend.facts();
    if before.build != now.build || before.model_alias != now.model_alias {
        tracing::info!(
            backend = %backend.id(),
            build = now.build,
            model = now.model_alias,
            slots = now.total_slots,
            n_ctx = now.n_ctx,
            "backend facts"
        );
    }
}

/// Reads `/slots` into the facts of `backend`; what cannot be read leaves them as they are.
pub(super) async fn read_slots(
    probe: &dyn Probe,
    backend: &Backend,
    patience: Duration,
) -> Option<Slots> {
    let path = question(backend, "/slots");
    let (asked, inflight, own) = (Instant::now(), backend.inflight(), backend.own());
    let reply = timeout(patience, probe.get(backend, &path)).await;
    let reply = reply.ok().and_then(Result::ok);
    let told = reply.filter(|reply| reply.status == 200);
    let Some(slots) = told.and_then(|reply| Slots::parse(&reply.body).ok()) else {
        backend.saw_nothing();
        return None;
    };
    let facts = backend.facts().with_slots(&slots);
    let busy = facts.busy_slots().unwrap_or(0) as usize;
    backend.cancelled().looked(asked, busy, inflight);
    backend.set_facts(facts);
    backend.saw_slots(&slots, own.most(backend.own()));
    Some(slots)
}

/// Reads the counts of drafts in `/metrics` into the facts of `backend`; what cannot be read leaves them as they are.
pub(super) async fn read_drafts(probe: &dyn Probe, backend: &Backend, patience: Duration) {
    let path = question(backend, "/metrics");
    let Ok(Ok(reply)) = timeout(patience, probe.get(backend, &path)).await else {
        return;
    };
    if reply.status == 200
        && let Some(counts) = DraftCounts::parse(&reply.body)
    {
        let mut facts = (*backend.facts()).clone();
        facts.drafts = Some(Arc::new(counts));
        backend.set_facts(facts);
    }
}

/// When `/metrics` may be read again: seldom, because reading them starts the averages that they show anew, and not of
/// a server that does nothing.
#[derive(Debug, Default)]
pub(super) struct DraftsClock {
    last: Option<Instant>,
    /// It has done something since.
    is_used: bool,
}

/// Time between two reads of `/metrics`.
const DRAFTS_EVERY: Duration = Duration::from_secs(15);

impl DraftsClock {
    /// The backend is at work, or was just now.
    pub(super) fn used(&mut self) {
        self.is_used = true;
    }

    /// Whether to read now; counts as read if so.
    pub(super) fn due(&mut self, now: Instant, facts: &Facts) -> bool {
        let allowed = facts.speculative == Some(true)
            && facts.has_metrics_endpoint != Some(false)
            && !facts.is_sleeping;
        let waited = self.last.is_none_or(|last| now - last >= DRAFTS_EVERY);
        let due = allowed && self.is_used && waited;
        if due {
            self.last = Some(now);
            self.is_used = false;
        }
        due
    }
}

/// A router needs to be told which preset is meant, and must not load it just to answer; a plain
/// llama-server ignores the query.
pub(super) fn question(backend: &Backend, path: &str) -> String {
    match backend.upstream_model() {
        None => path.to_owned(),
        Some(model) => {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("model", model)
                .append_pair("autoload", "false")
                .finish();
            format!("{path}?{query}")
        }
    }
}

/// When `/slots` may be read again.
#[derive(Debug)]
pub(super) struct SlotsClock {
    every: Duration,
    last: Option<Instant>,
}

impl SlotsClock {
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every: every.max(SLOTS_EVERY_MIN),
            last: None,
        }
    }

    /// From now on at this pace.
    pub(super) fn set_every(&mut self, every: Duration) {
        self.every = every.max(SLOTS_EVERY_MIN);
    }

    /// Whether to read now; counts as read if so.
    ///
    /// `is_used`: it has requests from us, or had one that may not have ended. A sleeping server would be woken by it, and one whose slots were all idle and which has got
    /// nothing from us since is left alone, so that it can fall asleep.
    pub(super) fn due(&mut self, now: Instant, facts: &Facts, is_used: bool) -> bool {
        let allowed = facts.has_slots_endpoint != Some(false) && !facts.is_sleeping;
        let quiet = !is_used && facts.busy_slots() == Some(0);
        let waited = self.last.is_none_or(|last| now - last >= self.every);
        let due = allowed && !quiet && waited;
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(idle: Option<u32>) -> Facts {
        Facts {
            total_slots: Some(2),
            idle_slots: idle,
            ..Facts::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn never_faster_than_the_floor_whatever_is_asked() {
        let mut clock = SlotsClock::new(Duration::ZERO);
        let start = Instant::now();
        let read: Vec<u64> = (0..6000)
            .step_by(100)
            .filter(|ms| clock.due(start + Duration::from_millis(*ms), &facts(Some(1)), true))
            .collect();
        assert_eq!(read, [0, 1500, 3000, 4500]);
    }

    #[tokio::test(start_paused = true)]
    async fn drafts_are_read_seldom_and_of_servers_at_work() {
        let mut clock = DraftsClock::default();
        let facts = Facts {
            speculative: Some(true),
            ..facts(Some(1))
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!clock.due(at(0), &facts), "it has done nothing");
        clock.used();
        assert!(clock.due(at(1), &facts));
        clock.used();
        assert!(!clock.due(at(15), &facts));
        assert!(
            clock.due(at(16), &facts),
            "what it did before it fell silent"
        );
        assert!(!clock.due(at(99), &facts));
        clock.used();
        let plain = Facts {
            speculative: Some(false),
            ..facts
        };
        assert!(!clock.due(at(99), &plain));
    }

    #[tokio::test(start_paused = true)]
    async fn leaves_sleeping_quiet_and_closed_servers_alone() {
        let now = Instant::now();
        let due = |facts: &Facts, is_used| {
            SlotsClock::new(Duration::from_secs(2)).due(now, facts, is_used)
        };
        assert!(due(&facts(None), false), "never read");
        assert!(due(&facts(Some(1)), false), "was busy when last read");
        assert!(
            !due(&facts(Some(2)), false),
            "was idle and got nothing since"
        );
        assert!(due(&facts(Some(2)), true), "got something since");
        let sleeping = Facts {
            is_sleeping: true,
            ..facts(None)
        };
        assert!(!due(&sleeping, true));
        let closed = Facts {
            has_slots_endpoint: Some(false),
            ..facts(None)
        };
        assert!(!due(&closed, true));
    }
}
