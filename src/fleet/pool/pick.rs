//! Picking a backend: what is known of the candidates, the choice, and its explanation.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Asked, NoPlace, Pool};
use crate::fleet::backend::{Backend, BackendId};
use crate::fleet::decision::{Candidate, Decision, Standing};
use crate::fleet::lease::{Lease, Place};
use crate::fleet::select::{Bound, Need, Reason, View, choose};
use crate::fleet::warmth::Warmth;

/// What becomes of a request when all slots are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// It waits inside the backend.
    Joins,
    /// It does not go there.
    StaysOut,
}

/// A selection with what it was based on.
pub(super) struct Picked {
    pub(super) lease: Lease,
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
    pub(super) fn pick(&self, asked: Asked<'_>, full: Full) -> Result<Picked, NoPlace> {
        let Asked {
            except: exclude,
            prefer,
            wish,
        } = asked;
        let now = Instant::now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut views: Vec<View> = Vec::with_capacity(self.backends.len());
        let mut places: Vec<usize> = Vec::with_capacity(self.backends.len());
        let up = |b: &Backend| !exclude.contains(b.id()) && b.available();
        // One that failed others is better than none.
        let none_left = !self.backends.iter().any(|b| up(b) && !b.ejected());
        let all_in = none_left || self.all_in();
        let usable = |b: &Backend| up(b) && (all_in || !b.ejected());
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
        if full == Full::StaysOut && !views.is_empty() && !views.iter().any(View::is_free) {
            return Err(NoPlace::AllTaken);
        }
        let welcome = |at: &usize| views[*at].is_free();
        let lately = self.selection.warm_for;
        let spare = wish.spare.as_ref().and_then(|main| {
            let at = find(&main.backend)?;
            let warm = state.warmth[places[at]].is_warm(main.conversation, lately, now);
            warm.then_some(at)
        });
        let need = Need {
            sticky: prefer.and_then(find).filter(welcome),
            prefix: wish.prefix.map(|prefix| prefix.hash),
            spare,
            turn: state.turn,
        };
        let Some((chosen, reason)) = choose(&views, need) else {
            drop(guard);
            return Err(NoPlace::Unavailable(self.unavailable(exclude)));
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
            lease: Lease::new(
                Arc::clone(backend),
                match wish.beside {
                    true => Place::Beside,
                    false => Place::Slot,
                },
            ),
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
            inflight: backend.taken(),
            weight: backend.weight().get(),
            pace: backend.comeback().pace(self.selection.slow_start, now),
            slots,
            warm: warmth.warm(self.selection.warm_for, slots, now),
        }
    }

    pub(super) fn explain(&self, picked: &Picked, asked: Asked<'_>) -> Decision {
        let Asked {
            except: exclude,
            prefer,
            wish,
        } = asked;
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
            waited: None,
        }
    }
}
