//! The backends that serve the same model.

mod arm;
mod hedge;
mod memory;
mod pick;
mod profile;
mod room;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::FleetError;
use super::admission::Queue;
use super::backend::{Backend, BackendId};
use super::decision::Decision;
use super::kv::lengths::Lengths;
use super::lease::{Lease, Unavailable};
use super::state::BackendState;
use super::warmth::Warmth;
use super::wish::Wish;
use crate::config::{self, Config, Preset};
use hedge::Allowance;
use pick::Full;
pub(super) use room::Free;

/// A model of useful size loads in tens of seconds; clients that ask every few seconds lose little.
const LOADING_RETRY: Duration = Duration::from_secs(5);

/// The backends that serve the same model.
#[derive(Debug)]
pub struct Pool {
    name: Arc<str>,
    models: Vec<Arc<str>>,
    backends: Vec<Arc<Backend>>,
    /// Of the backends.
    names: Arc<[BackendId]>,
    guard: Option<Preset>,
    down_retry: Duration,
    selection: config::Selection,
    rules: config::Queue,
    /// Those who wait for a place.
    queue: Arc<Queue>,
    /// Held while choosing, so that two requests do not both see the same idle backend.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Selections made, those by cache left out.
    turn: u64,
    /// Of each backend.
    warmth: Vec<Warmth>,
    /// Of its turns.
    lengths: Lengths,
    /// Turns that may still be hedged.
    hedges: Allowance,
}

/// A request that looks for a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// These have failed it.
    pub(super) except: &'a [BackendId],
    /// It has what the request needs in its KV cache.
    pub(super) prefer: Option<&'a BackendId>,
    pub(super) wish: &'a Wish,
    /// The room in its cache is kept for somebody else.
    pub(super) kept: Option<&'a BackendId>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Every slot is taken.
    AllTaken,
    /// No backend can be used at all.
    Unavailable(Unavailable),
}

impl Pool {
    /// A backend that is already among the `known` ones goes on as it is.
    pub(super) fn new(
        pool: &config::Pool,
        config: &Config,
        known: &[Arc<Backend>],
        queue: Option<Arc<Queue>>,
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
        let backends: Vec<_> = backends.collect::<Result<_, FleetError>>()?;
        let health = &config.fleet.health;
        Ok(Self {
            state: Mutex::new(State {
                turn: 0,
                warmth: vec![Warmth::default(); backends.len()],
                lengths: Lengths::default(),
                hedges: Allowance::default(),
            }),
            models: pool.models.iter().map(|m| m.as_str().into()).collect(),
            names: backends.iter().map(|b| b.id().clone()).collect(),
            backends,
            guard: pool.guard,
            queue: queue.unwrap_or_else(|| Queue::new(pool.queue.clone())),
            rules: pool.queue.clone(),
            name,
            // Whole seconds, as the header says them; the check that finds it well comes first.
            down_retry: Duration::from_secs(
                (health.interval * health.healthy_after.get()).as_secs() + 1,
            ),
            selection: config.fleet.selection.clone(),
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

    /// A place on a backend that is ready, not draining, and not in `exclude`: the least busy one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn select(&self, exclude: &[BackendId]) -> Result<Lease, Unavailable> {
        self.select_for(exclude, &Wish::default())
    }

    /// The same for a request of which more is known, without the reasons.
    ///
    /// # Errors
    /// Why there is none.
    pub fn select_for(&self, exclude: &[BackendId], wish: &Wish) -> Result<Lease, Unavailable> {
        let ask = Asked {
            except: exclude,
            prefer: None,
            wish,
            kept: None,
        };
        self.pick(ask, Full::Joins)
            .map(|picked| picked.lease)
            .map_err(|none| self.why(none, exclude))
    }

    /// The same for a request of which more is known (`docs/fleet.md`), with the reasons; it joins those
    /// on a backend whose slots are all taken, if there is no other.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn choose(&self, asked: Asked<'_>) -> Result<(Lease, Decision), Unavailable> {
        let picked = self.pick(asked, Full::Joins);
        let picked = picked.map_err(|none| self.why(none, asked.except))?;
        Ok(picked.explained(asked))
    }

    /// The same, but only on a backend with a free slot.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn choose_free(&self, asked: Asked<'_>) -> Result<(Lease, Decision), NoPlace> {
        let picked = self.pick(asked, Full::StaysOut)?;
        Ok(picked.explained(asked))
    }

    fn why(&self, none: NoPlace, exclude: &[BackendId]) -> Unavailable {
        match none {
            NoPlace::Unavailable(why) => why,
            // Somebody else was asked in the meantime.
            NoPlace::AllTaken => self.unavailable(exclude),
        }
    }

    /// Whether `backend` gets new requests.
    fn welcomes(&self, backend: &Backend) -> bool {
        backend.available() && (!backend.ejected() || self.all_in())
    }

    /// Whether so many are ejected that none is.
    fn all_in(&self) -> bool {
        let up = self.backends.iter().filter(|b| b.available());
        let count = |(up, out), b: &Arc<Backend>| (up + 1, out + usize::from(b.ejected()));
        let (up, ejected): (usize, usize) = up.fold((0, 0), count);
        too_many(ejected, up)
    }

    /// Its backend called `id`, if that can be used.
    pub(super) fn usable(&self, id: &BackendId) -> Option<&Arc<Backend>> {
        let found = self.backends.iter().find(|b| b.id() == id);
        found.filter(|b| self.welcomes(b))
    }

    /// Those who wait for its places.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// How its queue is configured.
    pub(super) fn rules(&self) -> &config::Queue {
        &self.rules
    }

    /// From now on the places of its backends go to those in its queue, by its rules.
    pub(super) fn open(self: &Arc<Self>) {
        self.queue.belongs_to(self);
        for backend in &self.backends {
            backend.serves_queue(&self.queue);
        }
        self.queue.offered();
    }

    /// `backend` has read so many tokens of a prompt in so long.
    pub fn has_read(&self, backend: &BackendId, tokens: u64, time: Duration) {
        if let Some(backend) = self.backends.iter().find(|b| b.id() == backend) {
            backend.has_read(tokens, time);
        }
    }

    /// Whether a conversation would stay on `backend`, if it came now: then nothing else has to be
    /// found out about it.
    pub fn would_stay(&self, backend: &BackendId) -> bool {
        let found = self.backends.iter().find(|b| b.id() == backend);
        found.is_some_and(|b| b.is_free() && self.welcomes(b))
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

/// Of so many that are up so many are ejected that none is: what fails so many requests is not the
/// backends, and those left could not carry the load.
fn too_many(ejected: usize, up: usize) -> bool {
    2 * ejected > up
}
