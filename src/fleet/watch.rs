//! Watching one backend: a check, what it says about itself, a pause, and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, timeout};

use super::backend::{Backend, WhyClosed};
use super::facts::Facts;
use super::probe::{Probe, Unanswered};
use super::router::{self, Preset, Retry, Told};
use super::scrape::{DraftsClock, PropsOutcome, SlotsClock, read_drafts, read_props, read_slots};
use super::silence::Silence;
use super::spec_probe;
use super::state::{BackendState, Observation};
use super::tasks::Tasks;
use super::template::Learner;
use super::treatment::treat;
use super::watchdog::Watchdog;
use crate::config::{self, Health};

/// What a check found.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Well {
        facts_are_fresh: bool,
    },
    Loading,
    /// It answers otherwise than it should.
    Failed(String),
    Unanswered(Unanswered),
    /// It answers, and takes no requests: there is nothing to be doubted.
    Away(String),
}

/// What the tasks that watch a backend go by. A reload sends new ones.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) backend: Arc<Backend>,
    pub(super) health: Health,
    pub(super) watchdog: config::Watchdog,
    pub(super) dns_refresh: Duration,
    /// Whether speculation is tried out.
    pub(super) spec_probe: bool,
}

/// Shortest time between a check and the next one where requests fail.
const SOON: Duration = Duration::from_millis(250);

/// Watches a backend until dropped, or until nobody gives orders any more.
pub(super) async fn watch(mut orders: Receiver<Orders>, probe: Arc<dyn Probe>) {
    let mut memory = Memory {
        slots: SlotsClock::new(Duration::ZERO),
        learner: Learner::default(),
        watchdog: Watchdog::default(),
        drafts: DraftsClock::default(),
        router: Router::default(),
        silence: Silence::default(),
        tasks: Tasks::default(),
    };
    loop {
        let now = orders.borrow_and_update().clone();
        memory.slots.set_every(now.health.slots_every);
        round(&now, &probe, &mut memory).await;
        now.backend.set_checked();
        // Counted from the end of a round, so that a slow server is not asked more often.
        let interval = now.health.interval;
        let goes_on = tokio::select! {
            goes_on = pause(&mut orders, interval) => goes_on,
            () = doubted(&now.backend, interval.min(SOON)) => true,
        };
        if !goes_on {
            return;
        }
    }
}

/// Completes after `soonest`, once a request has failed.
async fn doubted(backend: &Backend, soonest: Duration) {
    sleep(soonest).await;
    backend.doubted().await;
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
    drafts: DraftsClock,
    router: Router,
    silence: Silence,
    tasks: Tasks,
}

/// What is kept about the router a backend is behind.
#[derive(Default)]
struct Router {
    /// Whether it is one; `None`: not known.
    is_one: Option<bool>,
    retry: Retry,
}

async fn round(orders: &Orders, shared: &Arc<dyn Probe>, memory: &mut Memory) {
    let probe = &**shared;
    let (backend, patience) = (&orders.backend, orders.health.timeout);
    let began = Instant::now();
    let verdict = check(orders, probe, &mut memory.router).await;
    if !matches!(verdict, Verdict::Unanswered(_)) {
        memory.silence.ends();
    }
    match verdict {
        Verdict::Well { facts_are_fresh } => {
            // Before it gets requests: their prompts must not change when it is known.
            if facts_are_fresh {
                memory.learner.learn(probe, backend, patience).await;
            }
            let is_cold = !facts_are_fresh && backend.facts().preset.is_some_and(Preset::is_cold);
            if is_cold && backend.state() == BackendState::Wedged {
                // Whatever hung in it is gone, and only a request has its router load it again.
                memory.watchdog.forget();
                backend.observe(Observation::Unwedged, "its model is no longer in memory");
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
                if memory
                    .tasks
                    .look(slots.tasks(), backend.comeback().losses())
                {
                    tracing::info!(backend = %backend.id(), "its caches are lost: its slots begin anew");
                    backend.comeback().unloaded();
                }
                treat(backend, &slots, &mut memory.watchdog, &orders.watchdog);
                memory.drafts.used();
            }
            if facts_are_fresh && memory.drafts.due(Instant::now(), &backend.facts()) {
                read_drafts(probe, backend, patience).await;
            }
            if orders.spec_probe && spec_probe::is_due(backend) {
                spec_probe::begin(backend, shared);
            }
        }
        Verdict::Loading => {
            memory.watchdog.forget();
            backend.observe(Observation::Loading, "loading its model");
        }
        Verdict::Away(why) => {
            memory.watchdog.forget();
            backend.observe(Observation::Unreachable, &why);
        }
        Verdict::Failed(why) => failed(backend, memory, &why),
        Verdict::Unanswered(Unanswered { why, is_refused }) => {
            if is_refused {
                backend.comeback().gone();
            }
            failed(backend, memory, &why);
            let silent = memory
                .silence
                .unanswered(began, orders.health.unhealthy_after);
            // A check can fail at once; so soon no request is given up.
            let long_ago = Instant::now().checked_sub(patience);
            if let Some((silent, long_ago)) = silent.zip(long_ago)
                && backend.state() == BackendState::Down
            {
                backend.close_if_silent_since(silent.min(long_ago), WhyClosed::Down);
            }
        }
    }
}

