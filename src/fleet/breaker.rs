//! Ejecting a backend whose requests fail although its checks are good. No clock, no socket: times are
//! counted from any fixed moment.
//!
//! So many failures in a row eject it. Then it gets a single request on trial: the first word of its answer brings
//! the backend back, its failure ejects it for twice as long. Until one answer is complete a single failure does so,
//! too: a backend that always breaks off in the middle is not let in again and again for the same short time.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::Health;

/// When to eject, and for how long, as configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) after: NonZeroU32,
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Patience {
    pub(super) fn of(health: &Health) -> Self {
        Self {
            after: health.eject_after,
            first: health.eject_for,
            longest: health.eject_for_max,
        }
    }

    /// The `n`-th ejection in a row; `spread` from 0 to 1 keeps gateways from trying all at once.
    fn length(self, n: u32, spread: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << n.min(16));
        doubled.min(self.longest).mul_f64(0.5 + spread / 2.0)
    }
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    state: State,
    /// Trials so far: what was sent before the last one began says nothing about the backend since.
    trials: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// It gets requests.
    Closed {
        /// In a row.
        failures: u32,
    },
    /// It gets none.
    Open {
        since: Duration,
        until: Duration,
        /// Ejections in a row, the first is 0.
        again: u32,
    },
    /// A request is on trial.
    Trial { since: Duration, again: u32 },
    /// The request on trial is being answered: it gets requests, and no failure is forgiven.
    Proving { again: u32 },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// What a request that goes to a backend shows when it tells how that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The last trial that had begun by then.
    trial: u64,
    /// It is that one.
    on_trial: bool,
}

impl Ticket {
    /// Whether its request tries an ejected backend.
    pub(super) fn is_on_trial(self) -> bool {
        self.on_trial
    }
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// It gets nothing for so long.
    Ejected(Duration),
    /// It is back, after so long.
    Back(Duration),
}

impl Breaker {
    /// Whether it gets requests like any other.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. } | State::Proving { .. })
    }

    /// Whether a request may go there.
    pub(super) fn allows(&self, now: Duration) -> bool {
        match self.state {
            State::Closed { .. } | State::Proving { .. } => true,
            State::Open { until, .. } => now >= until,
            State::Trial { .. } => false,
        }
    }

    /// A request goes there, perhaps as the one on trial.
    pub(super) fn enter(&mut self, now: Duration) -> Ticket {
        let mut on_trial = false;
        if let State::Open {
            since,
            until,
            again,
        } = self.state
            && now >= until
        {
            self.state = State::Trial { since, again };
            self.trials += 1;
            on_trial = true;
        }
        Ticket {
            trial: self.trials,
            on_trial,
        }
    }

    /// The request on trial ended without saying anything about the backend: another one may try.
    pub(super) fn undecided(&mut self, ticket: Ticket, now: Duration) {
        self.reopen(ticket, now);
    }

    /// The request on trial failed, and nobody can tell whose fault that was: another one may try, later.
    pub(super) fn postponed(
        &mut self,
        ticket: Ticket,
        now: Duration,
        patience: Patience,
        spread: f64,
    ) {
        if let State::Trial { again, .. } = self.state {
            self.reopen(ticket, now + patience.length(again, spread));
        }
    }

    fn reopen(&mut self, ticket: Ticket, until: Duration) {
        if let State::Trial { since, again } = self.state
            && self.is_decided_by(ticket)
        {
            self.state = State::Open {
                since,
                until,
                again,
            };
        }
    }

    /// The answer of a request has begun: that is enough for one on trial.
    pub(super) fn begun(&mut self, ticket: Ticket, now: Duration) -> Option<Changed> {
        match self.state {
            State::Trial { since, again } if self.is_decided_by(ticket) => {
                self.state = State::Proving { again };
                Some(Changed::Back(now.saturating_sub(since)))
            }
            _ => None,
        }
    }

    /// A request was answered in full.
    pub(super) fn succeeded(&mut self, ticket: Ticket, now: Duration) -> Option<Changed> {
        let back = self.begun(ticket, now);
        if self.is_closed() && ticket.trial == self.trials {
            self.state = State::default();
        }
        back
    }

    /// A request failed because of the backend.
    pub(super) fn failed(
        &mut self,
        ticket: Ticket,
        now: Duration,
        patience: Patience,
        spread: f64,
    ) -> Option<Changed> {
        if ticket.trial != self.trials {
            return None;
        }
        let (since, again) = match self.state {
            State::Closed { failures } if failures + 1 < patience.after.get() => {
                self.state = State::Closed {
                    failures: failures + 1,
                };
                return None;
            }
            State::Closed { .. } => (now, 0),
            State::Proving { again } => (now, again.saturating_add(1)),
            State::Trial { since, again } if ticket.on_trial => (since, again.saturating_add(1)),
            State::Open { .. } | State::Trial { .. } => return None,
        };
        let length = patience.length(again, spread);
        self.state = State::Open {
            since,
            until: now + length,
            again,
        };
        Some(Changed::Ejected(length))
    }

    /// Whether the request with this ticket is the one on trial now.
    fn is_decided_by(&self, ticket: Ticket) -> bool {
        ticket.on_trial && ticket.trial == self.trials
    }
}

#[cfg(test)]
mod tests;
