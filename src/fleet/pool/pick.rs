//! Picking a backend: what is known of the candidates, the choice, and its explanation.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Asked, NoPlace, Pool, State, too_many};
use crate::fleet::backend::{Backend, BackendId};
use crate::fleet::candidates::{Candidates, Out, Standing};
use crate::fleet::decision::{Armed, Decision, Profiled};
use crate::fleet::lease::{Lease, Place};
use crate::fleet::select::{Need, Reason, View, choose};
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
    candidates: Candidates,
    spec: Option<Profiled>,
    rollout: Option<Armed>,
    reason: Reason,
    /// One was to be left to the main conversation.
    spared: bool,
    /// Tokens the chosen one should find in its cache.
    predicted: u64,
}

/// A backend, before anything but its health counts.
#[derive(Clone, Copy)]
struct Seen {
    available: bool,
    /// It has failed this request.
    tried: bool,
    ejected: bool,
    leaving: bool,
}

/// Which of a pool's backends may get a request.
struct Open {
    /// So many are ejected, or all that are left, that none is.
    all_in: bool,
    /// There is one that stays.
    stays: bool,
}

impl Seen {
    fn of(backend: &Backend, tried: &[BackendId]) -> Self {
        Self {
            available: backend.available(),
            tried: tried.contains(backend.id()),
            ejected: backend.ejected(),
            leaving: backend.leaving(),
        }
    }

    fn is_up(self) -> bool {
        self.available && !self.tried
    }
}

impl Open {
    fn among(all: &[Seen]) -> Self {
        let available = || all.iter().filter(|seen| seen.available);
        let ejected = available().filter(|seen| seen.ejected).count();
        // One that failed others is better than none.
        let none_left = !all.iter().any(|seen| seen.is_up() && !seen.ejected);
        let mut open = Self {
            all_in: none_left || too_many(ejected, available().count()),
            stays: false,
        };
        // A turn that began before a reload may still be here, and goes where it is welcome.
        open.stays = all.iter().any(|seen| open.admits(*seen) && !seen.leaving);
        open
    }

    fn admits(&self, seen: Seen) -> bool {
        seen.is_up() && (self.all_in || !seen.ejected) && !(self.stays && seen.leaving)
    }
}

impl Pool {
    pub(super) fn pick(&self, asked: Asked<'_>, full: Full) -> Result<Picked, NoPlace> {
        let Asked {
            except: exclude,
            prefer,
            wish,
            kept: _,
        } = asked;
        let now = Instant::now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let successor = self.successor();
        if let Some(next) = &successor {
            self.catches_up(state, next);
        }
        let mut candidates = self.candidates(state, asked, now);
        let rollout = self.by_arm(&mut candidates, asked);
        let spec = self.by_profile(&mut candidates, &state.warmth, asked);
        let Candidates { views, places, .. } = &candidates;
        let find = |id: &BackendId| places.iter().position(|at| self.backends[*at].id() == id);
        if full == Full::StaysOut && !views.is_empty() && !views.iter().any(View::is_free) {
            return Err(NoPlace::AllTaken);
        }
        // A server that has begun anew since has nothing of it.
        let has_it = |at: usize| wish.may_be_held(&state.warmth[places[at]]);
        let welcome = |at: &usize| views[*at].is_free() && has_it(*at);
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
        let Some((chosen, reason)) = choose(views, need) else {
            drop(guard);
            return Err(NoPlace::Unavailable(self.unavailable(exclude)));
        };
        if reason != Reason::Sticky {
            state.turn = state.turn.wrapping_add(1);
        }
        let at = places[chosen];
        let backend = &self.backends[at];
        let predicted = wish.predicted(&state.warmth[at]);
        if let Some(begun) = wish.begun() {
            let left = prefer
                .into_iter()
                .chain(exclude)
                .filter(|id| *id != backend.id());
            for old in left.filter_map(|id| self.backends.iter().position(|b| b.id() == id)) {
                state.warmth[old].leave(begun.conversation);
                if let Some(next) = &successor {
                    next.tell(&self.backends[old], |warmth| {
                        warmth.leave(begun.conversation)
                    });
                }
            }
            let slots = views[chosen].slots;
            let place = |warmth: &mut Warmth| warmth.place(begun, slots, now);
            place(&mut state.warmth[at]);
            if let Some(next) = &successor {
                next.tell(backend, place);
            }
        }
        candidates.chosen = chosen;
        Ok(Picked {
            lease: Lease::new(
                Arc::clone(backend),
                match wish.beside {
                    true => Place::Beside,
                    false => Place::Slot,
                },
                wish.footprint,
            ),
            candidates,
            spec,
            rollout,
            reason,
            spared: need.spare.is_some(),
            predicted,
        })
    }

