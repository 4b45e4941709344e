//! A place on a backend, and why there is none.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{Backend, Failure};
use super::breaker::Ticket;
use super::doubt::Doubt;
use super::kv::{Footprint, Reservation};
use super::state::Transition;
pub use crate::turn::Overload;

/// What a request needs of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A slot.
    Slot,
    /// An answer that takes no slot, such as a count of tokens.
    Beside,
}

/// A place on a backend for one request. Dropping it gives the place back, however the request ended,
/// and whoever waits for one gets it.
#[derive(Debug)]
pub struct Lease {
    backend: Arc<Backend>,
    place: Place,
    since: Instant,
    /// It was given back already.
    returned: bool,
    /// With which it tells how the request went; what takes no slot says nothing about the work of one.
    ticket: Option<Ticket>,
    /// How the request failed is told, or with a [`Doubt`].
    judged: AtomicBool,
    /// It has failed: how long it was here says nothing about how long slots are taken.
    failed: AtomicBool,
    /// Of a cache that the backend's slots share.
    reserved: Option<Reservation>,
}

impl Lease {
    pub(super) fn new(backend: Arc<Backend>, place: Place, footprint: Option<Footprint>) -> Self {
        backend.enter(place);
        let room = (place == Place::Slot).then(|| backend.room()).flatten();
        let reserved = room.zip(footprint).map(|(room, footprint)| {
            Reservation::new(backend.cache(), footprint, room.total, room.drafts)
        });
        let ticket = (place == Place::Slot).then(|| backend.breaker_enters());
        Self {
            backend,
            place,
            since: Instant::now(),
            returned: false,
            ticket,
            judged: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            reserved,
        }
    }

    /// Tells that the request failed because of the backend (never call it for errors of the client).
    pub fn observe_failure(&self, failure: Failure) -> Option<Transition> {
        self.failed.store(true, Ordering::Relaxed);
        if failure != Failure::Loading
            && let Some(ticket) = self.unjudged()
        {
            self.backend.breaker_failed(ticket);
        }
        self.backend.observe_failure(failure)
    }

    /// Tells that the backend answered with an error that may be the request's own fault. `said`: part of an answer
    /// came before.
    pub fn observe_error(&self, said: bool) -> Doubt {
        self.failed.store(true, Ordering::Relaxed);
        Doubt::new(Arc::clone(&self.backend), self.unjudged(), said)
    }

    /// One failure is told once, whatever else comes of it.
    fn unjudged(&self) -> Option<Ticket> {
        self.ticket
            .filter(|_| !self.judged.swap(true, Ordering::Relaxed))
    }

    /// Tells that the answer has begun. Who tries an ejected backend need not wait for its end.
    pub fn observe_begun(&self) {
        if let Some(ticket) = self.ticket.filter(|ticket| ticket.is_on_trial()) {
            self.backend.breaker_begun(ticket);
        }
    }

    /// Tells that the request was answered.
    pub fn observe_success(&self) {
        if let Some(ticket) = self.ticket {
            self.backend.breaker_succeeded(ticket);
        }
        self.backend.observe_success();
    }

    /// Whether it holds part of a cache that others need, and [`Self::occupies`] is of use.
    pub fn reserves(&self) -> bool {
        self.reserved.is_some()
    }

    /// Tells how much of the cache it really takes: the prompt's tokens, once the backend has counted them, and
    /// those generated so far.
    pub fn occupies(&self, prompt: Option<u64>, generated: u64) {
        let Some(reserved) = &self.reserved else {
            return;
        };
        if reserved.correct(self.backend.cache(), prompt, generated) {
            self.backend.offer_place();
        }
    }

    /// Whether more is held of the cache than there is.
    pub fn is_over(&self) -> bool {
        let room = self.backend.room().filter(|_| self.reserves());
        room.is_some_and(|room| room.held > room.total)
    }

    /// Tells that its answer was lost because the cache overflowed. That is no fault of this request nor of the
    /// backend's health, and one fault however many answers it takes.
    pub fn observe_overflow(&self) {
        self.backend.observe_overflow(self.since);
    }

    /// Gives the place back without offering it to those who wait: the caller does that.
    pub(super) fn give_back(mut self) {
        self.leave();
    }

    fn leave(&mut self) -> bool {
        let left = !std::mem::replace(&mut self.returned, true);
        if left {
            if let Some(ticket) = self.unjudged() {
                self.backend.trial_ends(ticket);
            }
            if let Some(reserved) = &self.reserved {
                reserved.end(self.backend.cache());
            }
            let failed = self.failed.load(Ordering::Relaxed);
            let worked = (!failed).then(|| self.since.elapsed());
            self.backend.leave(self.place, worked);
        }
        left
    }
}

impl Deref for Lease {
    type Target = Arc<Backend>;

    fn deref(&self) -> &Arc<Backend> {
        &self.backend
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.leave() && self.place == Place::Slot {
            self.backend.place_freed();
        }
    }
}

/// Why no backend of a pool can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// None answers its checks.
    #[error("no backend is up")]
    AllDown {
        /// When to ask again: one of them may be back by then.
        retry_after: Duration,
    },
    /// None is up, but some are loading their model.
    #[error("the model is loading")]
    Loading {
        /// When to ask again.
        retry_after: Duration,
    },
    /// Those that are up get no new requests.
    #[error("every backend is draining")]
    Draining,
    /// Every backend that could serve was tried already.
    #[error("no other backend is left to try")]
    NoneLeft,
    /// Every slot is taken, and there is no room in the queue.
    #[error("{reason}")]
    Busy {
        /// Which bound.
        reason: Overload,
        /// When there should be room, by how fast places become free.
        retry_after: Duration,
    },
}
