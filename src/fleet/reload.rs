//! Another configuration for a fleet at work.
//!
//! A backend with the same name, address and upstream model is the same backend: it keeps its state,
//! facts, leases and an operator's drain. A new one is checked before any request can see it. One that
//! is gone gets no new requests and finishes those it has; where it comes back before it has, it is the same again.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::health::Watched;
use super::{Backend, Fleet, FleetError, Pool, Queue, Registry};
use crate::config::{self, Config};

/// Longest wait for the first check of new backends. One that takes longer is taken in unchecked: it
/// gets no requests either way.
const FIRST_CHECK: Duration = Duration::from_secs(15);

/// The parts of the configuration a pool is made from, besides its own.
#[derive(Debug, PartialEq)]
struct Common {
    fleet: config::Fleet,
    timeouts: config::Timeouts,
}

/// What a registry was built from.
#[derive(Debug)]
pub(super) struct BuiltFrom {
    common: Common,
    pools: Vec<config::Pool>,
}

impl BuiltFrom {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            common: Common::of(config),
            pools: config.fleet.pools.clone(),
        }
    }
}

impl Common {
    fn of(config: &Config) -> Self {
        let fleet = config::Fleet {
            pools: Vec::new(),
            passthrough: Vec::new(),
            ..config.fleet.clone()
        };
        Self {
            fleet,
            timeouts: config.timeouts.clone(),
        }
    }
}

impl Registry {
    /// Those who wait in the pool called `name`.
    pub(super) fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        let pool = self.pools.iter().find(|p| p.name() == name);
        pool.map(|pool| Arc::clone(pool.queue()))
    }

    /// The pool that `pool` describes, if it would be built as it is.
    pub(super) fn unchanged(&self, pool: &config::Pool, config: &Config) -> Option<Arc<Pool>> {
        let from = &self.built_from;
        (from.pools.contains(pool) && from.common == Common::of(config))
            .then(|| self.pools.iter().find(|p| p.name() == pool.name).cloned())?
    }
}

/// A fleet that is ready to take the place of the one at work.
#[must_use = "nothing has changed until it is committed"]
#[derive(Debug)]
pub struct Prepared {
    registry: Registry,
    summary: Reloaded,
    gone: Vec<Arc<Backend>>,
    explain_last: NonZeroUsize,
}

/// What became of the backends, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// New ones, and those that come back.
    pub added: Vec<String>,
    /// Those that only finish what they have.
    pub removed: Vec<String>,
    /// Those that go on with their state.
    pub kept: Vec<String>,
}

impl Fleet {
    /// Builds the fleet of `config` and checks the backends that are new in it, while requests go on as
    /// before. Only one reload may be under way.
    ///
    /// # Errors
    /// As [`Fleet::new`]; then nothing has changed.
    pub async fn prepare(&self, config: &Config) -> Result<Prepared, FleetError> {
        let before = self.registry.load_full();
        let mut registry = Registry::new(config, Some(&before))?;
        let is_in = |backend: &Backend, all: &[Arc<Backend>]| {
            all.iter().any(|other| other.shares_state(backend))
        };
        let (kept, added): (Vec<_>, Vec<_>) = registry
            .backends
            .iter()
            .cloned()
            .partition(|b| is_in(b, &before.backends));
        let gone: Vec<_> = before
            .backends
            .iter()
            .filter(|b| !is_in(b, &registry.backends))
            .cloned()
            .collect();
        let earlier = before.leaving.iter().filter(|b| b.inflight() > 0);
        let earlier = earlier.filter(|b| !is_in(b, &registry.backends)).cloned();
        let earlier: Vec<_> = earlier.collect();

        // Those that go serve until they do.
        let serving = [registry.backends.as_slice(), &gone].concat();
        self.watched
            .send_replace(Watched::new(&serving, &earlier, config));
        registry.leaving = [earlier, gone.clone()].concat();
        let checked = async {
            for backend in &added {
                backend.first_check().await;
            }
        };
        if timeout(FIRST_CHECK, checked).await.is_err() {
            tracing::warn!("new backends are not checked yet; they get no requests until they are");
        }
        let summary = Reloaded {
            added: names(&added),
            removed: names(&gone),
            kept: names(&kept),
        };
        Ok(Prepared {
            registry,
            summary,
            gone,
            explain_last: config.fleet.selection.explain_last,
        })
    }

    /// Serves with `prepared` from now on.
    pub fn commit(&self, prepared: Prepared) -> Reloaded {
        let Prepared {
            registry,
            summary,
            gone,
            explain_last,
        } = prepared;
        self.explanations.keep(explain_last);
        for backend in &registry.backends {
            backend.take_over();
        }
        let backends = registry.backends.clone();
        let leaving = registry.leaving.clone();
        let pools = registry.pools.clone();
        let before = self.pools();
        let named = |name: &str, all: &[Arc<Pool>]| all.iter().find(|p| p.name() == name).cloned();
        for pool in &before {
            pool.leaves_behind(named(pool.name(), &pools).as_ref());
        }
        for pool in &pools {
            pool.remembers(named(pool.name(), &before).as_deref());
        }
        self.registry.store(Arc::new(registry));
        for backend in gone {
            backend.leave_fleet();
            // Whoever waited for one of its places waits for the others now.
            if let Some(pool) = pools.iter().find(|p| p.name() == backend.pool()) {
                backend.serves_queue(pool.queue());
            }
        }
        pools.iter().for_each(Pool::open);
        self.watched.send_modify(|watched| {
            watched.backends = backends;
            watched.leaving = leaving;
        });
        summary
    }
}

fn names(backends: &[Arc<Backend>]) -> Vec<String> {
    backends.iter().map(|b| b.id().to_string()).collect()
}

#[cfg(test)]
mod tests;
