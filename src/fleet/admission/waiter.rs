//! One that waits for a place, and what it takes.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{Answer, Ask};
use crate::fleet::backend::BackendId;
use crate::fleet::pool::{Free, Pool};

/// One that has waited so long for room in a cache that smaller ones no longer overtake it there.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) waiter: u64,
    pub(super) backend: BackendId,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) number: u64,
    pub(super) ask: Ask,
    pub(super) hold: Option<Hold>,
    /// Until when it leaves the slots of other backends than its own to whoever else wants them.
    pub(super) yields: Option<Hold>,
    pub(super) ahead: usize,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// It waits for one backend, for a while.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) backend: BackendId,
    pub(super) since: Duration,
    pub(super) until: Duration,
}

/// Which slots are given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// Of each backend to those who have its cache, and to those who have none.
    Own,
    /// What nobody wanted.
    Left,
}

impl Round {
    pub(super) const ALL: [Self; 2] = [Self::Own, Self::Left];
}

/// What is given away.
#[derive(Clone, Copy)]
pub(super) struct Offer<'a> {
    pub(super) pool: &'a Pool,
    pub(super) free: &'a [Free],
    pub(super) kept: Option<&'a Kept>,
    pub(super) round: Round,
    pub(super) now: Duration,
}

impl Waiter {
    pub(super) fn accepts(&self, offer: Offer<'_>) -> bool {
        let Offer {
            pool, free, now, ..
        } = offer;
        let yields = self.yields.as_ref().filter(|_| offer.round == Round::Own);
        let only = self.only(pool, now);
        let only = only.or_else(|| in_force(yields, pool, now));
        let kept = self.kept_from(offer.kept);
        let except = &self.ask.except;
        let is_in =
            |one: &Free| !one.is_ejected() || (!except.is_empty() && pool.only_ejected_but(except));
        free.iter().any(|one| {
            !except.contains(&one.id)
                && is_in(one)
                && only.is_none_or(|only| *only == one.id)
                && kept.is_none_or(|kept| *kept != one.id)
                && one.fits(self.ask.wish.footprint)
                && (pool.usable(&one.id)).is_none_or(|b| pool.may_wait_for(self.ask.asked(None), b))
        })
    }

    /// The backend that it waits for, for now.
    pub(super) fn only(&self, pool: &Pool, now: Duration) -> Option<&BackendId> {
        in_force(self.hold.as_ref(), pool, now)
    }

    /// The backend that is kept for somebody else.
    pub(super) fn kept_from<'a>(&self, kept: Option<&'a Kept>) -> Option<&'a BackendId> {
        kept.filter(|kept| kept.waiter != self.number)
            .map(|kept| &kept.backend)
    }
}

/// The backend of a hold that has not ended, and which can be used.
fn in_force<'a>(hold: Option<&'a Hold>, pool: &Pool, now: Duration) -> Option<&'a BackendId> {
    let hold = hold.filter(|hold| now < hold.until && pool.usable(&hold.backend).is_some());
    hold.map(|hold| &hold.backend)
}
