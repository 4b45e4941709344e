//! Ejecting a backend whose requests fail although its checks are good. No clock, no socket: times are
//! counted from any fixed moment.
//!
//! So many failures in a row eject it. Then it gets a single request on trial: its success brings the backend
//! back, its failure ejects it for twice as long.

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
#[derive(Clone, Copy, Debug)]
pub(super) enum Breaker {
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
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
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
    /// Whether nothing speaks against it.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// Whether a request may go there.
    pub(super) fn allows(&self, now: Duration) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Open { until, .. } => now >= *until,
            Self::Trial { .. } => false,
        }
    }

    /// A request goes there; whether it is the one on trial.
    pub(super) fn enter(&mut self, now: Duration) -> bool {
        match *self {
            Self::Open {
                since,
                until,
                again,
            } if now >= until => {
                *self = Self::Trial { since, again };
                true
            }
            _ => false,
        }
    }

    /// The request on trial ended without saying anything about the backend: another one may try.
    pub(super) fn undecided(&mut self, now: Duration) {
        if let Self::Trial { since, again } = *self {
            *self = Self::Open {
                since,
                until: now,
                again,
            };
        }
    }

    /// A request was answered. Of an ejected backend only the trial's word counts.
    pub(super) fn succeeded(&mut self, on_trial: bool, now: Duration) -> Option<Changed> {
        match *self {
            Self::Closed { .. } => *self = Self::default(),
            Self::Trial { since, .. } if on_trial => {
                *self = Self::default();
                return Some(Changed::Back(now.saturating_sub(since)));
            }
            Self::Open { .. } | Self::Trial { .. } => {}
        }
        None
    }

    /// A request failed because of the backend.
    pub(super) fn failed(
        &mut self,
        on_trial: bool,
        now: Duration,
        patience: Patience,
        spread: f64,
    ) -> Option<Changed> {
        let (since, again) = match *self {
            Self::Closed { failures } if failures + 1 < patience.after.get() => {
                *self = Self::Closed {
                    failures: failures + 1,
                };
                return None;
            }
            Self::Closed { .. } => (now, 0),
            Self::Trial { since, again } if on_trial => (since, again.saturating_add(1)),
            Self::Open { .. } | Self::Trial { .. } => return None,
        };
        let length = patience.length(again, spread);
        *self = Self::Open {
            since,
            until: now + length,
            again,
        };
        Some(Changed::Ejected(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        after: NonZeroU32::MIN.saturating_add(2),
        first: Duration::from_secs(1),
        longest: Duration::from_secs(10),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fails(breaker: &mut Breaker, on_trial: bool, now: Duration) -> Option<Changed> {
        breaker.failed(on_trial, now, PATIENCE, 1.0)
    }

    #[test]
    fn failures_in_a_row_eject_and_others_do_not() {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            assert_eq!(fails(&mut breaker, false, at(0)), None);
            assert_eq!(fails(&mut breaker, false, at(0)), None);
            assert_eq!(breaker.succeeded(false, at(0)), None);
        }
        assert_eq!(fails(&mut breaker, false, at(0)), None);
        assert_eq!(fails(&mut breaker, false, at(0)), None);
        assert_eq!(
            fails(&mut breaker, false, at(0)),
            Some(Changed::Ejected(at(1)))
        );
        // Those that were under way change nothing.
        assert_eq!(fails(&mut breaker, false, at(0)), None);
        assert_eq!(breaker.succeeded(false, at(0)), None);
        assert!(!breaker.allows(at(0)) && breaker.allows(at(1)));
    }

    #[test]
    fn exactly_one_request_is_on_trial_and_decides() {
        let mut breaker = Breaker::Open {
            since: at(0),
            until: at(5),
            again: 0,
        };
        assert!(!breaker.enter(at(4)));
        assert!(breaker.enter(at(5)), "on trial");
        assert!(!breaker.allows(at(9)) && !breaker.enter(at(9)), "one only");
        assert_eq!(breaker.succeeded(false, at(9)), None, "an older one");
        breaker.undecided(at(9));
        assert!(breaker.enter(at(9)), "the client of the first has left");
        assert_eq!(breaker.succeeded(true, at(12)), Some(Changed::Back(at(12))));
        assert!(breaker.allows(at(12)) && !breaker.enter(at(12)));
    }

    #[test]
    fn failed_trials_take_longer_and_longer_up_to_a_bound() {
        let mut breaker = Breaker::default();
        (0..2).for_each(|_| assert_eq!(fails(&mut breaker, false, at(0)), None));
        let mut now = at(0);
        let mut lengths = Vec::new();
        for n in 0..6 {
            let Some(Changed::Ejected(length)) = fails(&mut breaker, n > 0, now) else {
                panic!("it was ejected");
            };
            lengths.push(length.as_secs());
            now += length;
            assert!(breaker.enter(now));
        }
        assert_eq!(lengths, [1, 2, 4, 8, 10, 10]);
        assert_eq!(PATIENCE.length(1, 0.0), at(1), "spread over half of it");
    }
}
