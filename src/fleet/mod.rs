//! The backends: who there is, who is well, and who takes the next request.
//!
//! [`Fleet`] is the registry, [`Pool::select`] hands out [`Lease`]s, [`HealthService`] keeps every
//! backend's state and facts current. Everything a request touches is lock-free or locked for the
//! length of a selection.

mod admission;
mod backend;
mod breaker;
mod cancelled;
mod candidates;
mod comeback;
mod decision;
mod discovery;
mod doubt;
mod drafts;
mod facts;
mod flags;
mod health;
mod kv;
mod lease;
mod live;
mod models;
mod peer;
mod pool;
mod prefix;
mod probe;
mod reload;
mod rendezvous;
mod resolve;
mod router;
mod scrape;
mod select;
mod silence;
mod spec_probe;
mod speculates;
mod state;
mod survey;
mod target;
mod tasks;
mod template;
mod told;
mod treatment;
mod warmth;
mod watch;
mod watchdog;
mod wish;

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use globset::{GlobBuilder, GlobMatcher};
use tokio::sync::watch::Sender;

pub use admission::{Admitted, Ask, Caller, Grant, Queue, Waiting};
pub use backend::{Backend, BackendId, Closing, Failure, Probed, Unbegun, WhyClosed};
pub use candidates::{Candidate, Candidates, Standing};
pub use decision::{
    Armed, Asking, Decision, Explained, Explanations, Profiled, Unserved, Waited, Weighed,
};
pub use discovery::{Discovery, DiscoveryResult, Found, Missing, News};
pub use doubt::Doubt;
pub use drafts::DraftCounts;
pub use facts::{Facts, Modalities, TemplateCaps};
pub use flags::Flags;
pub use health::HealthService;
pub use kv::Footprint;
pub use kv::lengths::Size;
pub use lease::{Lease, Overload, Unavailable};
pub use pool::Pool;
pub use reload::{Prepared, Reloaded};
pub use router::Preset;
pub use select::Reason;
pub use speculates::assert_speculation;
pub use state::{BackendState, Transition};
pub use survey::{Asked, Survey, survey};
pub use template::Template;
pub use told::hear_health_events;
pub use treatment::HealthEvent;
pub use warmth::Prefix;
pub use watchdog::{Finding, Heal};
pub use wish::{Known, SpecWish, Wish};

use crate::config::Config;
use health::Watched;
use models::ModelTable;
use reload::BuiltFrom;

/// Why a fleet cannot be built. [`crate::config::load`] finds all of these first, with their place.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The URL of a backend.
    #[error("backend url `{url}`: {reason}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A model or path pattern.
    #[error("pattern `{pattern}`: {source}")]
    Pattern {
        /// As configured.
        pattern: String,
        /// What is wrong with it.
        source: globset::Error,
    },
    /// Two pools or two backends of one name.
    #[error("the name `{0}` is used twice")]
    Duplicate(String),
    /// A passthrough rule names a pool that does not exist.
    #[error("there is no pool `{0}`")]
    NoPool(String),
}

/// All pools. Cheap to read from every request; the content is replaced as a whole.
#[derive(Debug)]
pub struct Fleet {
    registry: ArcSwap<Registry>,
    explanations: Explanations,
    /// Whom [`HealthService`] watches: who is in the registry, and who is about to be.
    watched: Sender<Watched>,
}

#[derive(Debug)]
struct Registry {
    pools: Vec<Arc<Pool>>,
    backends: Vec<Arc<Backend>>,
    models: ModelTable,
    passthrough: Vec<(GlobMatcher, Arc<Pool>)>,
    /// Backends of earlier registries that may still finish something.
    leaving: Vec<Arc<Backend>>,
    built_from: BuiltFrom,
}

impl Fleet {
    /// Builds the registry of a configuration. Backends given by address can be connected to at once,
    /// those given by hostname once [`HealthService`] has resolved them; none is used before its first
    /// good check.
    ///
    /// # Errors
    /// A configuration that did not come from [`crate::config::load`] may be inconsistent.
    pub fn new(config: &Config) -> Result<Arc<Self>, FleetError> {
        let registry = Registry::new(config, None)?;
        registry.pools.iter().for_each(Pool::open);
        Ok(Arc::new(Self {
            watched: Sender::new(Watched::new(&registry.backends, &[], config)),
            registry: ArcSwap::from_pointee(registry),
            explanations: Explanations::new(config.fleet.selection.explain_last),
        }))
    }

    /// The pool that serves `model` and the configured pattern that says so, which is also the metric
    /// label: exact names win over globs, longer globs over shorter ones, `*` comes last. `None` when no
    /// pool serves it.
    pub fn resolve(&self, model: &str) -> Option<(Arc<Pool>, Arc<str>)> {
        let registry = self.registry.load();
        let (pool, pattern) = registry.models.resolve(model)?;
        Some((registry.pools.get(pool)?.clone(), pattern.clone()))
    }

