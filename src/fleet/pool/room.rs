//! Room for turns: idle slots, and what is left of the KV caches that slots share.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Asked, Pool};
use crate::config::RequestClass;
use crate::fleet::backend::{Backend, BackendId};
use crate::fleet::kv::lengths::Size;
use crate::fleet::kv::{Footprint, Room};

/// A backend with an idle slot.
#[derive(Clone, Debug)]
pub(in crate::fleet) struct Free {
    pub(in crate::fleet) id: BackendId,
    room: Option<Room>,
    ejected: bool,
}

impl Free {
    /// Whether it is for those only for whom no other is left.
    pub(in crate::fleet) fn is_ejected(&self) -> bool {
        self.ejected
    }

    /// Whether its cache has room for this, too.
    pub(in crate::fleet) fn fits(&self, footprint: Option<Footprint>) -> bool {
        self.room.is_none_or(|room| room.fits(footprint))
    }
}

impl Pool {
    /// Backends with an idle slot; where there is none, those whose line may be joined.
    pub(in crate::fleet) fn free(&self) -> SmallVec<[Free; 4]> {
        let all_in = self.all_in();
        let list = |takes: fn(&Backend) -> bool| {
            let free = self.backends.iter();
            let free = free.filter(move |b| b.available() && takes(b));
            free.map(move |b| Free {
                id: b.id().clone(),
                room: b.room(),
                ejected: b.ejected() && !all_in,
            })
        };
        let mut free: SmallVec<[Free; 4]> = list(Backend::is_free).collect();
        if free.iter().all(Free::is_ejected) {
            free.extend(list(Backend::may_be_joined));
        }
        free
    }

    /// Whether all that are left of its backends are ejected.
    pub(in crate::fleet) fn only_ejected_but(&self, except: &[BackendId]) -> bool {
        let left = |b: &&Arc<Backend>| b.available() && !except.contains(b.id());
        self.backends.iter().filter(left).all(|b| b.ejected())
    }

    /// Whether `backend` gets requests, and has not failed this one.
    pub(super) fn is_open_to(&self, asked: Asked<'_>, backend: &Backend) -> bool {
        !asked.except.contains(backend.id()) && self.welcomes(backend)
    }

    /// The backend that may have its cache, and where it would go on.
    pub(in crate::fleet) fn home(&self, asked: Asked<'_>) -> Option<&Backend> {
        let id = asked.prefer.filter(|id| !asked.except.contains(id))?;
        let at = self.backends.iter().position(|b| b.id() == id)?;
        let home = &*self.backends[at];
        if !self.welcomes(home) || !self.keeps(home, asked.wish) {
            return None;
        }
        let warmth = &mut self.state.lock().warmth[at];
        warmth.loaded(home.comeback().losses());
        asked.wish.may_be_held(warmth).then_some(home)
    }

    /// Prompt tokens that are read because a conversation goes to another backend than `home` now, the cheapest one: its
    /// own that are not there, and those of the warm conversation that it pushes out of a slot, which is read again in its
    /// turn. Where no other has an idle slot, as much as for one that has nothing of it, and another conversation as long
    /// in its slot.
    pub(in crate::fleet) fn read_elsewhere(&self, home: &BackendId, asked: Asked<'_>) -> u64 {
        let now = Instant::now();
        let open = |b: &Backend| {
            b.id() != home
                && self.is_open_to(asked, b)
                && b.is_free()
                && b.fits(asked.wish.footprint)
        };
        let mut state = self.state.lock();
        for (backend, warmth) in self.backends.iter().zip(&mut state.warmth) {
            warmth.loaded(backend.comeback().losses());
        }
        let at = self.backends.iter().position(|b| b.id() == home);
        let saved = at.map_or(0, |at| asked.wish.saved(&state.warmth[at]));
        let all = self.backends.iter().zip(&state.warmth);
        let others = all.filter(|(b, _)| open(b)).map(|(b, warmth)| {
            let own = saved.saturating_sub(asked.wish.predicted(warmth));
            own + warmth.pushed_out(self.selection.warm_for, b.slots(), now)
        });
        others.min().unwrap_or(2 * saved)
    }

    /// The backend that has the most room in its cache of those that would take the request if all of it were
    /// free; none where reserving is not what hinders it.
    pub(in crate::fleet) fn roomiest(
        &self,
        asked: Asked<'_>,
        only: Option<&BackendId>,
    ) -> Option<BackendId> {
        let may =
            |b: &&Arc<Backend>| only.is_none_or(|only| only == b.id()) && self.is_open_to(asked, b);
        let rooms = self.backends.iter().filter(may);
        let rooms = rooms.filter_map(|b| Some((b.room()?.left(), b.id())));
        rooms
            .max_by_key(|(left, _)| *left)
            .map(|(_, id)| id.clone())
    }

    /// Tokens of the largest cache that slots share, where room is reserved on every backend.
    pub fn largest_cache(&self) -> Option<u64> {
        let totals = self.backends.iter().map(|b| Some(b.room()?.total));
        totals.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Whether turns do, or may have to once a cache has overflowed: what they take is worth learning.
    pub fn learns(&self) -> bool {
        self.backends.iter().any(|b| b.may_reserve())
    }

    /// Whether turns reserve room in the cache of one of its backends.
    pub fn reserves(&self) -> bool {
        self.backends.iter().any(|b| b.room().is_some())
    }

    /// What a turn will take of a cache, judged by those of its kind.
    pub fn expect(&self, class: Option<RequestClass>, size: Size) -> Footprint {
        self.now(|state| state.lengths.expect(class, size))
    }

    /// A turn of this kind and size was answered in full: its prompt's tokens, and those of the answer.
    pub fn learn(&self, class: Option<RequestClass>, size: Size, prompt: u64, generated: u64) {
        self.now(|state| state.lengths.learn(class, size, prompt, generated));
    }

    /// Whether a turn that `failed` has lost may go to another backend than those.
    pub fn has_other(&self, except: &[BackendId], failed: &BackendId) -> bool {
        self.has_other_that(except, failed, |_| true)
    }

    /// The same to one that can `serve` it.
    pub fn has_other_that(
        &self,
        except: &[BackendId],
        failed: &BackendId,
        serve: impl Fn(&Backend) -> bool,
    ) -> bool {
        let other = |b: &Arc<Backend>| b.id() != failed && !except.contains(b.id()) && serve(b);
        self.backends.iter().any(|b| other(b) && self.welcomes(b))
    }

    /// `backend` no longer has anything of `conversation` in its cache.
    pub fn forgets(&self, backend: &BackendId, conversation: Option<u64>) {
        if let Some(conversation) = conversation {
            self.remember(backend, |warmth| warmth.leave(conversation));
        }
    }
}
