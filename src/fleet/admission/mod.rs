//! Admission: a request that finds every slot taken waits here instead of inside a backend, in fair
//! order, for a bounded time, and not more of them than the queue holds.
//!
//! [`line`](self::line) decides who is next, `giving` gives places away, [`drain`](self::drain) how fast places become free; both are pure. Here they meet
//! the backends: every freed place is given away under one lock, so that nobody can push in.

mod caller;
mod core;
mod drain;
mod evict;
mod giving;
mod line;
mod pace;
mod queues;
mod ring;
mod waiter;
mod waiting;

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;

pub use caller::Caller;
pub(super) use drain::Mean;
pub(super) use pace::Pace;
pub(super) use queues::Queues;
pub use waiting::Waiting;

use self::core::{Core, Placed, Undelivered};
use self::line::Ticket;
use self::waiter::Waiter;
use super::backend::BackendId;
use super::decision::Decision;
use super::lease::{Lease, Unavailable};
use super::pool::{Asked, Pool};
use super::wish::Wish;
use crate::config::{self, Priority};

/// A request for a place.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Not on these: they have failed it.
    pub except: SmallVec<[BackendId; 4]>,
    /// On this one if possible: it has what the request needs in its KV cache.
    pub prefer: Option<BackendId>,
    /// What is known of it.
    pub wish: Wish,
}

impl Ask {
    pub(super) fn asked<'a>(&'a self, kept: Option<&'a BackendId>) -> Asked<'a> {
        Asked {
            kept,
            except: &self.except,
            prefer: self.prefer.as_ref(),
            wish: &self.wish,
        }
    }
}

/// A place, and why it is there.
#[derive(Debug)]
pub struct Grant {
    /// The place.
    pub lease: Lease,
    /// Why there.
    pub decision: Decision,
}

impl From<(Lease, Decision)> for Grant {
    fn from((lease, decision): (Lease, Decision)) -> Self {
        Self { lease, decision }
    }
}

/// What became of an [`Ask`].
#[derive(Debug)]
pub enum Admitted {
    /// Here it is.
    Now(Grant),
    /// It has to wait.
    Later(Waiting),
}

type Answer = Result<Grant, Unavailable>;

/// The queue of a pool; it outlives reloads of the configuration.
#[derive(Debug)]
pub struct Queue {
    core: Mutex<Core>,
    /// The pool as it is configured now, for those of earlier configurations.
    server: Mutex<Weak<Pool>>,
    born: Instant,
}

impl Queue {
    pub(super) fn new(rules: config::Queue) -> Arc<Self> {
        Arc::new(Self {
            core: Mutex::new(Core::new(rules)),
            server: Mutex::new(Weak::new()),
            born: Instant::now(),
        })
    }

    /// How many of `class` wait.
    pub fn waiting(&self, class: Priority) -> usize {
        let core = self.core.lock();
        core.line.iter().filter(|e| e.caller.class == class).count()
    }

    /// Whether anybody waits.
    pub(super) fn is_waited_in(&self) -> bool {
        !self.core.lock().line.is_empty()
    }

    /// Whoever waits is served by this pool, and by its rules, from now on.
    pub(super) fn belongs_to(&self, pool: &Arc<Pool>) {
        self.is_served_by(pool);
        let mut core = self.core.lock();
        core.pool = Arc::downgrade(pool);
        core.rules = pool.rules().clone();
    }

    /// This is the pool as it is configured now.
    pub(super) fn is_served_by(&self, pool: &Arc<Pool>) {
        *self.server.lock() = Arc::downgrade(pool);
    }

    /// The pool as it is configured now, unless it is gone.
    pub(super) fn server(&self) -> Option<Arc<Pool>> {
        self.server.lock().upgrade()
    }

    /// A place became free.
    pub(super) fn freed(&self) {
        let now = self.born.elapsed();
        let mut core = self.core.lock();
        core.drain.freed(now);
        let undelivered = core.pump(now);
        drop(core);
        drop(undelivered);
    }

    /// There may be a free place, or somebody who takes one.
    pub(super) fn offered(&self) {
        let now = self.born.elapsed();
        let mut core = self.core.lock();
        let undelivered = core.pump(now);
        drop(core);
        drop(undelivered);
    }

    /// Takes out one that no longer waits. What was kept for it, or for the turns of its conversation behind it, may
    /// be somebody else's now.
    fn lets_go(&self, ticket: Ticket) -> Option<Waiter> {
        let now = self.born.elapsed();
        let mut core = self.core.lock();
        let left = core.remove(ticket)?;
        let undelivered = core.pump(now);
        drop(core);
        drop(undelivered);
        Some(left)
    }

    fn admit(
        self: &Arc<Self>,
        pool: &Pool,
        ask: Ask,
        held: Option<Lease>,
    ) -> Result<Admitted, Unavailable> {
        let now = self.born.elapsed();
        let mut core = self.core.lock();
        let goes_on = held.is_some();
        if let Some(held) = held {
            held.give_back();
        }
        let admitted = core.admit(pool, ask, goes_on, now);
        // What the turn gave back may be somebody else's now.
        let undelivered = match goes_on {
            true => core.pump(now),
            false => Undelivered::none(),
        };
        let timeout = core.rules.timeout;
        drop(core);
        drop(undelivered);
        admitted.map(|placed| match placed {
            Placed::Now(grant) => Admitted::Now(*grant),
            Placed::Later {
                ticket,
                answer,
                hold,
            } => Admitted::Later(Waiting {
                queue: Arc::clone(self),
                ticket,
                answer,
                hold: hold.map(|until| self.born + until.min(now + timeout)),
                until: self.born + now + timeout,
                timeout,
            }),
        })
    }
}

impl Pool {
    /// A place for a request, at once or as soon as there is one. `held` is the place of the turn's last
    /// attempt: it is given back, and a turn that goes on goes first.
    ///
    /// # Errors
    /// Why there is none and will be none.
    pub fn admit(&self, ask: Ask, held: Option<Lease>) -> Result<Admitted, Unavailable> {
        if ask.wish.beside {
            drop(held);
            return self
                .choose(ask.asked(None))
                .map(|grant| Admitted::Now(grant.into()));
        }
        self.queue().admit(self, ask, held)
    }
}

#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod tests;
