//! Tests that may be looked at after every turn.
//!
//! A test of fixed size that is looked at again and again calls chance a finding sooner or later.
//! These stay within their α over all looks together:
//!
//! * [`difference`]: a confidence sequence for the difference of two means. It is the Bayes factor of
//!   the two-sample t-test with a normal prior on the standardised effect (Gönen, Johnson, Lu,
//!   Westfall: "The Bayesian two-sample t test", 2005), which is an e-process because the t statistic
//!   is the maximal invariant of the nuisance parameters (Pérez-Ortiz, Lardy, de Heide, Grünwald:
//!   "E-statistics, group invariance and anytime-valid testing", 2024), turned round into an interval.
//!   Its variances are taken apart as in Welch's test, which costs exactness and buys safety when
//!   the newer side is smaller and noisier; `docs/speculative.md` has the measured error rates.
//! * [`Count::is_higher`]: an e-process for rates by betting, and the confidence bound that it is the
//!   inverse of (Waudby-Smith, Ramdas: "Estimating means of bounded random variables by betting", 2024).
//!   Exact for any number of trials.

use serde::{Deserialize, Serialize};

/// Standard deviation of the prior on the effect, in standard deviations of one observation: half of
/// one is what −10 % of decode speed amounts to when turns vary by 20 %.
const PRIOR: f64 = 0.5;

/// Smallest standard deviation believed. Timings are told to a microsecond and rates are logarithms:
/// what varies less is rounding.
const LEAST_DEVIATION: f64 = 1e-3;

/// Observations each side needs before anything is said: fewer do not tell their variance.
pub const BURN_IN: u64 = 8;

/// Count, mean and spread of numbers, without the numbers (Welford 1962).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    n: u64,
    mean: f64,
    /// Sum of squared distances from the mean.
    m2: f64,
}

impl Sample {
    /// Take in one number; what is not finite is left out.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.n += 1;
        let before = value - self.mean;
        self.mean += before / self.n as f64;
        self.m2 += before * (value - self.mean);
    }

    /// Both together (Chan, Golub, LeVeque 1979).
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let n = self.n + other.n;
        if n == 0 {
            return Self::default();
        }
        let apart = other.mean - self.mean;
        let part = other.n as f64 / n as f64;
        Self {
            n,
            mean: self.mean + apart * part,
            m2: self.m2 + other.m2 + apart * apart * self.n as f64 * part,
        }
    }

    /// How many.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Their mean; 0 of none.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Their variance, as an estimate; 0 of fewer than two.
    pub fn variance(&self) -> f64 {
        match self.n {
            0 | 1 => 0.0,
            n => self.m2 / (n - 1) as f64,
        }
    }

    /// Variance of the mean, with the floor of [`LEAST_DEVIATION`].
    fn error(&self) -> f64 {
        self.variance().max(LEAST_DEVIATION * LEAST_DEVIATION) / self.n as f64
    }
}

/// What a difference can be, given everything seen so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Interval {
    /// Anything: nothing is known.
    pub const ANY: Self = Self {
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
    };

    /// Whether all of it is below `bound`.
    pub fn is_below(&self, bound: f64) -> bool {
        self.high < bound
    }

    /// Whether all of it is above `bound`.
    pub fn is_above(&self, bound: f64) -> bool {
        self.low > bound
    }
}

