//! Slots that are taken by somebody else: other clients of the server, another gateway, a process of this one that only
//! finishes what it has.
//!
//! Leases tell what this gateway has there, and `/slots` what is at work. The two are not read at the same moment:
//! what begins or ends in between, or was closed and is not put down yet, looks like another's for one look. So only
//! what two looks in a row show counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Backend;
use crate::fleet::facts::Slots;

/// What this gateway has at a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::fleet) struct Own {
    /// Requests that take a slot, or wait for one inside the backend.
    taken: usize,
    /// Those of which a slot may have begun the answer.
    begun: usize,
}

impl Own {
    /// At least what there was at any moment between the two.
    pub(in crate::fleet) fn most(self, other: Self) -> Self {
        Self {
            taken: self.taken.max(other.taken),
            begun: self.begun.max(other.begun),
        }
    }

    /// Slots at work that none of these requests can account for. Where they are as many as there are slots, some may
    /// wait inside the backend: an answer that has not begun is not the one a slot generates.
    fn others(self, busy: usize, generating: usize) -> usize {
        let of_busy = busy.saturating_sub(self.taken);
        of_busy.max(generating.saturating_sub(self.begun))
    }
}

/// What the last looks have shown.
#[derive(Debug, Default)]
pub(in crate::fleet) struct Others {
    looks: Mutex<Looks>,
    /// Whether there is anything in `looks`: selections look here first.
    any: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    /// Slots of others, the newest first.
    seen: [usize; 3],
    at: Option<Instant>,
}

impl Looks {
    fn is_old(&self, now: Instant, lasts: Duration) -> bool {
        self.at.is_none_or(|at| now - at > lasts)
    }

    /// What the last `count` looks have all shown.
    fn least(&self, count: usize) -> usize {
        self.seen.iter().take(count).copied().min().unwrap_or(0)
    }
}

impl Others {
    /// A look shows so many slots of others. `lasts` is how long a look says anything. Whether more may be sent there
    /// than before.
    fn looked(&self, seen: usize, now: Instant, lasts: Duration) -> bool {
        let mut looks = self.looks.lock();
        let before = *looks;
        let [newest, older, _] = match looks.is_old(now, lasts) {
            true => [0; 3],
            false => looks.seen,
        };
        *looks = Looks {
            seen: [seen, newest, older],
            at: Some(now),
        };
        let any = looks.seen.iter().any(|seen| *seen > 0);
        self.any.store(any, Ordering::Relaxed);
        looks.least(2) < before.least(2) || looks.least(3) > before.least(3)
    }

    /// The server was away, or does not tell: what was seen says nothing any more.
    pub(super) fn forget(&self) {
        *self.looks.lock() = Looks::default();
        self.any.store(false, Ordering::Relaxed);
    }

    /// What the last `count` looks have all shown, if they are not too old.
    fn least(&self, count: usize, lasts: Duration) -> usize {
        if !self.any.load(Ordering::Relaxed) {
            return 0;
        }
        let looks = *self.looks.lock();
        match looks.is_old(Instant::now(), lasts) {
            true => 0,
            false => looks.least(count),
        }
    }
}

impl Backend {
    /// Those of them that take a slot.
    pub(in crate::fleet) fn taken(&self) -> usize {
        let beside = self.live.beside.load(Ordering::Relaxed);
        self.inflight().saturating_sub(beside)
    }

    /// Whether a request would be worked on at once, as far as is known.
    pub(in crate::fleet) fn is_free(&self) -> bool {
        let slots = self.slots();
        slots.is_none_or(|slots| self.taken() + self.others() < slots as usize)
    }

    /// Slots that others hold, as far as the last two looks agree, and as far as they are slots that this gateway
    /// could have: those beyond the configured `slots` are left to others anyway.
    pub fn others(&self) -> usize {
        self.reach(self.live.others.least(2, self.looks_last))
    }

    /// Whether others have held every slot for longer than a look, and nothing of this gateway is there: one request
    /// may wait inside it. Its line is in the order of arrival, and who never stands in it is never served.
    pub(in crate::fleet) fn may_be_joined(&self) -> bool {
        let lasting = || self.reach(self.live.others.least(3, self.looks_last));
        let full = |slots: u32| lasting() >= slots as usize;
        self.taken() == 0 && self.slots().is_some_and(full)
    }

    /// Of so many slots those that this gateway could have.
    fn reach(&self, others: usize) -> usize {
        if others == 0 {
            return 0;
        }
        let all = self.live.facts.load().total_slots.unwrap_or(0);
        let beyond = self.slots().map_or(0, |slots| all.saturating_sub(slots));
        others.saturating_sub(beyond as usize)
    }

    /// What this gateway has there now.
    pub(in crate::fleet) fn own(&self) -> Own {
        Own {
            taken: self.taken(),
            begun: self.inflight().saturating_sub(self.unbegun()),
        }
    }

    /// The slots were looked at while this gateway had at most `own` there.
    pub(in crate::fleet) fn saw_slots(&self, slots: &Slots, own: Own) {
        let seen = own.others(slots.busy().len(), slots.generating());
        if self
            .live
            .others
            .looked(seen, Instant::now(), self.looks_last)
        {
            self.offer_place();
        }
    }

    /// Its slots cannot be seen.
    pub(in crate::fleet) fn saw_nothing(&self) {
        self.live.others.forget();
    }
}

#[cfg(test)]
#[path = "others_tests.rs"]
mod tests;
