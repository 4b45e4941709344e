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
    pub(super) ahead: usize,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// It waits for one backend only, for a while.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) backend: BackendId,
    pub(super) since: Duration,
    pub(super) until: Duration,
}

impl Waiter {
    pub(super) fn accepts(
        &self,
        pool: &Pool,
        free: &[Free],
        kept: Option<&Kept>,
        now: Duration,
    ) -> bool {
        let only = self.only(pool, now);
        let kept = self.kept_from(kept);
        free.iter().any(|one| {
            !self.ask.except.contains(&one.id)
                && only.is_none_or(|only| *only == one.id)
                && kept.is_none_or(|kept| *kept != one.id)
                && one.fits(self.ask.wish.footprint)
                && (pool.usable(&one.id)).is_none_or(|b| pool.may_wait_for(b, &self.ask.wish))
        })
    }

    /// The backend that it waits for, for now.
    pub(super) fn only(&self, pool: &Pool, now: Duration) -> Option<&BackendId> {
        let hold = self.hold.as_ref().filter(|hold| now < hold.until);
        let hold = hold.filter(|hold| pool.usable(&hold.backend).is_some());
        hold.map(|hold| &hold.backend)
    }

    /// The backend that is kept for somebody else.
    pub(super) fn kept_from<'a>(&self, kept: Option<&'a Kept>) -> Option<&'a BackendId> {
        kept.filter(|kept| kept.waiter != self.number)
            .map(|kept| &kept.backend)
    }
}
