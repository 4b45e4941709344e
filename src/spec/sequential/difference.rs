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

    /// What is left of it when a part that is somewhere in `other` is taken away.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            low: self.low - other.high,
            high: self.high - other.low,
        }
    }

    /// Whatever either of them has, and what is between.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
        }
    }

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
    contrast(&[(1.0, current), (-1.0, baseline)], alpha)
}

/// Half the sum of two differences, each of the first less the second: what a crossover comes to, where what
/// favours one place adds to the one difference what it takes from the other. A contrast of four means is
/// tested as that of two is: one coefficient of a linear model, the others and the spread being nuisances.
pub fn crossed(one: (&Sample, &Sample), other: (&Sample, &Sample), alpha: f64) -> Interval {
    let parts = [(0.5, one.0), (-0.5, one.1), (0.5, other.0), (-0.5, other.1)];
    contrast(&parts, alpha)
}

/// Sum of means, each times its weight.
fn contrast(parts: &[(f64, &Sample)], alpha: f64) -> Interval {
    if !parts.iter().all(|(_, sample)| sample.n() >= BURN_IN) {
        return Interval::ANY;
    }
    let least = LEAST_DEVIATION * LEAST_DEVIATION;
    let variances = parts.iter().map(|(_, sample)| sample.variance());
    let variance = variances.fold(least, f64::max);
    let lopsided = LOPSIDED * skewness(parts);
    let mut found = Estimate::default();
    for (weight, sample) in parts {
        let n = sample.n() as f64;
        let unit = weight * weight / n;
        let error = unit * variance * (1.0 + lopsided / n.sqrt());
        found.mean += weight * sample.mean();
        found.unit += unit;
        found.error += error;
        found.spread += error * error / (n - 1.0);
    }
    found.interval(alpha)
}

/// How much lower or higher the first of each pair is, if by as much in all of them: the mean of the differences,
/// weighted by what each is worth (its coefficient in a linear model with a mean for each pair). Where the
/// differences differ it is the mean of them all the same: if that is below a bound, some of them is.
pub fn pooled<'a>(pairs: impl Iterator<Item = (&'a Sample, &'a Sample)>, alpha: f64) -> Interval {
    let mut found = Estimate::default();
    let (mut worth, mut sum) = (0.0, 0.0);
    for (current, baseline) in pairs.filter(|(a, b)| a.n().min(b.n()) >= BURN_IN) {
        let least = LEAST_DEVIATION * LEAST_DEVIATION;
        let variance = current.variance().max(baseline.variance()).max(least);
        let lopsided = LOPSIDED * skewness(&[(1.0, current), (-1.0, baseline)]);
        let (n, m) = (current.n() as f64, baseline.n() as f64);
        let weight = 1.0 / (1.0 / n + 1.0 / m);
        worth += weight;
        sum += weight * (current.mean() - baseline.mean());
        for n in [n, m] {
            let error = weight * weight * variance * (1.0 + lopsided / n.sqrt()) / n;
            found.error += error;
            found.spread += error * error / (n - 1.0);
        }
    }
    if worth <= 0.0 {
        return Interval::ANY;
    }
    found.mean = sum / worth;
    found.unit = 1.0 / worth;
    found.error /= worth * worth;
    found.spread /= worth.powi(4);
    found.interval(alpha)
}

/// What is known of a sum of means.
#[derive(Clone, Copy, Debug, Default)]
struct Estimate {
    mean: f64,
    /// Its variance if one observation had a variance of 1.
    unit: f64,
    /// Its variance.
    error: f64,
    /// What Welch's and Satterthwaite's degrees of freedom are `error²` of.
    spread: f64,
}

impl Estimate {
    fn interval(self, alpha: f64) -> Interval {
        if !(alpha > 0.0 && alpha < 1.0) {
            return Interval::ANY;
        }
        let freedom = self.error * self.error / self.spread;
        // The sample size that one common variance would stand for.
        let size = 1.0 / self.unit;
        let shrink = 1.0 / (1.0 + size * PRIOR * PRIOR);
        // The Bayes factor at t²/ν = x is √shrink · ((1 + x) / (1 + shrink·x))^((ν+1)/2); at the end of
        // the interval it is 1/α.
        let ratio = (1.0 / (alpha * alpha * shrink)).powf(1.0 / (freedom + 1.0));
        if ratio * shrink >= 1.0 {
            return Interval::ANY;
        }
        let x = (ratio - 1.0) / (1.0 - ratio * shrink);
        let half = (x * freedom * self.error).sqrt();
        Interval {
            low: self.mean - half,
            high: self.mean + half,
        }
    }
}

/// How lopsided what all of them are drawn from is, as the one with most of it tells.
fn skewness(parts: &[(f64, &Sample)]) -> f64 {
    let most = parts.iter().map(|(_, sample)| sample.n()).max();
    let longest = parts.iter().filter(|(_, sample)| Some(sample.n()) == most);
    longest.fold(0.0, |worst, (_, sample)| sample.skewness().abs().max(worst))
}

#[cfg(test)]
mod tests;
