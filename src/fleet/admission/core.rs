//! The queue's state: who waits for what, and giving places away. Changed under the lock of
//! [`Queue`](super::Queue) only.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::oneshot;

use super::drain::DrainRate;
use super::line::{Bounds, Entry, Line, NoRoom, Ticket};
use super::{Answer, Ask, Grant};
use crate::config;
use crate::fleet::backend::BackendId;
use crate::fleet::decision::Waited;
use crate::fleet::lease::{Overload, Unavailable};
use crate::fleet::pool::{NoPlace, Pool};

#[derive(Debug)]
pub(super) struct Core {
    pub(super) line: Line<Waiter>,
    pub(super) drain: DrainRate,
    pub(super) rules: config::Queue,
    /// As it is configured now.
    pub(super) pool: Weak<Pool>,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    ask: Ask,
    hold: Option<Hold>,
    ahead: usize,
    answer: oneshot::Sender<Answer>,
}

/// It waits for one backend only, for a while.
#[derive(Clone, Debug)]
struct Hold {
    backend: BackendId,
    since: Duration,
    until: Duration,
}

impl Waiter {
    fn accepts(&self, pool: &Pool, free: &[BackendId], now: Duration) -> bool {
        let only = self.hold.as_ref().filter(|hold| now < hold.until);
        let only = only.filter(|hold| pool.usable(&hold.backend).is_some());
        free.iter().any(|id| {
            !self.ask.except.contains(id)
                && only.is_none_or(|hold| hold.backend == *id)
                && (pool.usable(id)).is_none_or(|b| pool.may_wait_for(b, &self.ask.wish))
        })
    }
}

/// Grants nobody took; dropping them gives their places to others, and must wait until the queue is
/// no longer locked.
#[must_use]
pub(super) struct Undelivered(Vec<Answer>);

pub(super) enum Placed {
    Now(Grant),
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
        }
    }

    pub(super) fn admit(
        &mut self,
        pool: &Pool,
        ask: Ask,
        goes_on: bool,
        now: Duration,
    ) -> Result<Placed, Unavailable> {
        let hold = self.hold(pool, &ask, now);
        // The turns of a session keep their order.
        let waits = !goes_on && !self.line.is_empty() && self.line.has_session(&ask.wish.caller);
        if hold.is_none() && !waits {
            match pool.choose_free(ask.asked()) {
                Ok(grant) => return Ok(Placed::Now(grant.into())),
                Err(NoPlace::Unavailable(why)) => return Err(why),
                Err(NoPlace::AllTaken) => self.drain.all_taken(now),
            }
        }
        self.enqueue(ask, hold, goes_on, now)
    }

    fn enqueue(
        &mut self,
        ask: Ask,
        hold: Option<Hold>,
        goes_on: bool,
        now: Duration,
    ) -> Result<Placed, Unavailable> {
        let (tell, answer) = oneshot::channel();
        let caller = ask.wish.caller;
        let until = hold.as_ref().map(|hold| hold.until);
        let waiter = Waiter {
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
            if let Some(evicted) = evicted {
                // An error: nothing is lost if nobody takes it.
                let _ = evicted.answer.send(Err(self.busy(Overload::Share, now)));
            }
            ticket
        };
        Ok(Placed::Later {
            ticket,
            answer,
            hold: until,
        })
    }

    pub(super) fn busy(&self, reason: Overload, now: Duration) -> Unavailable {
        Unavailable::Busy {
            reason,
            retry_after: self.drain.time_for(self.line.len() + 1, now),
        }
    }

    /// Whether the request had better wait for the backend that has its cache.
    fn hold(&self, pool: &Pool, ask: &Ask, now: Duration) -> Option<Hold> {
        let home = ask.prefer.as_ref().filter(|id| !ask.except.contains(id))?;
        let backend = pool.usable(home).filter(|backend| !backend.is_free())?;
        if !pool.keeps(backend, &ask.wish) {
            return None;
        }
        let holds = |entry: &&Entry<Waiter>| {
            let hold = entry.item.hold.as_ref();
            hold.is_some_and(|hold| hold.backend == *home)
        };
        let before = self.line.iter().filter(holds).count();
        let saved = pool.saved(home, &ask.wish);
        let slots = backend.slots().unwrap_or(1);
        let worth = backend.pace().worth_waiting(saved, before, slots);
        let longest = worth.min(self.rules.affinity_wait);
        (!longest.is_zero()).then(|| Hold {
            backend: home.clone(),
            since: now,
            until: now + longest,
        })
    }

    /// Gives free places to those whose turn it is.
    pub(super) fn pump(&mut self, now: Duration) -> Undelivered {
        let mut undelivered = Undelivered::none();
        if self.line.is_empty() {
            self.drain.place_left(now);
            return undelivered;
        }
        let Some(pool) = self.pool.upgrade() else {
            return undelivered;
        };
        self.line.age(now, self.rules.batch_after);
        loop {
            let free = pool.free();
            if free.is_empty() {
                return undelivered;
            }
            let Some(entry) = self.line.take(|w| w.accepts(&pool, &free, now)) else {
                self.drain.place_left(now);
                return undelivered;
            };
            match pool.choose_free(entry.item.ask.asked()) {
                Ok((lease, mut decision)) => {
                    decision.waited = Some(waited(&entry, now));
                    let grant = Ok(Grant { lease, decision });
                    undelivered.0.extend(entry.item.answer.send(grant).err());
                }
                // It has changed in the meantime.
                Err(_) => {
                    self.line.put_back(entry);
                    return undelivered;
                }
            }
        }
    }
}

fn waited(entry: &Entry<Waiter>, now: Duration) -> Waited {
    let hold = entry.item.hold.as_ref();
    Waited {
        seconds: now.saturating_sub(entry.since).as_secs_f64(),
        ahead: entry.item.ahead,
        class: entry.caller.class,
        for_cache: hold.map(|hold| (hold.until - hold.since).as_secs_f64()),
    }
}