    /// What is known of each backend now; nobody is chosen yet.
    fn candidates(&self, state: &mut State, asked: Asked<'_>, now: Instant) -> Candidates {
        let seen = self.backends.iter().map(|b| Seen::of(b, asked.except));
        let seen: SmallVec<[Seen; 64]> = seen.collect();
        let open = Open::among(&seen);
        let mut all = Candidates {
            names: Arc::clone(&self.names),
            views: Vec::with_capacity(seen.len()),
            places: Vec::with_capacity(seen.len()),
            prefix: asked.wish.prefix.map(|prefix| prefix.hash),
            ..Candidates::default()
        };
        for (at, (backend, seen)) in self.backends.iter().zip(seen).enumerate() {
            if open.admits(seen) {
                all.views
                    .push(self.view(backend, asked, &mut state.warmth[at], now));
                all.places.push(at);
            } else {
                let out = Out {
                    standing: match seen.tried {
                        true => Standing::Tried,
                        false => Standing::Unavailable,
                    },
                    inflight: backend.inflight(),
                    others: backend.others(),
                    slots: backend.slots(),
                };
                all.out.push((at, out));
            }
        }
        if !all.views.iter().any(View::is_free) {
            self.join(&mut all);
        }
        all
    }

    /// No candidate has a free slot: those that only others have been using for a while take one request more.
    fn join(&self, all: &mut Candidates) {
        for (view, at) in all.views.iter_mut().zip(&all.places) {
            if self.backends[*at].may_be_joined() {
                view.others = view
                    .slots
                    .map_or(0, |slots| (slots as usize).saturating_sub(1));
                view.inflight = view.others;
            }
        }
    }

    fn view(&self, backend: &Backend, asked: Asked<'_>, warmth: &mut Warmth, now: Instant) -> View {
        warmth.loaded(backend.comeback().losses());
        let (slots, room, others) = (backend.slots(), backend.room(), backend.others());
        let fits = room.is_none_or(|room| room.fits(asked.wish.footprint));
        View {
            key: backend.key(),
            inflight: backend.taken() + others,
            others,
            weight: backend.weight().get(),
            pace: backend.pace_of_share(self.selection.slow_start, now),
            slots,
            warm: warmth.warm(self.selection.warm_for, slots, now),
            expected: warmth.expected(self.selection.warm_for, now),
            room,
            fits: asked.wish.beside || (asked.kept != Some(backend.id()) && fits),
        }
    }
}

impl Picked {
    /// The place, and why it is there.
    pub(super) fn explained(self, asked: Asked<'_>) -> (Lease, Decision) {
        let decision = Decision {
            chosen: self.lease.id().clone(),
            reason: self.reason,
            sticky: asked.prefer.cloned(),
            has_prefix: asked.wish.prefix.is_some(),
            spare: match (&asked.wish.spare, self.spared) {
                (Some(main), true) => Some(main.backend.clone()),
                _ => None,
            },
            predicted_cached_tokens: self.predicted,
            hedge: false,
            waited: None,
            spec: self.spec,
            rollout: self.rollout,
            candidates: Box::new(self.candidates),
        };
        (self.lease, decision)
    }
}
