//! The service that watches the fleet.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::ServiceReadyNotifier;
use pingora_core::services::background::BackgroundService;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::sleep;

use super::probe::{HttpProbe, Probe};
use super::resolve::{Lookup, SystemResolver, refresh, resolve};
use super::watch::{Orders, watch};
use super::{Backend, Fleet};
use crate::config::{self, Config, Health};

/// Time until a backend is watched again whose watcher has died: what kills it once may do so each time.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Whom to watch, and how.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) backends: Vec<Arc<Backend>>,
    /// Those that only finish what they have: as long as that takes.
    pub(super) leaving: Vec<Arc<Backend>>,
    health: Health,
    watchdog: config::Watchdog,
    dns_refresh: Duration,
    spec_probe: bool,
}

impl Watched {
    pub(super) fn new(
        backends: &[Arc<Backend>],
        leaving: &[Arc<Backend>],
        config: &Config,
    ) -> Self {
        Self {
            backends: backends.to_vec(),
            leaving: leaving.to_vec(),
            health: config.fleet.health.clone(),
            watchdog: config.fleet.watchdog.clone(),
            dns_refresh: config.fleet.dns_refresh,
            spec_probe: config.spec.probe,
        }
    }
}

/// Checks every backend and refreshes its address, each in its own tasks, as long as the gateway runs.
///
/// It goes on while a shutdown waits for open answers, which may still have to fail over. Services
/// that depend on it start when the first check of every backend has finished.
pub struct HealthService {
    fleet: Arc<Fleet>,
    probe: Arc<dyn Probe>,
    resolver: Arc<dyn Lookup>,
}

impl HealthService {
    /// The service for `fleet`, to be given to Pingora's `background_service`.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self {
            fleet,
            probe: Arc::new(HttpProbe::new()),
            resolver: Arc::new(SystemResolver),
        }
    }

    /// Watches until dropped; `first_done` is called when every backend was checked once.
    pub(super) async fn run(&self, first_done: impl FnOnce()) {
        let mut wanted = self.fleet.watched.subscribe();
        let mut tasks = JoinSet::new();
        let mut watchers = Vec::new();
        let mut now = wanted.borrow_and_update().clone();
        self.follow(&now, &mut watchers, &mut tasks);
        let mut first_done = Some(first_done);
        let backends = now.backends.clone();
        let mut first = pin!(async {
            for backend in &backends {
                backend.first_check().await;
            }
        });
        loop {
            tokio::select! {
                () = &mut first, if first_done.is_some() => {
                    if let Some(first_done) = first_done.take() {
                        first_done();
                    }
                }
                changed = wanted.changed(), if first_done.is_none() => match changed {
                    Ok(()) => {
                        now = wanted.borrow_and_update().clone();
                        self.follow(&now, &mut watchers, &mut tasks);
                    }
                    Err(_) => return,
                },
                // The last request of one that leaves may have ended.
                () = sleep(now.health.interval), if !now.leaving.is_empty() => {
                    self.follow(&now, &mut watchers, &mut tasks);
                }
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        self.watch_again(error.id(), &mut watchers, &mut tasks);
                    }
                }
            }
        }
    }

    /// A task that watches a backend has died: it is watched by new ones, which know nothing of what the others saw.
    fn watch_again(&self, died: Id, watchers: &mut [Watcher], tasks: &mut JoinSet<()>) {
        let is_its = |watcher: &&mut Watcher| watcher.tasks.iter().any(|task| task.id() == died);
        // One that is no longer wanted has no watcher.
        let Some(watcher) = watchers.iter_mut().find(is_its) else {
            return;
        };
        let orders = watcher.orders.borrow().clone();
        tracing::error!(
            backend = %orders.backend.id(),
            again_in_ms = AGAIN_AFTER.as_millis() as u64,
            "a task that watches a backend has died"
        );
        watcher.tasks.iter().for_each(AbortHandle::abort);
        *watcher = self.watch(orders, AGAIN_AFTER, tasks);
    }

    /// Starts and stops watching, so that it is done for those in `wanted` and nobody else; for those that leave
    /// while they have requests.
    fn follow(&self, wanted: &Watched, watchers: &mut Vec<Watcher>, tasks: &mut JoinSet<()>) {
        let before = std::mem::take(watchers);
        let mut before: Vec<Option<Watcher>> = before.into_iter().map(Some).collect();
        let leaving = wanted.leaving.iter().filter(|b| b.inflight() > 0);
        for backend in wanted.backends.iter().chain(leaving) {
            let orders = Orders {
                backend: Arc::clone(backend),
                health: wanted.health.clone(),
                watchdog: wanted.watchdog.clone(),
                dns_refresh: wanted.dns_refresh,
                spec_probe: wanted.spec_probe && !backend.leaving(),
            };
            let known = before.iter_mut().find(|watcher| {
                watcher
                    .as_ref()
                    .is_some_and(|w| w.orders.borrow().backend.shares_state(backend))
            });
            watchers.push(match known.and_then(Option::take) {
                Some(watcher) => {
                    watcher.update(orders);
                    watcher
                }
                None => self.watch(orders, Duration::ZERO, tasks),
            });
        }
        for gone in before.into_iter().flatten() {
            gone.tasks.iter().for_each(AbortHandle::abort);
        }
    }

    /// Begins to watch, after a pause.
    fn watch(&self, orders: Orders, pause: Duration, tasks: &mut JoinSet<()>) -> Watcher {
        let backend = Arc::clone(&orders.backend);
        let (orders, received) = watch::channel(orders);
        let (probe, resolver) = (Arc::clone(&self.probe), Arc::clone(&self.resolver));
        let addresses = {
            let (received, resolver) = (received.clone(), Arc::clone(&resolver));
            async move {
                sleep(pause).await;
                refresh(received, resolver).await;
            }
        };
        let checks = async move {
            sleep(pause).await;
            // An unresolved name is a failed check with its own words; `refresh` goes on.
            let _ = resolve(&backend, &*resolver).await;
            drop(backend);
            watch(received, probe).await;
        };
        Watcher {
            orders,
            tasks: [tasks.spawn(checks), tasks.spawn(addresses)],
        }
    }
}

/// The tasks that watch one backend.
struct Watcher {
    orders: watch::Sender<Orders>,
    tasks: [AbortHandle; 2],
}

impl Watcher {
    /// Nothing happens unless something is new: new orders are followed at once.
    fn update(&self, orders: Orders) {
        self.orders.send_if_modified(|now| {
            let same = Arc::ptr_eq(&now.backend, &orders.backend)
                && now.health == orders.health
                && now.watchdog == orders.watchdog
                && now.dns_refresh == orders.dns_refresh
                && now.spec_probe == orders.spec_probe;
            if !same {
                *now = orders;
            }
            !same
        });
    }
}

#[async_trait]
impl BackgroundService for HealthService {
    async fn start_with_ready_notifier(&self, _: ShutdownWatch, ready: ServiceReadyNotifier) {
        self.run(|| ready.notify_ready()).await;
    }
}

#[cfg(test)]
mod tests;
