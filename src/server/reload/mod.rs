//! Loading the configuration anew while requests go on: on SIGHUP, when the admin API asks, and when
//! the file has changed; and changing the fleet when other backends are discovered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::ServiceReadyNotifier;
use pingora_core::services::background::BackgroundService;
use serde::Serialize;
use thiserror::Error;
use tokio::signal::unix::SignalKind;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::signals::{listen, next};
use crate::config::{self, Backend, Config, ConfigErrors, FileWatch, Plan, Stamp};
use crate::fleet::{
    Discovery, DiscoveryResult, Fleet, FleetError, Found, News, Prepared, Reloaded,
};
use crate::telemetry::Metrics;
use crate::telemetry::labels::{Configured, Reload as Outcome};

/// Where the configuration comes from.
#[derive(Debug)]
pub struct Source {
    path: Option<PathBuf>,
    env: Vec<(String, String)>,
    stamp: Option<Stamp>,
}

impl Source {
    /// The file at `path` (the defaults when `None`) under the variables of `env`. To be made before
    /// the file is first read, so that no change of it is missed.
    pub fn new(path: Option<PathBuf>, env: impl Iterator<Item = (String, String)>) -> Self {
        let stamp = path.as_deref().and_then(Stamp::of);
        Self {
            path,
            env: env.collect(),
            stamp,
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// As [`config::load`].
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        config::load(self.path.as_deref(), self.env.iter().cloned())
    }

    /// Reads it, and compares it with what is running.
    fn plan(&self, running: &Config) -> Result<Plan, ConfigErrors> {
        let plan = config::plan(running, self.load()?, self.env.iter().cloned());
        plan.map_err(|errors| ConfigErrors {
            file: self.path.clone(),
            ..errors
        })
    }
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Paths of the keys that are in effect with new values.
    pub changed: Vec<String>,
    /// Paths of the keys whose new values wait for a restart.
    pub needs_restart: Vec<String>,
    /// What became of the backends; `None` when nothing changed.
    pub backends: Option<Reloaded>,
}

/// Why a reload changed nothing.
#[derive(Clone, Debug, Error)]
pub enum ReloadError {
    /// The configuration has mistakes.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
    /// No fleet can be made of it.
    #[error("{0}")]
    Fleet(Arc<FleetError>),
}

type Answer = Result<Report, ReloadError>;

/// Asks for a reload.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<oneshot::Sender<Answer>>);

impl Handle {
    /// Completes when the reload has; `None` when the process is about to end.
    pub async fn reload(&self) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        answered.await.ok()
    }
}

/// The service that reloads, one reload after another.
pub struct Reloader {
    source: Source,
    config: Arc<ArcSwap<Config>>,
    fleet: Arc<Fleet>,
    metrics: &'static Metrics,
    asked: Mutex<Option<mpsc::Receiver<oneshot::Sender<Answer>>>>,
}

impl Reloader {
    /// A service that keeps `config` and `fleet` as `source` says, and the way to ask it.
    #[must_use]
    pub fn new(
        source: Source,
        config: Arc<ArcSwap<Config>>,
        fleet: Arc<Fleet>,
        metrics: &'static Metrics,
    ) -> (Self, Handle) {
        let (handle, asked) = mpsc::channel(1);
        let this = Self {
            source,
            config,
            fleet,
            metrics,
            asked: Mutex::new(Some(asked)),
        };
        (this, Handle(handle))
    }

    async fn run(&self, mut asked: mpsc::Receiver<oneshot::Sender<Answer>>, ready: impl FnOnce()) {
        let mut hangup = listen(SignalKind::hangup());
        let mut file = FileWatch::new(self.source.stamp);
        let mut discovery = Discovery::default();
        discovery.follow(&self.config.load());
        let mut ready = Some(ready);
        loop {
            if discovery.heard_all()
                && let Some(ready) = ready.take()
            {
                ready();
            }
            let answer = tokio::select! {
                Some(answer) = asked.recv() => Some(answer),
                () = next(&mut hangup) => None,
                () = self.file_changes(&mut file) => None,
                found = discovery.found() => {
                    self.discovered(&mut discovery, found).await;
                    continue;
                }
            };
            // Before it is read: what is written meanwhile is seen at the next look.
            file.loaded(self.source.path.as_deref().and_then(Stamp::of));
            let result = self.reload(&mut discovery).await;
            if let Some(answer) = answer {
                // Whoever asked may have gone.
                let _ = answer.send(result);
            }
        }
    }

