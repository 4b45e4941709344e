//! The backends that serve the same model.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::FleetError;
use super::backend::{Backend, BackendId};
use super::decision::{Candidate, Decision, Standing};
use super::lease::{Lease, Unavailable};
use super::select::{Bound, Need, Reason, View, choose};
use super::state::BackendState;
use super::warmth::Warmth;
use super::wish::Wish;
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
    selection: config::Selection,
    /// Held while choosing, so that two requests do not both see the same idle backend.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Selections made, those by cache left out.
    turn: u64,
    /// Of each backend.
    warmth: Vec<Warmth>,
}

/// A selection with what it was based on.
struct Picked {
    lease: Lease,
    /// The backends that could take the request, and where in the pool they stand.
    views: Vec<View>,
    places: Vec<usize>,
    /// Which of them.
    chosen: usize,
    reason: Reason,
    /// One was to be left to the main conversation.
    spared: bool,
    /// Tokens the chosen one should find in its cache.
    predicted: u64,
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
        let backends: Vec<_> = backends.collect::<Result<_, FleetError>>()?;
        let health = &config.fleet.health;
        Ok(Self {
            state: Mutex::new(State {
                turn: 0,
                warmth: vec![Warmth::default(); backends.len()],
            }),
            models: pool.models.iter().map(|m| m.as_str().into()).collect(),
            backends,
            guard: pool.guard,
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
        let picked = self.pick(exclude, None, &Wish::default())?;
        Ok(picked.lease)
    }

    /// The same for a request of which more is known (`docs/fleet.md`), with the reasons. `prefer` has
    /// what the request needs in its KV cache.
    ///
    /// # Errors
    /// Why there is none.
    pub fn choose(
        &self,
        exclude: &[BackendId],
        prefer: Option<&BackendId>,
        wish: &Wish,
    ) -> Result<(Lease, Decision), Unavailable> {
        let picked = self.pick(exclude, prefer, wish)?;
        let decision = self.explain(&picked, exclude, prefer, wish);
        Ok((picked.lease, decision))
    }

    /// Whether a conversation would stay on `backend`, if it came now: then nothing else has to be
    /// found out about it.
    pub fn would_stay(&self, backend: &BackendId) -> bool {
        let found = self.backends.iter().find(|b| b.id() == backend);
        found.is_some_and(|b| {
            let free = b.slots().is_none_or(|slots| b.inflight() < slots as usize);
            free && b.available()
        })
    }

    /// A turn of `conversation` was answered by `backend`, which has `tokens` of it in its cache now.
    pub fn served(&self, backend: &BackendId, conversation: u64, tokens: u64) {
        if let Some(at) = self.backends.iter().position(|b| b.id() == backend) {
            self.state.lock().warmth[at].fill(conversation, tokens);
        }
    }

    fn pick(
        &self,
        exclude: &[BackendId],
        prefer: Option<&BackendId>,
        wish: &Wish,
    ) -> Result<Picked, Unavailable> {
        let now = Instant::now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut views: Vec<View> = Vec::with_capacity(self.backends.len());
        let mut places: Vec<usize> = Vec::with_capacity(self.backends.len());
        let usable = |b: &Backend| !exclude.contains(b.id()) && b.available();
        // A turn that began before a reload may still be here, and goes where it is welcome.
        let stays = self.backends.iter().any(|b| usable(b) && !b.leaving());
        for (at, backend) in self.backends.iter().enumerate() {
            if !usable(backend) || (stays && backend.leaving()) {
                continue;
            }
            views.push(self.view(backend, &mut state.warmth[at], now));
            places.push(at);
        }
        let find = |id: &BackendId| places.iter().position(|at| self.backends[*at].id() == id);
        let lately = self.selection.warm_for;
        let spare = wish.spare.as_ref().and_then(|main| {
            let at = find(&main.backend)?;
            let warm = state.warmth[places[at]].is_warm(main.conversation, lately, now);
            warm.then_some(at)
        });
        let need = Need {
            sticky: prefer.and_then(find),
            prefix: wish.prefix.map(|prefix| prefix.hash),
            spare,
            turn: state.turn,
        };
        let Some((chosen, reason)) = choose(&views, need) else {
            drop(guard);
            return Err(self.unavailable(exclude));
        };
        if reason != Reason::Sticky {
            state.turn = state.turn.wrapping_add(1);
        }
        let at = places[chosen];
        let backend = &self.backends[at];
        let predicted = wish.predicted(&state.warmth[at]);
        if let Some(conversation) = wish.conversation {
            let left = prefer
                .into_iter()
                .chain(exclude)
                .filter(|id| *id != backend.id());
            for old in left.filter_map(|id| self.backends.iter().position(|b| b.id() == id)) {
                state.warmth[old].leave(conversation);
            }
            let slots = views[chosen].slots;
            state.warmth[at].place(conversation, wish.prefix, slots, now);
        }
        Ok(Picked {
            lease: Lease::new(Arc::clone(backend)),
            views,
            places,
            chosen,
            reason,
            spared: need.spare.is_some(),
            predicted,
        })
    }

    fn view(&self, backend: &Backend, warmth: &mut Warmth, now: Instant) -> View {
        warmth.loaded(backend.comeback().loads());
        let slots = backend.slots();
        View {
            key: backend.key(),
            inflight: backend.inflight(),
            weight: backend.weight().get(),
            pace: backend.comeback().pace(self.selection.slow_start, now),
            slots,
            warm: warmth.warm(self.selection.warm_for, slots, now),
        }
    }

    fn explain(
        &self,
        picked: &Picked,
        exclude: &[BackendId],
        prefer: Option<&BackendId>,
        wish: &Wish,
    ) -> Decision {
        let bound = Bound::of(&picked.views);
        let mut seen = picked
            .places
            .iter()
            .zip(&picked.views)
            .enumerate()
            .peekable();
        let candidate = |(at, backend): (usize, &Arc<Backend>)| {
            let Some((n, (_, view))) = seen.next_if(|(_, (place, _))| **place == at) else {
                let tried = exclude.contains(backend.id());
                return Candidate::out(backend, tried);
            };
            Candidate {
                backend: backend.id().clone(),
                standing: match () {
                    () if n == picked.chosen => Standing::Chosen,
                    () if view.is_free() => Standing::Usable,
                    () => Standing::Full,
                },
                inflight: view.inflight,
                slots: view.slots,
                warm: view.warm,
                load: view.load(),
                within_bound: bound.allows(view),
                affinity: wish.prefix.map(|prefix| view.affinity(prefix.hash)),
            }
        };
        Decision {
            candidates: self.backends.iter().enumerate().map(candidate).collect(),
            chosen: picked.lease.id().clone(),
            reason: picked.reason,
            sticky: prefer.cloned(),
            has_prefix: wish.prefix.is_some(),
            spare: match (&wish.spare, picked.spared) {
                (Some(main), true) => Some(main.backend.clone()),
                _ => None,
            },
            predicted_cached_tokens: picked.predicted,
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
