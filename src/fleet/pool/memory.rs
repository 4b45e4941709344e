//! What a pool remembers of its backends' caches and of its turns.
//!
//! A reload may replace a pool while turns go on in it. What these tell belongs to the pool that has its place now, or
//! to a backend that has left with their answers and may come back.

use std::sync::Arc;

use super::{Pool, State};
use crate::fleet::backend::{Backend, BackendId};
use crate::fleet::warmth::Warmth;

impl Pool {
    /// `next` takes its place, or nobody does: what it knows of the caches of backends that are not in there goes with
    /// these.
    pub(in crate::fleet) fn leaves_behind(&self, next: Option<&Arc<Self>>) {
        if next.is_some_and(|next| std::ptr::eq(self, &**next)) {
            return;
        }
        let state = self.state.lock();
        for (backend, warmth) in self.backends.iter().zip(&state.warmth) {
            if next.is_none_or(|next| next.same(backend).is_none()) {
                backend.left_warm().lock().clone_from(warmth);
            }
        }
    }

    /// Takes the place of `before`, if there was one, and over what that knows of the caches of backends that both
    /// have; of others, what these have with them.
    pub(in crate::fleet) fn remembers(self: &Arc<Self>, before: Option<&Self>) {
        if before.is_some_and(|before| std::ptr::eq(&**self, before)) {
            return;
        }
        // Until the end, so that nothing is told to one that is no longer asked.
        let known = before.map(|before| before.state.lock());
        let mut state = self.state.lock();
        if let Some(known) = &known {
            state.lengths.clone_from(&known.lengths);
            state.hedges = known.hedges;
        }
        for (backend, warmth) in self.backends.iter().zip(&mut state.warmth) {
            let at = before.and_then(|before| before.same(backend));
            match (at, &known) {
                (Some(at), Some(known)) => warmth.clone_from(&known.warmth[at]),
                _ => *warmth = std::mem::take(&mut backend.left_warm().lock()),
            }
        }
        self.queue.is_served_by(self);
    }

    /// The pool that has taken its place.
    pub(super) fn successor(&self) -> Option<Arc<Self>> {
        let now = self.queue.server();
        now.filter(|now| !std::ptr::eq(&**now, self))
    }

    /// Asks or tells the pool that has its place now, which is itself unless it was replaced.
    pub(super) fn now<T>(&self, tell: impl FnOnce(&mut State) -> T) -> T {
        match self.successor() {
            Some(next) => tell(&mut next.state.lock()),
            None => tell(&mut self.state.lock()),
        }
    }

    /// Changes what is remembered of the cache of `backend`, wherever that is now.
    pub(super) fn remember(&self, backend: &BackendId, change: impl FnOnce(&mut Warmth)) {
        let Some(at) = self.backends.iter().position(|b| b.id() == backend) else {
            return;
        };
        match self.successor() {
            Some(next) => next.tell(&self.backends[at], change),
            None => change(&mut self.state.lock().warmth[at]),
        }
    }

    /// The same of a backend of a pool that it has replaced.
    pub(super) fn tell(&self, backend: &Backend, change: impl FnOnce(&mut Warmth)) {
        match self.same(backend) {
            Some(at) => change(&mut self.state.lock().warmth[at]),
            None => change(&mut backend.left_warm().lock()),
        }
    }

    /// Before a turn that goes on in it finds another backend: what `next`, which has its place now, has learnt since.
    pub(super) fn catches_up(&self, state: &mut State, next: &Self) {
        for (backend, warmth) in self.backends.iter().zip(&mut state.warmth) {
            next.tell(backend, |known| warmth.clone_from(known));
        }
    }

    fn same(&self, backend: &Backend) -> Option<usize> {
        self.backends.iter().position(|b| b.shares_state(backend))
    }

    /// A turn of `conversation` was answered by `backend`, which has `tokens` of it in its cache now.
    pub fn served(&self, backend: &BackendId, conversation: u64, tokens: u64) {
        self.remember(backend, |warmth| warmth.fill(conversation, tokens));
    }
}
