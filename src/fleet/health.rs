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
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;
    use crate::fleet::BackendState;
    use crate::fleet::probe::{Reply, Unanswered};

    /// Answers every check, and remembers who was asked.
    #[derive(Default)]
    struct Asked(Mutex<BTreeSet<String>>);

    impl Asked {
        async fn within(&self, time: Duration) -> Vec<String> {
            self.0.lock().clear();
            sleep(time).await;
            std::mem::take(&mut *self.0.lock()).into_iter().collect()
        }
    }

    #[async_trait]
    impl Probe for Asked {
        async fn get(&self, backend: &Backend, _: &str) -> Result<Reply, Unanswered> {
            self.0.lock().insert(backend.id().to_string());
            let body = bytes::Bytes::from_static(b"{}");
            Ok(Reply { status: 200, body })
        }

        async fn post(
            &self,
            backend: &Backend,
            path_and_query: &str,
            _: bytes::Bytes,
        ) -> Result<Reply, Unanswered> {
            self.get(backend, path_and_query).await
        }
    }

    /// Its hung streams would never be closed.
    #[tokio::test(start_paused = true)]
    async fn one_that_leaves_is_watched_until_its_last_request_has_ended() {
        let of = |backends: &str| {
            let text =
                format!("fleet: {{pools: [{{name: p, models: [m], backends: [{backends}]}}]}}");
            config::parse(&text, std::iter::empty()).unwrap()
        };
        let a = "{name: a, url: 'http://127.0.0.1:1'}";
        let b = |weight: u32| format!("{{name: b, url: 'http://127.0.0.1:2', weight: {weight}}}");
        let fleet = Fleet::new(&of(&format!("{a}, {}", b(1)))).unwrap();
        let asked = Arc::new(Asked::default());
        let service = HealthService {
            probe: Arc::clone(&asked) as _,
            ..HealthService::new(fleet.clone())
        };
        let running = tokio::spawn(async move { service.run(|| {}).await });
        let long = Duration::from_secs(30);
        assert_eq!(asked.within(long).await, ["a", "b"]);
        let pool = fleet.pool("p").unwrap();
        let lease = pool.select(&["b".into()]).unwrap();
        for weight in [2, 3] {
            let prepared = fleet.prepare(&of(&b(weight))).await.unwrap();
            fleet.commit(prepared);
            assert_eq!(asked.within(long).await, ["a", "b"]);
        }
        drop(lease);
        sleep(long).await;
        assert_eq!(asked.within(long).await, ["b"]);
        running.abort();
    }

    /// A backend that is well as far as `/health` goes, and knows nothing else.
    async fn serve(listener: TcpListener) {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 2048];
            let n = socket.read(&mut head).await.unwrap();
            let status = match head[..n].starts_with(b"GET /health ") {
                true => "200 OK",
                false => "404 Not Found",
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn ready_when_every_backend_was_checked_once_even_if_one_is_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let up = listener.local_addr().unwrap().port();
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let down = unused.local_addr().unwrap().port();
        drop(unused);
        tokio::spawn(serve(listener));
        let text = format!(
            "fleet: {{pools: [{{name: p, models: [m], backends: [{{name: up, url: 'http://localhost:{up}'}}, \
             {{name: down, url: 'http://127.0.0.1:{down}'}}]}}]}}"
        );
        let config = config::parse(&text, std::iter::empty()).unwrap();
        let fleet = Fleet::new(&config).unwrap();
        let service = HealthService::new(fleet.clone());
        let (tell, told) = oneshot::channel();
        let running = tokio::spawn(async move {
            service
                .run(|| {
                    let _ = tell.send(());
                })
                .await;
        });
        timeout(Duration::from_secs(10), told)
            .await
            .unwrap()
            .unwrap();
        assert!(fleet.checked_once());
        assert_eq!(fleet.backend("up").unwrap().state(), BackendState::Ready);
        assert_eq!(fleet.backend("down").unwrap().state(), BackendState::Down);
        let lease = fleet.pool("p").unwrap().select(&[]).unwrap();
        assert_eq!(lease.id().as_str(), "up");
        running.abort();
    }

    /// Dies of its second question, and again of the first one after that.
    #[derive(Default)]
    struct Fragile(AtomicUsize);

    #[async_trait]
    impl Probe for Fragile {
        async fn get(&self, _: &Backend, path: &str) -> Result<Reply, Unanswered> {
            let asked = self.0.fetch_add(1, Ordering::Relaxed);
            assert!(!matches!(asked, 1 | 2), "as was to be shown");
            Ok(Reply {
                status: if path == "/health" { 200 } else { 404 },
                body: "{}".into(),
            })
        }

        async fn post(&self, _: &Backend, _: &str, _: Bytes) -> Result<Reply, Unanswered> {
            unreachable!("nothing is sent")
        }
    }

    /// Regression: it was logged, and nobody looked at the backend any more, nor was the gateway ever ready.
    #[tokio::test(start_paused = true)]
    async fn a_backend_whose_watcher_has_died_is_watched_again() {
        let text = "fleet: {pools: [{name: p, models: [m], backends: [{name: a, url: 'http://127.0.0.1:1'}]}]}";
        let config = config::parse(text, std::iter::empty()).unwrap();
        let fleet = Fleet::new(&config).unwrap();
        let service = HealthService {
            probe: Arc::new(Fragile::default()),
            ..HealthService::new(fleet.clone())
        };
        let (tell, told) = oneshot::channel();
        let running = tokio::spawn(async move {
            service.run(|| tell.send(()).unwrap()).await;
        });
        timeout(3 * AGAIN_AFTER, told).await.unwrap().unwrap();
        assert_eq!(fleet.backend("a").unwrap().state(), BackendState::Ready);
        running.abort();
    }
}
