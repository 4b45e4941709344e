//! The backends that serve the same model.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::FleetError;
use super::backend::{Backend, BackendId};
use super::select::{Lease, Load, Unavailable, pick, stays};
use super::state::BackendState;
use crate::config::{self, Config, Preset};

/// A model of useful size loads in tens of seconds; clients that ask every few seconds lose little.
const LOADING_RETRY: Duration = Duration::from_secs(5);

/// The backends that serve the same model.
#[derive(Debug)]
pub struct Pool {
    name: Arc<str>,
    models: Vec<Arc<str>>,
    backends: Vec<Arc<Backend>>,
    guard: Option<Preset>,
    down_retry: Duration,
    /// Held while choosing, so that two requests do not both see the same idle backend.
    turn: Mutex<u64>,
}

impl Pool {
    /// A backend that is already among the `known` ones goes on as it is.
    pub(super) fn new(
        pool: &config::Pool,
        config: &Config,
        known: &[Arc<Backend>],
    ) -> Result<Self, FleetError> {
        let name: Arc<str> = pool.name.as_str().into();
        let backend = |b| {
            let backend = Backend::new(b, name.clone(), config)?;
            let before = known.iter().find(|known| known.is_same(&backend));
            Ok(Arc::new(match before {
                Some(before) => backend.continuing(before),
                None => backend,
            }))
        };
        let backends = pool.backends.iter().map(backend);
        let backends = backends.collect::<Result<_, FleetError>>()?;
        let health = &config.fleet.health;
        Ok(Self {
            models: pool.models.iter().map(|m| m.as_str().into()).collect(),
            backends,
            guard: pool.guard,
            name,
            // Whole seconds, as the header says them; the check that finds it well comes first.
            down_retry: Duration::from_secs(
                (health.interval * health.healthy_after.get()).as_secs() + 1,
            ),
            turn: Mutex::new(0),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model patterns it serves, as configured.
    pub fn models(&self) -> &[Arc<str>] {
        &self.models
    }

    /// The guard preset of its turns, where it has one of its own.
    pub fn guard(&self) -> Option<Preset> {
        self.guard
    }

    /// Its backends, in the order of the configuration.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Requests its backends are serving for this gateway.
    pub fn inflight(&self) -> usize {
        self.backends.iter().map(|b| b.inflight()).sum()
    }

    /// A place on the least busy backend (in-flight requests for its weight) that is ready, not
    /// draining, and not in `exclude`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn select(&self, exclude: &[BackendId]) -> Result<Lease, Unavailable> {
        self.select_preferring(exclude, None)
    }

    /// The same, but on `preferred` if that can be had without waiting while another backend is idle.
    ///
    /// # Errors
    /// Why there is none.
    pub fn select_preferring(
        &self,
        exclude: &[BackendId],
        preferred: Option<&BackendId>,
    ) -> Result<Lease, Unavailable> {
        let mut turn = self.turn.lock();
        let mut candidates: Vec<&Arc<Backend>> = self
            .backends
            .iter()
            .filter(|b| !exclude.contains(b.id()) && b.available())
            .collect();
        // A turn that began before a reload may still be here, and goes where it is welcome.
        if candidates.iter().any(|b| !b.leaving()) {
            candidates.retain(|b| !b.leaving());
        }
        let loads: Vec<Load> = candidates
            .iter()
            .map(|b| Load {
                inflight: b.inflight(),
                weight: b.weight(),
                slots: b.slots(),
            })
            .collect();
        let preferred = preferred.and_then(|id| candidates.iter().position(|b| b.id() == id));
        if let Some(n) = preferred.filter(|n| stays(&loads, *n)) {
            return Ok(Lease::new(Arc::clone(candidates[n])));
        }
        match pick(&loads, *turn).and_then(|n| candidates.get(n)) {
            Some(chosen) => {
                *turn = turn.wrapping_add(1);
                Ok(Lease::new(Arc::clone(chosen)))
            }
            None => Err(self.unavailable(exclude)),
        }
    }

    /// The most hopeful reason: tried ones may be tried again by the client, loading ones come soon.
    fn unavailable(&self, exclude: &[BackendId]) -> Unavailable {
        let any = |wanted: fn(&Backend) -> bool| self.backends.iter().any(|b| wanted(b));
        let tried = |b: &Arc<Backend>| b.available() && exclude.contains(b.id());
        if self.backends.iter().any(tried) {
            Unavailable::NoneLeft
        } else if any(|b| matches!(b.state(), BackendState::Loading | BackendState::Unknown)) {
            Unavailable::Loading {
                retry_after: LOADING_RETRY,
            }
        } else if any(|b| b.state() == BackendState::Ready && b.draining()) {
            Unavailable::Draining
        } else {
            Unavailable::AllDown {
                retry_after: self.down_retry,
            }
        }
    }
}
