//! Rates, by betting (Waudby-Smith, Ramdas: "Estimating means of bounded random variables by betting",
//! 2024): evidence that a rate is above a bound, and the bound that it is the inverse of.

use serde::{Deserialize, Serialize};

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Times it did.
    pub happened: u64,
    /// Times it could have.
    pub of: u64,
}

/// Where the bettors of [`Count::evidence`] believe the rate to be, as parts of the way from the rate
/// in question to 1.
const BELIEFS: [f64; 8] = [0.002, 0.005, 0.01, 0.03, 0.08, 0.2, 0.45, 0.8];

/// Rates closer to 0 or 1 than this are taken for this.
const EXTREME: f64 = 1e-6;

impl Count {
    /// Both together.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            happened: self.happened + other.happened,
            of: self.of + other.of,
        }
    }

    /// What happened as a part of what could have.
    pub fn rate(self) -> f64 {
        self.happened as f64 / self.of.max(1) as f64
    }

    /// Evidence that the rate is above `rate`: what bettors have made of 1 on average. If it is not
    /// above it ever reaches `1/α` with a chance of at most `α` (Ville 1939), whatever the number of
    /// looks.
    pub fn evidence(self, rate: f64) -> f64 {
        let rate = rate.clamp(EXTREME, 1.0 - EXTREME);
        let missed = self.of.saturating_sub(self.happened) as f64;
        let made = BELIEFS.iter().map(|way| {
            let belief = rate + (1.0 - rate) * way;
            let won = self.happened as f64 * (belief / rate).ln();
            let lost = missed * ((1.0 - belief) / (1.0 - rate)).ln();
            // Beyond any α, and still a number.
            (won + lost).min(600.0).exp()
        });
        made.sum::<f64>() / BELIEFS.len() as f64
    }

    /// A rate that the true one is above with a chance of at most `alpha`, however often one looks.
    pub fn upper(self, alpha: f64) -> f64 {
        let opposite = Self {
            happened: self.of.saturating_sub(self.happened),
            of: self.of,
        };
        let (mut low, mut high) = (self.rate(), 1.0);
        for _ in 0..40 {
            let middle = (low + high) / 2.0;
            match opposite.evidence(1.0 - middle) >= 1.0 / alpha {
                true => high = middle,
                false => low = middle,
            }
        }
        high
    }

    /// Whether the rate is higher than that of `baseline` by more than `margin`, with a chance of at
    /// most `alpha` ever to say so wrongly.
    pub fn is_higher(self, baseline: Self, margin: f64, alpha: f64) -> bool {
        let bound = baseline.upper(alpha / 2.0) + margin;
        bound < 1.0 && self.evidence(bound) >= 2.0 / alpha
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_that_rose_is_found_and_one_that_fell_is_not() {
        let count = |happened, of| Count { happened, of };
        assert!(count(40, 400).is_higher(count(4, 400), 0.005, 0.05));
        assert!(!count(4, 400).is_higher(count(40, 400), 0.005, 0.05));
        assert!(!count(40, 400).is_higher(count(36, 400), 0.005, 0.05));
        assert!(
            !count(40, 400).is_higher(count(4, 400), 0.2, 0.05),
            "put up with"
        );
        assert!(
            !count(3, 3).is_higher(count(0, 400), 0.005, 1e-6),
            "too few"
        );
        assert!(
            !count(9, 9).is_higher(Count::default(), 0.0, 0.05),
            "nothing to compare with"
        );
    }

    /// Exactly: the chance of every sequence of ten trials, times what the bettors then have.
    #[test]
    fn the_bettors_make_nothing_of_chance() {
        for rate in [0.01, 0.2, 0.5, 0.9] {
            let fair: f64 = (0u32..1 << 10)
                .map(|outcomes| {
                    let happened = u64::from(outcomes.count_ones());
                    let chance = rate_pow(rate, happened) * rate_pow(1.0 - rate, 10 - happened);
                    chance * Count { happened, of: 10 }.evidence(rate)
                })
                .sum();
            assert!((fair - 1.0).abs() < 1e-9, "{rate}: {fair}");
        }
    }

    fn rate_pow(rate: f64, times: u64) -> f64 {
        rate.powi(i32::try_from(times).unwrap())
    }

    proptest! {
        /// The bound is above what was seen, falls with more of the same, and is wider for less risk.
        #[test]
        fn the_bound_is_a_bound(happened in 0u64..60, missed in 0u64..60) {
            let count = Count { happened, of: happened + missed };
            let ten = Count { happened: 10 * happened, of: 10 * count.of };
            let upper = count.upper(0.05);
            prop_assert!(upper >= count.rate() && upper <= 1.0);
            prop_assert!(ten.upper(0.05) <= upper + 1e-9);
            prop_assert!(count.upper(0.01) >= upper - 1e-9);
            prop_assert!(count.evidence(0.3).is_finite() && count.evidence(0.3) > 0.0);
        }
    }
}
