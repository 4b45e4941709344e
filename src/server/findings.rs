//! Looks for regressions of speculative decoding and for changes of what backends run, and tells of each once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::kept;
use super::log_tail::Tail;
use crate::fleet::{Backend, BackendState, Fleet};
use crate::spec::{Event, Finding, Ledger, Limits, LogSignature, Place, Signature};
use crate::store::Store;
use crate::telemetry::feed::{Feed, now};
use crate::telemetry::{FoundSample, Metrics};

/// Time between two looks at backends and their logs.
const EVERY: Duration = Duration::from_secs(1);

/// Looks from one look for regressions to the next. The tests stay within their error rate however often that is.
const LOOKS: u64 = 5;

/// Looks from one time of keeping what was observed to the next.
const KEEPS: u64 = 10;

/// What makes two findings the same.
type Told = (Signature, Place, Option<LogSignature>);

/// See the module's documentation.
pub struct Findings {
    ledger: Arc<Ledger>,
    fleet: Arc<Fleet>,
    store: Arc<dyn Store>,
    metrics: &'static Metrics,
    told: Mutex<HashSet<Told>>,
    now: Arc<Found>,
}

/// What is wrong now, for the metrics.
pub type Found = ArcSwap<Vec<FoundSample>>;

impl Findings {
    /// Looks at `ledger` and `fleet`, keeps what was observed in `store`, and leaves what is wrong in `now`.
    pub fn new(
        ledger: Arc<Ledger>,
        fleet: Arc<Fleet>,
        store: Arc<dyn Store>,
        metrics: &'static Metrics,
        now: Arc<Found>,
    ) -> Self {
        Self {
            ledger,
            fleet,
            store,
            metrics,
            told: Mutex::default(),
            now,
        }
    }

    fn look(&self) {
        self.ledger.expire(since_1970());
        let found = all(&self.ledger, &self.fleet);
        let now: HashSet<Told> = found.iter().map(told).collect();
        // What is over may come again.
        let before = std::mem::replace(&mut *self.told.lock(), now);
        let new = found
            .iter()
            .filter(|finding| !before.contains(&told(finding)));
        new.for_each(|finding| self.tell(finding));
        let samples = found.iter().map(sample).collect();
        self.now.store(Arc::new(samples));
    }

    /// What backends show that they did not show before.
    fn note_changes(&self) {
        for backend in self.fleet.backends() {
            let Some(shown) = backend.shown() else {
                continue;
            };
            let at = since_1970().as_secs();
            let (pool, name) = (backend.pool(), backend.id().as_str());
            if let Some(event) = self.ledger.look(at, pool, name, &shown) {
                self.tell_change(&event);
            }
        }
    }

    fn tell_change(&self, event: &Event) {
        Feed::global().tell("backend_changed", || event);
        if event.is_first() {
            return;
        }
        let changes = event.changes.iter().map(|change| {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            format!(
                "{} {} -> {}",
                change.what,
                text(&change.from),
                text(&change.to)
            )
        });
        let changes = changes.collect::<Vec<_>>().join(", ");
        tracing::info!(backend = event.backend, changes, "backend changed");
        for change in &event.changes {
            self.metrics
                .spec_changed(&event.pool, &event.backend, &change.what);
        }
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
            explained_by = finding.blamed(),
            remedy = finding.remedy,
            "FINDING: {}",
            signature.as_str()
        );
        self.metrics.spec_finding(*signature);
        let feed = Feed::global();
        feed.tell("finding", || json!({ "at": now(), "finding": finding }));
    }
}

#[async_trait]
impl BackgroundService for Findings {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        kept::restore(&*self.store, &self.ledger).await;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut logs = Logs::default();
        for look in 0u64.. {
            tokio::select! {
                _ = shutdown.changed() => break,
                _ = ticks.tick() => {}
            }
            self.note_changes();
            logs.look(&self.fleet, &self.ledger).await;
            if look % LOOKS == 0 {
                self.look();
            }
            if look % KEEPS == KEEPS - 1 {
                kept::keep(&*self.store, &self.ledger).await;
            }
        }
        kept::keep(&*self.store, &self.ledger).await;
    }
}

