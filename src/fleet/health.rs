//! The service that watches the fleet.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::ServiceReadyNotifier;
use pingora_core::services::background::BackgroundService;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::probe::{HttpProbe, Probe};
use super::resolve::{Lookup, SystemResolver, refresh, resolve};
use super::watch::{Orders, watch};
use super::{Backend, Fleet};
use crate::config::{self, Config, Health};

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
        for backend in &now.backends {
            backend.first_check().await;
        }
        first_done();
        loop {
            tokio::select! {
                changed = wanted.changed() => match changed {
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
                        tracing::error!(%error, "a task that watches a backend has died");
                    }
                }
            }
        }
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
                None => self.watch(orders, tasks),
            });
        }
        for gone in before.into_iter().flatten() {
            gone.tasks.iter().for_each(AbortHandle::abort);
        }
    }

    fn watch(&self, orders: Orders, tasks: &mut JoinSet<()>) -> Watcher {
        let backend = Arc::clone(&orders.backend);
        let (orders, received) = watch::channel(orders);
        let (probe, resolver) = (Arc::clone(&self.probe), Arc::clone(&self.resolver));
        let addresses = refresh(received.clone(), Arc::clone(&resolver));
        let checks = async move {
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

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;
    use crate::fleet::BackendState;
    use crate::fleet::probe::Reply;

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
        async fn get(&self, backend: &Backend, _: &str) -> Result<Reply, String> {
            self.0.lock().insert(backend.id().to_string());
            let body = bytes::Bytes::from_static(b"{}");
            Ok(Reply { status: 200, body })
        }

        async fn post(
            &self,
            backend: &Backend,
            path_and_query: &str,
            _: bytes::Bytes,
        ) -> Result<Reply, String> {
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
}
