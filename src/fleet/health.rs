//! The service that watches the fleet.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::ServiceReadyNotifier;
use pingora_core::services::background::BackgroundService;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Fleet;
use super::probe::{HttpProbe, Probe};
use super::resolve::{Lookup, SystemResolver, refresh, resolve};
use super::watch::watch;
use crate::config::{Config, Health};

/// Checks every backend and refreshes its address, each in its own task, as long as the gateway runs.
///
/// It goes on while a shutdown waits for open answers, which may still have to fail over. Services
/// that depend on it start when the first check of every backend has finished.
pub struct HealthService {
    fleet: Arc<Fleet>,
    health: Health,
    dns_refresh: Duration,
    probe: Arc<dyn Probe>,
    resolver: Arc<dyn Lookup>,
}

impl HealthService {
    /// The service for `fleet`, to be given to Pingora's `background_service`.
    pub fn new(fleet: Arc<Fleet>, config: &Config) -> Self {
        Self {
            fleet,
            health: config.fleet.health.clone(),
            dns_refresh: config.fleet.dns_refresh,
            probe: Arc::new(HttpProbe::new()),
            resolver: Arc::new(SystemResolver),
        }
    }

    /// Watches until dropped; `first_done` is called when every backend was checked once.
    async fn run(&self, first_done: impl FnOnce()) {
        let mut tasks = JoinSet::new();
        let (pending, mut done) = mpsc::channel::<()>(1);
        for backend in self.fleet.backends() {
            let watched = {
                let (backend, pending) = (backend.clone(), pending.clone());
                let (probe, resolver) = (self.probe.clone(), self.resolver.clone());
                let health = self.health.clone();
                async move {
                    // An unresolved name is a failed check with its own words; `refresh` goes on.
                    let _ = resolve(&backend, &*resolver).await;
                    watch(backend, probe, health, pending).await;
                }
            };
            tasks.spawn(watched);
            tasks.spawn(refresh(backend, self.resolver.clone(), self.dns_refresh));
        }
        drop(pending);
        // Nothing is ever sent: the channel closes when the last first check is done.
        done.recv().await;
        first_done();
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task that watches a backend has died");
            }
        }
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;
    use crate::config;
    use crate::fleet::BackendState;

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
        let service = HealthService::new(fleet.clone(), &config);
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