    /// Completes when the file is another one than was loaded last.
    async fn file_changes(&self, file: &mut FileWatch) {
        let Some(path) = &self.source.path else {
            return std::future::pending().await;
        };
        loop {
            let settings = self.config.load().reload.clone();
            sleep(settings.every.max(Duration::from_millis(10))).await;
            if settings.watch && file.look(Stamp::of(path)) {
                return;
            }
        }
    }

    async fn reload(&self, discovery: &mut Discovery) -> Answer {
        let result = self.try_reload(discovery).await;
        let outcome = match &result {
            Ok(report) if report.changed.is_empty() => Outcome::Unchanged,
            Ok(_) => Outcome::Applied,
            Err(_) => Outcome::Invalid,
        };
        self.metrics.config_reload(outcome);
        log(&result);
        result
    }

    async fn try_reload(&self, discovery: &mut Discovery) -> Answer {
        let Plan {
            config,
            changed,
            needs_restart,
        } = self.source.plan(&self.config.load())?;
        let mut report = Report {
            changed,
            needs_restart,
            backends: None,
        };
        if report.changed.is_empty() {
            return Ok(report);
        }
        let prepared = self.prepare(discovery.merged(&config, None)).await?;
        discovery.follow(&config);
        self.config.store(Arc::new(config));
        report.backends = Some(self.fleet.commit(prepared));
        Ok(report)
    }

    /// Gets a fleet ready for `merged`: a configuration and what was discovered.
    async fn prepare(&self, mut merged: Config) -> Result<Prepared, ReloadError> {
        config::check(&mut merged, self.source.env.iter().cloned())?;
        let prepared = self.fleet.prepare(&merged).await;
        prepared.map_err(|error| ReloadError::Fleet(Arc::new(error)))
    }

    async fn discovered(&self, discovery: &mut Discovery, found: Found) {
        let pool = found.pool;
        let result = match found.news {
            News::None(result) => result,
            News::Changed(backends) => self.take_in(discovery, &pool, backends).await,
        };
        self.metrics.discovered(Configured::name(&pool), result);
    }

    /// Lets the pool serve with `backends`.
    async fn take_in(
        &self,
        discovery: &mut Discovery,
        pool: &str,
        backends: Vec<Backend>,
    ) -> DiscoveryResult {
        let merged = discovery.merged(&self.config.load(), Some((pool, &backends)));
        match self.prepare(merged).await {
            Ok(prepared) => {
                let changes = self.fleet.commit(prepared);
                tracing::info!(
                    pool,
                    added = changes.added.join(" "),
                    removed = changes.removed.join(" "),
                    "backends discovered"
                );
                discovery.applied(pool, backends);
                DiscoveryResult::Applied
            }
            Err(error) => {
                discovery.refused(pool, &error.to_string());
                DiscoveryResult::Invalid
            }
        }
    }
}

fn log(result: &Answer) {
    match result {
        Ok(report) => {
            let backends = report.backends.clone().unwrap_or_default();
            tracing::info!(
                changed = report.changed.join(" "),
                added = backends.added.join(" "),
                removed = backends.removed.join(" "),
                "configuration reloaded"
            );
            if !report.needs_restart.is_empty() {
                let keys = report.needs_restart.join(" ");
                tracing::warn!(keys, "these keys change at the next restart only");
            }
        }
        Err(error) => {
            for line in error.to_string().lines() {
                tracing::error!(error = line, "configuration not reloaded");
            }
        }
    }
}

#[async_trait]
impl BackgroundService for Reloader {
    /// Ready when every source of backends has told something.
    async fn start_with_ready_notifier(
        &self,
        mut shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let Some(asked) = self.asked.lock().take() else {
            return;
        };
        tokio::select! {
            () = self.run(asked, || ready.notify_ready()) => {}
            _ = shutdown.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests;