/// The mean of `current` less that of `baseline`. The chance that the true difference is ever
/// outside, at any of arbitrarily many looks, is at most `alpha`.
pub fn difference(current: &Sample, baseline: &Sample, alpha: f64) -> Interval {
    if current.n < BURN_IN || baseline.n < BURN_IN || !(alpha > 0.0 && alpha < 1.0) {
        return Interval::ANY;
    }
    let (now, before) = (current.error(), baseline.error());
    let error = now + before;
    // Welch and Satterthwaite's degrees of freedom.
    let freedom = error * error
        / (now * now / (current.n - 1) as f64 + before * before / (baseline.n - 1) as f64);
    // The sample size that one common variance would stand for.
    let size = 1.0 / (1.0 / current.n as f64 + 1.0 / baseline.n as f64);
    let shrink = 1.0 / (1.0 + size * PRIOR * PRIOR);
    // The Bayes factor at t²/ν = x is √shrink · ((1 + x) / (1 + shrink·x))^((ν+1)/2); at the end of
    // the interval it is 1/α.
    let ratio = (1.0 / (alpha * alpha * shrink)).powf(1.0 / (freedom + 1.0));
    if ratio * shrink >= 1.0 {
        return Interval::ANY;
    }
    let x = (ratio - 1.0) / (1.0 - ratio * shrink);
    let half = (x * freedom * error).sqrt();
    let apart = current.mean - baseline.mean;
    Interval {
        low: apart - half,
        high: apart + half,
    }
}

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

    fn sample(values: &[f64]) -> Sample {
        let mut sample = Sample::default();
        values.iter().for_each(|value| sample.push(*value));
        sample
    }

    /// The closed form is the inverse of the Bayes factor as published.
    #[test]
    fn the_interval_ends_where_the_bayes_factor_says() {
        let values = |shift: f64| {
            (0..40)
                .map(|n| shift + f64::from(n % 7))
                .collect::<Vec<_>>()
        };
        let (a, b) = (sample(&values(1.0)), sample(&values(0.0)));
        let alpha = 0.05;
        let interval = difference(&a, &b, alpha);
        // Equal sizes and variances: Welch's freedom is n₁ + n₂ − 2 and both errors are pooled.
        let (size, freedom) = (20.0, 78.0);
        let deviation = a.variance().sqrt();
        for end in [interval.low, interval.high] {
            let t = (a.mean() - b.mean() - end) / (deviation / f64::sqrt(size));
            let spread = 1.0 + size * PRIOR * PRIOR;
            let density = |scale: f64| {
                (1.0 + t * t / (freedom * scale)).powf(-(freedom + 1.0) / 2.0) / scale.sqrt()
            };
            let factor = density(spread) / density(1.0);
            assert!((factor * alpha - 1.0).abs() < 1e-6, "{factor}");
        }
    }

    #[test]
    fn nothing_is_said_of_a_few() {
        let few = sample(&[1.0; 7]);
        let many = sample(&[2.0; 100]);
        assert_eq!(difference(&few, &many, 0.05), Interval::ANY);
        assert!(difference(&sample(&[1.0; 50]), &many, 0.05).is_below(-0.9));
    }

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
        #[test]
        fn merging_is_as_if_they_had_come_together(
            a in prop::collection::vec(-1e3..1e3, 0..40),
            b in prop::collection::vec(-1e3..1e3, 0..40),
        ) {
            let whole = sample(&[a.as_slice(), b.as_slice()].concat());
            let merged = sample(&a).merged(&sample(&b));
            prop_assert_eq!(whole.n(), merged.n());
            prop_assert!((whole.mean() - merged.mean()).abs() < 1e-6);
            prop_assert!((whole.variance() - merged.variance()).abs() < 1e-3);
        }

        /// Shifting, scaling and exchanging the sides do to the interval what they do to a difference.
        #[test]
        fn the_interval_moves_with_the_data(
            a in prop::collection::vec(-1.0..1.0, 10..60),
            b in prop::collection::vec(-1.0..1.0, 10..60),
            shift in -5.0..5.0,
            scale in 1.0..9.0,
        ) {
            let plain = difference(&sample(&a), &sample(&b), 0.05);
            let moved: Vec<f64> = a.iter().map(|v| (v + shift) * scale).collect();
            let scaled: Vec<f64> = b.iter().map(|v| v * scale).collect();
            let there = difference(&sample(&moved), &sample(&scaled), 0.05);
            let back = difference(&sample(&scaled), &sample(&moved), 0.05);
            let near = |x: f64, y: f64| x == y || (x - y).abs() < 1e-6 * (1.0 + x.abs());
            prop_assert!(near((plain.low + shift) * scale, there.low));
            prop_assert!(near((plain.high + shift) * scale, there.high));
            prop_assert!(near(back.low, -there.high) && near(back.high, -there.low));
        }

        /// A smaller α is never surer.
        #[test]
        fn less_risk_is_a_wider_interval(
            a in prop::collection::vec(-1.0..1.0, 10..60),
            b in prop::collection::vec(-1.0..1.0, 10..60),
        ) {
            let (a, b) = (sample(&a), sample(&b));
            let (tight, wide) = (difference(&a, &b, 0.1), difference(&a, &b, 0.01));
            prop_assert!(wide.low <= tight.low && tight.high <= wide.high);
        }

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