    /// Why the last requests went where they went.
    pub fn explanations(&self) -> &Explanations {
        &self.explanations
    }

    /// The pool called `name`.
    pub fn pool(&self, name: &str) -> Option<Arc<Pool>> {
        let registry = self.registry.load();
        registry.pools.iter().find(|p| p.name() == name).cloned()
    }

    /// The pool that `fleet.passthrough` gives the path to, `None` when the path is not allowed. Paths
    /// that a server could read as another one than the rule meant (dot segments, empty segments,
    /// escapes) are never allowed.
    pub fn passthrough(&self, path: &str) -> Option<Arc<Pool>> {
        let ambiguous = !path.starts_with('/')
            || path.contains(['%', '\\', ';'])
            || path.contains("//")
            || path.split('/').any(|segment| matches!(segment, "." | ".."));
        if ambiguous {
            return None;
        }
        let registry = self.registry.load();
        let rule = registry.passthrough.iter().find(|(g, _)| g.is_match(path));
        rule.map(|(_, pool)| pool.clone())
    }

    /// Every pool, in the order of the configuration.
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        self.registry.load().pools.clone()
    }

    /// Every backend, pool by pool.
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        self.registry.load().backends.clone()
    }

    /// Backends that are no longer configured and still finish requests.
    pub fn leaving(&self) -> Vec<Arc<Backend>> {
        let registry = self.registry.load();
        let busy = registry.leaving.iter().filter(|b| b.inflight() > 0);
        busy.cloned().collect()
    }

    /// The backend called `name`.
    pub fn backend(&self, name: &str) -> Option<Arc<Backend>> {
        let registry = self.registry.load();
        registry
            .backends
            .iter()
            .find(|b| b.id().as_str() == name)
            .cloned()
    }

    /// Whether the first check of every backend has finished, well or badly. Before that nothing can
    /// be said about readiness.
    pub fn checked_once(&self) -> bool {
        self.registry.load().backends.iter().all(|b| b.checked())
    }

    /// Whether some backend can take a request.
    pub fn any_ready(&self) -> bool {
        self.registry.load().backends.iter().any(|b| b.available())
    }
}

impl Registry {
    /// What `before` knows and the configuration still names goes on as it is.
    fn new(config: &Config, before: Option<&Self>) -> Result<Self, FleetError> {
        // One that left may come back while it finishes something.
        let known: Vec<_> = before.map_or_else(Vec::new, |before| {
            let leaving = before.leaving.iter().filter(|b| b.inflight() > 0);
            before.backends.iter().chain(leaving).cloned().collect()
        });
        let mut names = HashSet::new();
        let mut pools = Vec::new();
        for pool in &config.fleet.pools {
            let pool = match before.and_then(|before| before.unchanged(pool, config)) {
                Some(pool) => pool,
                None => {
                    let queue = before.and_then(|before| before.queue(&pool.name));
                    Arc::new(Pool::new(pool, config, &known, queue)?)
                }
            };
            if !names.insert(("pool", pool.name().to_owned())) {
                return Err(FleetError::Duplicate(pool.name().to_owned()));
            }
            for backend in pool.backends() {
                let name = backend.id().as_str();
                if !names.insert(("backend", name.to_owned())) {
                    return Err(FleetError::Duplicate(name.to_owned()));
                }
            }
            pools.push(pool);
        }
        let models = ModelTable::new(
            pools
                .iter()
                .enumerate()
                .flat_map(|(n, pool)| pool.models().iter().map(move |m| (m.clone(), n))),
        )?;
        let mut passthrough = Vec::new();
        for rule in &config.fleet.passthrough {
            let pool = pools.iter().find(|p| p.name() == rule.pool);
            let pool = pool.ok_or_else(|| FleetError::NoPool(rule.pool.clone()))?;
            let glob = GlobBuilder::new(&rule.path).literal_separator(true).build();
            let glob = glob.map_err(|source| FleetError::Pattern {
                pattern: rule.path.clone(),
                source,
            })?;
            passthrough.push((glob.compile_matcher(), pool.clone()));
        }
        Ok(Self {
            backends: pools.iter().flat_map(|p| p.backends().to_vec()).collect(),
            pools,
            models,
            passthrough,
            leaving: Vec::new(),
            built_from: BuiltFrom::new(config),
        })
    }
}

#[cfg(test)]
mod choice_tests;
#[cfg(test)]
mod crowd_tests;
#[cfg(test)]
pub(crate) mod tests;
