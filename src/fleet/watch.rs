//! Watching one backend: a check, what it says about itself, a pause, and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch::Receiver;
use tokio::time::{Instant, timeout};

use super::backend::Backend;
use super::probe::Probe;
use super::scrape::{PropsOutcome, SlotsClock, read_props, read_slots};
use super::state::{BackendState, Observation};
use super::template::Learner;
use super::treatment::treat;
use super::watchdog::Watchdog;
use crate::config::{self, Health};

/// What a check found.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Well { facts_are_fresh: bool },
    Loading,
    Failed(String),
}

/// What the tasks that watch a backend go by. A reload sends new ones.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) backend: Arc<Backend>,
    pub(super) health: Health,
    pub(super) watchdog: config::Watchdog,
    pub(super) dns_refresh: Duration,
}

/// Watches a backend until dropped, or until nobody gives orders any more.
pub(super) async fn watch(mut orders: Receiver<Orders>, probe: Arc<dyn Probe>) {
    let mut memory = Memory {
        slots: SlotsClock::new(Duration::ZERO),
        learner: Learner::default(),
        watchdog: Watchdog::default(),
    };
    loop {
        let now = orders.borrow_and_update().clone();
        memory.slots.set_every(now.health.slots_every);
        round(&now, &*probe, &mut memory).await;
        now.backend.set_checked();
        // Counted from the end of a round, so that a slow server is not asked more often.
        if !pause(&mut orders, now.health.interval).await {
            return;
        }
    }
}

/// Waits for `time`, or for new orders. `false`: there will be no more.
pub(super) async fn pause(orders: &mut Receiver<Orders>, time: Duration) -> bool {
    // The outer result says whether the time has passed.
    !matches!(timeout(time, orders.changed()).await, Ok(Err(_)))
}

/// What is kept from round to round.
struct Memory {
    slots: SlotsClock,
    learner: Learner,
    watchdog: Watchdog,
}

async fn round(orders: &Orders, probe: &dyn Probe, memory: &mut Memory) {
    let (backend, patience) = (&orders.backend, orders.health.timeout);
    match check(backend, probe, patience).await {
        Verdict::Well { facts_are_fresh } => {
            // Before it gets requests: their prompts must not change when it is known.
            if facts_are_fresh {
                memory.learner.learn(probe, backend, patience).await;
            }
            backend.observe(Observation::Well, "it answers its checks");
            // An ejection may have ended.
            backend.offer_place();
            let facts = backend.facts();
            let is_used = backend.inflight() > 0 || backend.cancelled().pending().is_some();
            if facts_are_fresh
                && memory.slots.due(Instant::now(), &facts, is_used)
                && let Some(slots) = read_slots(probe, backend, patience).await
            {
                treat(backend, &slots, &mut memory.watchdog, &orders.watchdog);
            }
        }
        Verdict::Loading => {
            memory.watchdog.forget();
            backend.observe(Observation::Loading, "loading its model");
        }
        Verdict::Failed(why) => {
            backend.observe(Observation::Failed, &why);
            if backend.state() == BackendState::Down {
                memory.watchdog.forget();
                backend.try_next_address();
            }
        }
    }
}

/// `/health` needs no key and says whether the model is loaded; `/props` shows whether the key fits.
async fn check(backend: &Backend, probe: &dyn Probe, patience: Duration) -> Verdict {
    match timeout(patience, probe.get(backend, "/health")).await {
        Err(_) => return Verdict::Failed(format!("no answer to /health within {patience:?}")),
        Ok(Err(why)) => return Verdict::Failed(why),
        Ok(Ok(reply)) => match reply.status {
            200 => {}
            503 => return Verdict::Loading,
            status => return Verdict::Failed(format!("/health answers {status}")),
        },
    }
    match read_props(probe, backend, patience).await {
        PropsOutcome::Fresh => Verdict::Well {
            facts_are_fresh: true,
        },
        PropsOutcome::Unknown => Verdict::Well {
            facts_are_fresh: false,
        },
        PropsOutcome::Loading => Verdict::Loading,
        PropsOutcome::Refused(status) => Verdict::Failed(format!(
            "/props answers {status}: is its API key the one in `api_key_env`?"
        )),
    }
}

#[cfg(test)]
mod tests;
