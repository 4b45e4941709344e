//! Whether a backend gets requests, as its requests say.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Backend;
use crate::fleet::breaker::{Breaker, Changed, Ticket};
use crate::fleet::treatment::HealthEvent;

impl Backend {
    /// Whether it gets nothing because its requests failed, whatever its checks say.
    pub fn ejected(&self) -> bool {
        self.live.suspect.load(Ordering::Relaxed) && !self.breaker(|b, now| b.allows(now))
    }

    fn breaker<T>(&self, tell: impl FnOnce(&mut Breaker, Duration) -> T) -> T {
        let mut breaker = self.live.breaker.lock();
        let told = tell(&mut breaker, self.live.comeback.age());
        let suspect = !breaker.is_closed();
        self.live.suspect.store(suspect, Ordering::Relaxed);
        told
    }

    /// A request goes there, perhaps as the one on trial.
    pub(in crate::fleet) fn breaker_enters(&self) -> Ticket {
        self.breaker(Breaker::enter)
    }

    /// A request is over, with or without a verdict if it was on trial.
    pub(in crate::fleet) fn trial_ends(&self, ticket: Ticket) {
        if ticket.is_on_trial() {
            self.breaker(|breaker, now| breaker.undecided(ticket, now));
        }
    }

    /// The request on trial is over, and nobody knows whose fault its failure was.
    pub(in crate::fleet) fn trial_postponed(&self, ticket: Ticket) {
        let (patience, spread) = (self.patience, spread());
        self.breaker(|breaker, now| breaker.postponed(ticket, now, patience, spread));
    }

    pub(in crate::fleet) fn breaker_begun(&self, ticket: Ticket) {
        self.breaker_changed(|breaker, now| breaker.begun(ticket, now));
    }

    pub(in crate::fleet) fn breaker_succeeded(&self, ticket: Ticket) {
        self.breaker_changed(|breaker, now| breaker.succeeded(ticket, now));
    }

    pub(in crate::fleet) fn breaker_failed(&self, ticket: Ticket) {
        let (patience, spread) = (self.patience, spread());
        self.breaker_changed(|breaker, now| breaker.failed(ticket, now, patience, spread));
    }

    fn breaker_changed(&self, tell: impl FnOnce(&mut Breaker, Duration) -> Option<Changed>) {
        match self.breaker(tell) {
            None => {}
            Some(Changed::Ejected(length)) => {
                self.events().add(HealthEvent::Ejected);
                tracing::warn!(backend = %self.id, for_ms = length.as_millis() as u64, "ejected: its requests fail");
            }
            Some(Changed::Back(after)) => {
                tracing::info!(backend = %self.id, after_ms = after.as_millis() as u64, "no longer ejected");
                let from = "ejected";
                self.events().add(HealthEvent::Recovered { from, after });
                self.offer_place();
            }
        }
    }

    /// Whether its requests fail: it gets none, or one that tries whether they still do.
    pub fn is_suspect(&self) -> bool {
        self.live.suspect.load(Ordering::Relaxed)
    }
}

/// From 0 to 1. Random keys are all the randomness that is needed.
fn spread() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}
