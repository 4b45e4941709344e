//! A confidence sequence for the difference of two means.
//!
//! It is the Bayes factor of the two-sample t-test with a normal prior on the standardised effect
//! (Gönen, Johnson, Lu, Westfall: "The Bayesian two-sample t test", 2005), which is an e-process because
//! the t statistic is the maximal invariant of the nuisance parameters (Pérez-Ortiz, Lardy, de Heide,
//! Grünwald: "E-statistics, group invariance and anytime-valid testing", 2024), turned round into an
//! interval.
//!
//! That is exact for normal numbers of one variance. Turns are neither: a new build has few turns
//! where the old one has thousands, most are fast and some wait behind others. A few that have not met
//! the slow ones yet are both too high and too even, and believed as they are they mislead one
//! comparison in ten. So the degrees of freedom are those of Welch's test, and both sides count with the
//! larger of the two variances, enlarged where the numbers are skewed ([`LOPSIDED`]).

use std::cmp::Ordering;

use serde::Serialize;

use super::Sample;

/// Standard deviation of the prior on the effect, in standard deviations of one observation: half of
/// one is what −10 % of decode speed amounts to when turns vary by 20 %.
const PRIOR: f64 = 0.5;

/// Smallest standard deviation believed. Timings are told to a microsecond and rates are logarithms:
/// what varies less is rounding.
const LEAST_DEVIATION: f64 = 1e-3;

/// How much larger than measured the variance of `n` numbers of skewness γ is taken to be:
/// `1 + LOPSIDED·|γ|/√n`. The spread of a measured variance shrinks with √n as well; the factor is the
/// smallest whole one with which the simulation keeps α where sides are uneven, skewed, and the newer
/// one varies three times as much, for α shared out over all strata too.
const LOPSIDED: f64 = 4.0;

/// Observations each side needs before anything is said: fewer do not tell their variance.
pub const BURN_IN: u64 = 8;

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
    if current.n() < BURN_IN || baseline.n() < BURN_IN || !(alpha > 0.0 && alpha < 1.0) {
        return Interval::ANY;
    }
    let least = LEAST_DEVIATION * LEAST_DEVIATION;
    let variance = current.variance().max(baseline.variance()).max(least);
    let lopsided = LOPSIDED * skewness(current, baseline);
    // Variance of the mean of a side.
    let error = |n: f64| variance * (1.0 + lopsided / n.sqrt()) / n;
    let (n, m) = (current.n() as f64, baseline.n() as f64);
    let (now, before) = (error(n), error(m));
    let error = now + before;
    // Welch and Satterthwaite's degrees of freedom.
    let freedom = error * error / (now * now / (n - 1.0) + before * before / (m - 1.0));
    // The sample size that one common variance would stand for.
    let size = 1.0 / (1.0 / n + 1.0 / m);
    let shrink = 1.0 / (1.0 + size * PRIOR * PRIOR);
    // The Bayes factor at t²/ν = x is √shrink · ((1 + x) / (1 + shrink·x))^((ν+1)/2); at the end of
    // the interval it is 1/α.
    let ratio = (1.0 / (alpha * alpha * shrink)).powf(1.0 / (freedom + 1.0));
    if ratio * shrink >= 1.0 {
        return Interval::ANY;
    }
    let x = (ratio - 1.0) / (1.0 - ratio * shrink);
    let half = (x * freedom * error).sqrt();
    let apart = current.mean() - baseline.mean();
    Interval {
        low: apart - half,
        high: apart + half,
    }
}

/// How lopsided what both sides are drawn from is, as the side with more of it tells.
fn skewness(current: &Sample, baseline: &Sample) -> f64 {
    let of = |sample: &Sample| sample.skewness().abs();
    match current.n().cmp(&baseline.n()) {
        Ordering::Less => of(baseline),
        Ordering::Greater => of(current),
        Ordering::Equal => of(current).max(of(baseline)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample::tests::sample;
    use super::*;

    /// The closed form is the inverse of the Bayes factor as published.
    #[test]
    fn the_interval_ends_where_the_bayes_factor_says() {
        let values = |shift: f64| {
            (0..40)
                .map(|n| shift + f64::from(n % 8))
                .collect::<Vec<_>>()
        };
        let (a, b) = (sample(&values(1.0)), sample(&values(0.0)));
        let alpha = 0.05;
        let interval = difference(&a, &b, alpha);
        // Symmetric, and of equal sizes and variances: Welch's freedom is n₁ + n₂ − 2 and both errors are pooled.
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

    /// A few even turns against a long past that met the slow ones: chance, until there are more.
    #[test]
    fn a_few_even_ones_are_not_believed_against_a_long_past() {
        let past: Vec<f64> = (0..1000)
            .map(|n| if n % 10 == 0 { -2.0 } else { 0.2 })
            .collect();
        let past = sample(&past);
        let even = |n: u32| {
            let values: Vec<f64> = (0..n).map(|n| 0.2 + 0.01 * f64::from(n % 3)).collect();
            difference(&sample(&values), &past, 0.05)
        };
        assert!(!even(12).is_above(0.0));
        assert!(even(400).is_above(0.0));
    }

    proptest! {
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
    }
}
