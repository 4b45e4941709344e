//! How fast places become free.

use std::time::Duration;

/// Time after which an observation counts a third.
const MEMORY: f64 = 60.0;
/// Before anything was seen, a place is thought to become free so often, in seconds.
const PRIOR: f64 = 5.0;
/// Bounds of what a client is told, in seconds.
const SOONEST: f64 = 1.0;
const LATEST: f64 = 60.0;

/// Places freed per second while all were taken; times without demand say nothing about it. Times are
/// counted from any fixed moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DrainRate {
    freed: f64,
    busy: f64,
    /// Up to when it is known, in a time of demand.
    since: Option<Duration>,
}

impl DrainRate {
    /// All places are taken.
    pub(super) fn all_taken(&mut self, now: Duration) {
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// There is a place, and nobody who wants it.
    pub(super) fn place_left(&mut self, now: Duration) {
        self.pass(now);
        self.since = None;
    }

    /// A place became free.
    pub(super) fn freed(&mut self, now: Duration) {
        if self.since.is_some() {
            self.pass(now);
            self.freed += 1.0;
        }
    }

    fn pass(&mut self, now: Duration) {
        let Some(since) = self.since.replace(now) else {
            return;
        };
        let passed = now.saturating_sub(since).as_secs_f64();
        let kept = (-passed / MEMORY).exp();
        self.freed *= kept;
        self.busy = self.busy * kept + passed;
    }

    /// Places freed per second.
    pub(super) fn per_second(&self, now: Duration) -> f64 {
        let mut this = *self;
        if this.since.is_some() {
            this.pass(now);
        }
        (this.freed + 1.0) / (this.busy + PRIOR)
    }

    /// When `places` will have become free: whole seconds, 1 to 60.
    pub(super) fn time_for(&self, places: usize, now: Duration) -> Duration {
        let seconds = places as f64 / self.per_second(now);
        Duration::from_secs(seconds.clamp(SOONEST, LATEST).ceil() as u64)
    }
}

/// A mean that follows what was seen lately.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::fleet) struct Mean(Option<f64>);

impl Mean {
    /// Part of the newest observation in the mean.
    const NEWEST: f64 = 0.2;

    pub(in crate::fleet) fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.0 = Some(match self.0 {
                None => value,
                Some(mean) => mean + Self::NEWEST * (value - mean),
            });
        }
    }

    pub(in crate::fleet) fn get(self) -> Option<f64> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_rate_is_what_is_freed_while_all_is_taken() {
        let mut rate = DrainRate::default();
        rate.all_taken(at(0.0));
        for n in 1..=400 {
            rate.freed(at(f64::from(n) * 0.5));
        }
        assert!((1.8..2.1).contains(&rate.per_second(at(200.0))));
        // An idle hour changes nothing.
        rate.place_left(at(200.0));
        assert!((1.8..2.1).contains(&rate.per_second(at(3800.0))));
        rate.all_taken(at(3800.0));
        assert_eq!(rate.time_for(20, at(3800.0)), at(11.0));
    }

    #[test]
    fn what_was_freed_without_demand_says_nothing() {
        let mut rate = DrainRate::default();
        (0..1000).for_each(|n| rate.freed(at(f64::from(n) / 1000.0)));
        assert_eq!(rate.time_for(1, at(1.0)), at(5.0));
    }

    #[test]
    fn a_fleet_that_stands_still_is_noticed() {
        let mut rate = DrainRate::default();
        rate.all_taken(at(0.0));
        assert_eq!(rate.time_for(1, at(0.0)), at(5.0));
        assert_eq!(rate.time_for(1, at(25.0)), at(30.0));
        assert_eq!(rate.time_for(100, at(0.0)), at(60.0), "bounded");
        rate.all_taken(at(1.0));
        (0..1000).for_each(|_| rate.freed(at(1.0)));
        assert_eq!(rate.time_for(1, at(1.0)), at(1.0), "bounded");
    }

    #[test]
    fn a_mean_follows() {
        let mut mean = Mean::default();
        assert_eq!(mean.get(), None);
        (0..50).for_each(|_| mean.add(10.0));
        mean.add(f64::NAN);
        assert_eq!(mean.get(), Some(10.0));
        (0..50).for_each(|_| mean.add(2.0));
        assert!(mean.get().unwrap() < 2.01);
    }
}
