//! The queue's state: who waits for what. Changed under the lock of [`Queue`](super::Queue) only.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::oneshot;

use super::caller::Caller;
use super::drain::DrainRate;
use super::line::{Bounds, Line, NoRoom, Ticket};
use super::waiter::{Hold, Kept, Waiter};
use super::{Answer, Ask, Grant};
use crate::config;
use crate::fleet::backend::{Backend, BackendId};
use crate::fleet::lease::{Overload, Unavailable};
use crate::fleet::pool::{NoPlace, Pool};

#[derive(Debug)]
pub(super) struct Core {
    pub(super) line: Line<Waiter>,
    pub(super) drain: DrainRate,
    pub(super) rules: config::Queue,
    /// As it is configured now.
    pub(super) pool: Weak<Pool>,
    /// For whom a cache is left to empty itself.
    pub(super) kept: Option<Kept>,
    waiters: u64,
    /// How many wait for each backend only.
    holds: HashMap<BackendId, usize>,
}

/// Grants nobody took; dropping them gives their places to others, and must wait until the queue is
/// no longer locked.
#[must_use]
pub(super) struct Undelivered(pub(super) Vec<Answer>);

/// What a waiter does for the sake of caches: its own, and those of others.
struct Holds {
    hold: Option<Hold>,
    yields: Option<Hold>,
}

pub(super) enum Placed {
    Now(Box<Grant>),
    Later {
        ticket: Ticket,
        answer: oneshot::Receiver<Answer>,
        /// Until when it waits for one backend only.
        hold: Option<Duration>,
    },
}

impl Undelivered {
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }
}

impl Core {
    pub(super) fn new(rules: config::Queue) -> Self {
        Self {
            line: Line::new(),
            drain: DrainRate::default(),
            rules,
            pool: Weak::new(),
            kept: None,
            waiters: 0,
            holds: HashMap::new(),
        }
    }

    pub(super) fn admit(
        &mut self,
        pool: &Pool,
        ask: Ask,
        goes_on: bool,
        now: Duration,
    ) -> Result<Placed, Unavailable> {
        let home = pool.home(ask.asked(None));
        let hold = home.and_then(|home| self.hold(pool, home, &ask, now));
        let yields = home.map(|home| self.yields(home, now));
        // The turns of a conversation keep their order; another of the session may take what one leaves that waits for
        // its cache.
        let waits = !goes_on && !self.line.is_empty() && self.line.has_conversation(&caller(&ask));
        if hold.is_none() && !waits {
            let kept = self.kept.as_ref().filter(|_| !goes_on);
            let kept = kept.map(|kept| &kept.backend);
            match pool.choose_free(ask.asked(kept)) {
                Ok(grant) => return Ok(Placed::Now(Box::new(grant.into()))),
                Err(NoPlace::Unavailable(why)) => return Err(why),
                Err(NoPlace::AllTaken) => self.drain.all_taken(now),
            }
        }
        self.enqueue(ask, Holds { hold, yields }, goes_on, now)
    }

    fn enqueue(
        &mut self,
        ask: Ask,
        Holds { hold, yields }: Holds,
        goes_on: bool,
        now: Duration,
    ) -> Result<Placed, Unavailable> {
        let (tell, answer) = oneshot::channel();
        let caller = caller(&ask);
        let until = hold.as_ref().map(|hold| hold.until);
        let held = hold.as_ref().map(|hold| hold.backend.clone());
        self.waiters += 1;
        let waiter = Waiter {
            number: self.waiters,
            yields,
            ask,
            hold,
            ahead: self.line.len(),
            answer: tell,
        };
        let ticket = if goes_on {
            self.line.push_returning(caller, now, waiter)
        } else {
            let bounds = Bounds {
                waiting: self.rules.max_waiting,
                bytes: self.rules.max_bytes.as_u64(),
            };
            let pushed = self.line.push(caller, now, waiter, bounds);
            let (ticket, evicted) = pushed.map_err(|why| {
                self.busy(
                    match why {
                        NoRoom::Full => Overload::Full,
                        NoRoom::Share => Overload::Share,
                    },
                    now,
                )
            })?;
            for evicted in evicted {
                self.left(&evicted);
                // An error: nothing is lost if nobody takes it.
                let _ = evicted.answer.send(Err(self.busy(Overload::Share, now)));
            }
            ticket
        };
        if let Some(backend) = held {
            *self.holds.entry(backend).or_default() += 1;
        }
        Ok(Placed::Later {
            ticket,
            answer,
            hold: until,
        })
    }

    /// Takes out one that no longer waits.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.line.remove(ticket)?;
        self.left(&waiter);
        Some(waiter)
    }

    pub(super) fn left(&mut self, waiter: &Waiter) {
        let kept = self.kept.as_ref();
        if kept.is_some_and(|kept| kept.waiter == waiter.number) {
            self.kept = None;
        }
        let Some(hold) = &waiter.hold else { return };
        if let Some(count) = self.holds.get_mut(&hold.backend) {
            *count -= 1;
            if *count == 0 {
                self.holds.remove(&hold.backend);
            }
        }
    }

    pub(super) fn busy(&self, reason: Overload, now: Duration) -> Unavailable {
        Unavailable::Busy {
            reason,
            retry_after: self.drain.time_for(self.line.len() + 1, now),
        }
    }

    /// Whether the request had better wait for `home`, which has its cache.
    fn hold(&self, pool: &Pool, home: &Backend, ask: &Ask, now: Duration) -> Option<Hold> {
        if home.is_free() && home.fits(ask.wish.footprint) {
            return None;
        }
        let before = self.holds.get(home.id()).copied().unwrap_or(0);
        let slots = home.slots().unwrap_or(1);
        let tokens = pool.read_elsewhere(home.id(), ask.asked(None));
        let most = self.rules.affinity_wait;
        let longest = home.pace().worth_waiting(tokens, before, slots, most);
        (!longest.is_zero()).then(|| Hold {
            backend: home.id().clone(),
            since: now,
            until: now + longest,
        })
    }

    /// As long as it might wait for its cache it does not push others out of theirs, even where its own wait is over.
    fn yields(&self, home: &Backend, now: Duration) -> Hold {
        Hold {
            backend: home.id().clone(),
            since: now,
            until: now + self.rules.affinity_wait,
        }
    }
}

fn caller(ask: &Ask) -> Caller {
    Caller {
        conversation: ask.wish.conversation,
        ..ask.wish.caller
    }
}