/// The log files that are followed, by backend.
#[derive(Default)]
struct Logs(HashMap<String, (Tail, bool)>);

impl Logs {
    async fn look(&mut self, fleet: &Fleet, ledger: &Ledger) {
        let backends = fleet.backends();
        let file_of = |name: &str| {
            let backend = backends.iter().find(|b| b.id().as_str() == name);
            backend.and_then(|backend| backend.log_file())
        };
        // A reload may have given it another.
        self.0
            .retain(|name, (tail, _)| file_of(name) == Some(tail.path()));
        for backend in &backends {
            let Some(file) = backend.log_file() else {
                continue;
            };
            let name = backend.id().as_str();
            if !self.0.contains_key(name) {
                self.0.insert(name.to_owned(), (Tail::new(file), false));
            }
            let Some((tail, has_failed)) = self.0.get_mut(name) else {
                continue;
            };
            let place = backend.place();
            let mut take = |line: &str| {
                ledger.read_log(&place, std::iter::once(line), since_1970());
            };
            match tail.look(&mut take).await {
                Ok(()) => *has_failed = false,
                Err(error) if !std::mem::replace(has_failed, true) => {
                    tracing::warn!(backend = name, file = %file.display(), %error, "its log cannot be read");
                }
                Err(_) => {}
            }
        }
    }
}

/// Time since 1970.
pub fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// Everything that is wrong now. What was seen of something that no longer runs is over.
pub fn all(ledger: &Ledger, fleet: &Fleet) -> Vec<Finding> {
    let backends = fleet.backends();
    let runs: HashSet<Place> = backends.iter().map(|b| b.place()).collect();
    let mut found = ledger.findings(&Limits::default());
    found.retain(|finding| finding.line.is_some() || runs.contains(&finding.place));
    found.extend(backends.iter().filter_map(|b| silently_off(ledger, b)));
    found.extend(backends.iter().filter_map(|b| wedged(b)));
    found
}

fn silently_off(ledger: &Ledger, backend: &Backend) -> Option<Finding> {
    let place = backend.place();
    let by_answers = || {
        let silent = backend
            .drafts_always()
            .then(|| ledger.drafts_nothing(&place));
        let (turns, tokens) = silent.flatten()?;
        Some(format!(
            "`profile` says {}, and none of {turns} answers with {tokens} tokens had a draft",
            backend.profile()?
        ))
    };
    let evidence = backend.is_silently_off().or_else(by_answers)?;
    // It is the configured profile that is missing.
    let place = Place {
        profile: backend.profile()?,
        ..place
    };
    Some(Finding::new(Signature::SpecSilentlyOff, &place, evidence))
}

fn wedged(backend: &Backend) -> Option<Finding> {
    let evidence = || backend.trouble().unwrap_or_default();
    (backend.state() == BackendState::Wedged)
        .then(|| Finding::new(Signature::SlotWedged, &backend.place(), evidence()))
}

fn told(finding: &Finding) -> Told {
    (finding.signature, finding.place.clone(), finding.line)
}

/// A finding as the metrics show it.
fn sample(finding: &Finding) -> FoundSample {
    FoundSample {
        signature: finding.signature,
        pool: Arc::clone(&finding.place.pool),
        backend: Arc::clone(&finding.place.backend),
        profile: Arc::clone(&finding.place.profile),
        build: Arc::clone(&finding.place.build),
        explained_by: finding.blamed().unwrap_or_default(),
    }
}

/// What runs on the backend called `name`, for lines of its log.
pub fn place_of(fleet: &Fleet, name: &str) -> Option<Place> {
    Some(fleet.backend(name)?.place())
}
