//! Looks for regressions of speculative decoding, and tells of each once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::time::{MissedTickBehavior, interval};

use crate::fleet::{Backend, BackendState, Fleet};
use crate::spec::{Finding, Ledger, Limits, LogSignature, NONE, Place, Signature};
use crate::telemetry::Metrics;
use crate::telemetry::feed::{Feed, now};

/// Time between two looks. The tests stay within their error rate however often that is.
const EVERY: Duration = Duration::from_secs(5);

/// What makes two findings the same.
type Told = (Signature, Place, Option<LogSignature>);

/// See the module's documentation.
pub struct Findings {
    ledger: Arc<Ledger>,
    fleet: Arc<Fleet>,
    metrics: &'static Metrics,
    told: Mutex<HashSet<Told>>,
}

impl Findings {
    /// Looks at `ledger` and `fleet`.
    pub fn new(ledger: Arc<Ledger>, fleet: Arc<Fleet>, metrics: &'static Metrics) -> Self {
        Self {
            ledger,
            fleet,
            metrics,
            told: Mutex::default(),
        }
    }

    fn look(&self) {
        let found = all(&self.ledger, &self.fleet);
        let now: HashSet<Told> = found.iter().map(told).collect();
        // What is over may come again.
        let before = std::mem::replace(&mut *self.told.lock(), now);
        let new = found
            .iter()
            .filter(|finding| !before.contains(&told(finding)));
        new.for_each(|finding| self.tell(finding));
    }

    fn tell(&self, finding: &Finding) {
        let Finding {
            signature, place, ..
        } = finding;
        tracing::warn!(
            backend = %place.backend,
            profile = %place.profile,
            build = %place.build,
            evidence = %finding.evidence,
            remedy = finding.remedy,
            "FINDING: {}",
            signature.as_str()
        );
        self.metrics.spec_finding(*signature);
        let feed = Feed::global();
        feed.tell(
            "finding",
            || serde_json::json!({ "at": now(), "finding": finding }),
        );
    }
}

#[async_trait]
impl BackgroundService for Findings {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = ticks.tick() => self.look(),
            }
        }
    }
}

/// Everything that is wrong now.
pub fn all(ledger: &Ledger, fleet: &Fleet) -> Vec<Finding> {
    let mut found = ledger.findings(&Limits::default());
    found.extend(fleet.backends().iter().filter_map(|b| silently_off(b)));
    found.extend(fleet.backends().iter().filter_map(|b| wedged(b)));
    found
}

fn silently_off(backend: &Backend) -> Option<Finding> {
    let profile = backend.profile().filter(|profile| **profile != *NONE)?;
    let is_off = backend.facts().speculative == Some(false);
    let evidence = format!("`profile` says {profile}, and its slots do not speculate");
    is_off.then(|| {
        Finding::new(
            Signature::SpecSilentlyOff,
            &place(backend, &profile),
            evidence,
        )
    })
}

fn wedged(backend: &Backend) -> Option<Finding> {
    let profile = backend.runs();
    let evidence = || backend.trouble().unwrap_or_default();
    (backend.state() == BackendState::Wedged).then(|| {
        Finding::new(
            Signature::SlotWedged,
            &place(backend, profile.name()),
            evidence(),
        )
    })
}

fn told(finding: &Finding) -> Told {
    (finding.signature, finding.place.clone(), finding.line)
}

fn place(backend: &Backend, profile: &str) -> Place {
    let build = backend.facts().build.clone();
    Place {
        pool: backend.pool().into(),
        backend: backend.id().as_str().into(),
        profile: profile.into(),
        build: build.as_deref().unwrap_or("unknown").into(),
    }
}

/// What runs on the backend called `name`, for lines of its log.
pub fn place_of(fleet: &Fleet, name: &str) -> Option<Place> {
    let backend = fleet.backend(name)?;
    Some(place(&backend, backend.runs().name()))
}
