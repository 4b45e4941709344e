//! Asking a second backend while the first stays silent: when, where, and of how many turns.

use std::sync::Arc;

use tokio::time::Instant;

use super::Pool;
use crate::fleet::admission::{Ask, Grant};
use crate::fleet::backend::{Backend, BackendId};
use crate::fleet::wish::Wish;

/// Most hedged turns that are saved up.
const MOST: f64 = 4.0;

/// A bound on how many turns are hedged: a token bucket that turns fill. The first is free, so that small shares and
/// quiet pools have one at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance(f64);

impl Default for Allowance {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Allowance {
    /// A turn begins.
    pub(super) fn earn(&mut self, share: f64) {
        self.0 = (self.0 + share).min(MOST);
    }

    fn is_left(&self) -> bool {
        // Shares are sums of fractions: one that is a hair below 1 is 1.
        self.0 >= 1.0 - 1e-9
    }

    /// One is to be hedged; false where that would be too many.
    pub(super) fn spend(&mut self) -> bool {
        let may = self.is_left();
        if may {
            self.0 -= 1.0;
        }
        may
    }
}

impl Pool {
    /// A turn begins of which this share may be hedged.
    pub fn earn_hedge(&self, share: f64) {
        self.now(|state| state.hedges.earn(share));
    }

    /// Whether one turn more may be; nothing is spent yet.
    pub fn may_hedge(&self) -> bool {
        self.now(|state| state.hedges.is_left())
    }

    /// Whether one turn more may be.
    pub fn spend_hedge(&self) -> bool {
        self.now(|state| state.hedges.spend())
    }

    /// A place beside the one a turn has, where nobody waits for it.
    pub fn spare(&self, ask: &Ask) -> Option<Grant> {
        let asked = ask.asked(None);
        let idle = |b: &Arc<Backend>| b.is_free() && self.is_open_to(asked, b);
        if self.queue.is_waited_in() || !self.backends.iter().any(idle) {
            return None;
        }
        self.choose_free(asked).ok().map(Grant::from)
    }

    /// Seconds in which `backend` should have read so many tokens, those who are read there at the same time
    /// considered; by its own measured speed, or that of others of the pool. None where none was measured.
    pub fn time_to_read(&self, backend: &Backend, tokens: u64) -> Option<f64> {
        let rate = || {
            let rates = self.backends.iter().filter_map(|b| b.pace().rate());
            let (sum, count) = rates.fold((0.0, 0.0), |(sum, n), rate| (sum + rate, n + 1.0));
            (count > 0.0).then(|| sum / count)
        };
        let rate = backend.pace().rate().or_else(rate)?;
        let together = 1 + backend.unbegun();
        Some(tokens as f64 * together as f64 / rate.max(1.0))
    }

    /// The conversation of `wish` is read at `to` and no longer at `from`.
    pub fn moved(&self, wish: &Wish, from: &BackendId, to: &BackendId) {
        let Some(begun) = wish.begun() else {
            return;
        };
        let now = Instant::now();
        let slots = self.backends.iter().find(|b| b.id() == to);
        let slots = slots.and_then(|b| b.slots());
        self.remember(from, |warmth| warmth.leave(begun.conversation));
        self.remember(to, |warmth| {
            warmth.place(begun, slots, now);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_their_share_are_hedged_whatever_comes() {
        let mut allowance = Allowance::default();
        let mut hedged = 0;
        for _ in 0..1000 {
            allowance.earn(0.05);
            hedged += u32::from(allowance.spend());
        }
        assert_eq!(hedged, 51, "50, and the first");
        (0..1000).for_each(|_| allowance.earn(0.05));
        let burst = (0..100).filter(|_| allowance.spend()).count();
        assert_eq!(burst, MOST as usize, "little is saved up");
    }
}