fn failed(backend: &Backend, memory: &mut Memory, why: &str) {
    memory.router.is_one = None;
    backend.observe(Observation::Failed, why);
    if backend.state() == BackendState::Down {
        memory.watchdog.forget();
        backend.try_next_address();
    }
}

/// `/health` needs no key and says whether the model is loaded; `/props` shows whether the key fits.
async fn check(orders: &Orders, probe: &dyn Probe, router: &mut Router) -> Verdict {
    let (backend, patience) = (&*orders.backend, orders.health.timeout);
    match timeout(patience, probe.get(backend, "/health")).await {
        Err(_) => {
            return Verdict::Unanswered(Unanswered {
                why: format!("no answer to /health within {patience:?}"),
                is_refused: false,
            });
        }
        Ok(Err(unanswered)) => return Verdict::Unanswered(unanswered),
        Ok(Ok(reply)) => match reply.status {
            200 => {}
            503 => return Verdict::Loading,
            status => return Verdict::Failed(format!("/health answers {status}")),
        },
    }
    let outcome = read_props(probe, backend, patience).await;
    let is_loaded = matches!(outcome, PropsOutcome::Fresh);
    if is_loaded {
        router.retry.reset();
        router.look(backend, probe, patience).await;
    } else if !matches!(outcome, PropsOutcome::Refused(_))
        && let Some(told) = router::ask(probe, backend, patience).await
    {
        router.is_one = Some(true);
        return router.judge(backend, &told, orders.health.eject_for_max);
    }
    match outcome {
        PropsOutcome::Fresh | PropsOutcome::Unknown => Verdict::Well {
            facts_are_fresh: is_loaded,
        },
        PropsOutcome::Loading => Verdict::Loading,
        PropsOutcome::Refused(status) => Verdict::Failed(format!(
            "/props answers {status}: is its API key the one in `api_key_env`?"
        )),
    }
}

impl Router {
    /// The model has spoken for itself: whether there is a router before it is asked once.
    async fn look(&mut self, backend: &Backend, probe: &dyn Probe, patience: Duration) {
        if self.is_one.is_none() && backend.upstream_model().is_some() {
            self.is_one = router::is_router(probe, backend, patience).await;
        }
        let facts = backend.facts();
        if self.is_one == Some(true) && facts.preset.is_none_or(Preset::is_cold) {
            backend.set_facts(Facts {
                preset: Some(match facts.is_sleeping {
                    true => Preset::Sleeping,
                    false => Preset::Loaded,
                }),
                ..Facts::clone(&facts)
            });
        }
    }

    /// What follows from what the router says of a model that does not speak for itself.
    fn judge(&mut self, backend: &Backend, told: &Told, retry_every: Duration) -> Verdict {
        let before = backend.facts();
        let facts = before.with_told(told);
        if before.preset.is_some_and(|p| !p.is_cold()) && facts.preset.is_none_or(Preset::is_cold) {
            backend.comeback().unloaded();
        }
        if *before != facts {
            let preset = facts.preset.map(Preset::as_str);
            tracing::info!(backend = %backend.id(), preset, "its model at the router");
            backend.set_facts(facts);
        }
        if told.preset != Some(Preset::Failed) {
            self.retry.reset();
        }
        let well = Verdict::Well {
            facts_are_fresh: false,
        };
        match told.preset {
            None => Verdict::Away("its router knows no model of the name in `model`".to_owned()),
            Some(Preset::Loaded | Preset::Sleeping) => well,
            // The router itself has the requests wait until the model is there.
            Some(Preset::Unloaded | Preset::Loading) if told.autoload => well,
            Some(Preset::Loading) => Verdict::Loading,
            Some(Preset::Unloaded) => Verdict::Away(
                "its model is not loaded, and its router loads none by itself".to_owned(),
            ),
            Some(Preset::Failed) if told.autoload && self.retry.is_due(retry_every) => well,
            Some(Preset::Failed) => Verdict::Away(match told.exit_code {
                Some(code) => format!("its model failed to load (exit code {code})"),
                None => "its model failed to load".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
