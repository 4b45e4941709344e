//! Numbers, added up.

use serde::{Deserialize, Serialize};

use super::Count;

/// Count, mean, spread and skewness of numbers, without the numbers (Welford 1962; Pébay: "Formulas for
/// robust, one-pass parallel computation of covariances and arbitrary-order statistical moments", 2008).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    n: u64,
    mean: f64,
    /// Sum of squared distances from the mean.
    m2: f64,
    /// Sum of cubed distances from the mean.
    m3: f64,
}

impl Sample {
    /// Take in one number; what is not finite is left out.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.n += 1;
        let n = self.n as f64;
        let step = (value - self.mean) / n;
        let more = step * step * n * (n - 1.0);
        self.m3 += more * step * (n - 2.0) - 3.0 * step * self.m2;
        self.mean += step;
        self.m2 += more;
    }

    /// Both together.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let n = self.n + other.n;
        if n == 0 {
            return Self::default();
        }
        let apart = other.mean - self.mean;
        let part = other.n as f64 / n as f64;
        let own = 1.0 - part;
        let between = apart * apart * self.n as f64 * part;
        Self {
            n,
            mean: self.mean + apart * part,
            m2: self.m2 + other.m2 + between,
            m3: self.m3
                + other.m3
                + between * apart * (own - part)
                + 3.0 * apart * (own * other.m2 - part * self.m2),
        }
    }

    /// As many ones as something happened, and zeros for the other times.
    #[must_use]
    pub fn of_rate(count: Count) -> Self {
        let (n, rate) = (count.of as f64, count.rate());
        Self {
            n: count.of,
            mean: rate,
            m2: n * rate * (1.0 - rate),
            m3: n * rate * (1.0 - rate) * (1.0 - 2.0 * rate),
        }
    }

    /// What has come since it was `earlier`: [`Self::merged`] turned round.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let n = self.n.saturating_sub(earlier.n);
        if n == 0 {
            return Self::default();
        }
        let part = n as f64 / self.n as f64;
        let own = 1.0 - part;
        let apart = (self.mean - earlier.mean) / part;
        let between = apart * apart * earlier.n as f64 * part;
        // What rounding may leave below zero is none.
        let m2 = (self.m2 - earlier.m2 - between).max(0.0);
        let m3 = self.m3
            - earlier.m3
            - between * apart * (own - part)
            - 3.0 * apart * (own * m2 - part * earlier.m2);
        Self {
            n,
            mean: earlier.mean + apart,
            m2,
            m3,
        }
    }

    /// The same numbers with their signs turned.
    #[must_use]
    pub fn negated(&self) -> Self {
        Self {
            mean: -self.mean,
            m3: -self.m3,
            ..*self
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

    /// How lopsided they are: 0 of symmetric ones, 2 of an exponential distribution.
    pub fn skewness(&self) -> f64 {
        match self.m2 > 0.0 {
            true => (self.n as f64).sqrt() * self.m3 / self.m2.powf(1.5),
            false => 0.0,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::spec::sequential) fn sample(values: &[f64]) -> Sample {
        let mut sample = Sample::default();
        values.iter().for_each(|value| sample.push(*value));
        sample
    }

    #[test]
    fn skewness_is_that_of_the_numbers() {
        // Mean 1, squares 1 + 1 + 0 + 4 and cubes −1 − 1 + 0 + 8 around it.
        let skewed = sample(&[0.0, 0.0, 1.0, 3.0]);
        assert!((skewed.skewness() - 6.0 / 4.0 / 1.5f64.powf(1.5)).abs() < 1e-12);
        assert!(sample(&[1.0, 2.0, 3.0]).skewness().abs() < 1e-12);
        assert_eq!(sample(&[2.0, 2.0]).skewness(), 0.0);
    }

    #[test]
    fn a_rate_is_a_sample_of_ones_and_zeros() {
        let rate = Sample::of_rate(Count { happened: 2, of: 5 });
        let values = sample(&[1.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(rate.n(), 5);
        assert!((rate.mean() - values.mean()).abs() < 1e-12);
        assert!((rate.variance() - values.variance()).abs() < 1e-12);
        assert!((rate.skewness() - values.skewness()).abs() < 1e-9);
        assert_eq!(Sample::of_rate(Count::default()), Sample::default());
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
            prop_assert!((whole.skewness() - merged.skewness()).abs() < 1e-6);
            let back = merged.since(&sample(&a));
            prop_assert_eq!(back.n(), b.len() as u64);
            prop_assert!((back.mean() - sample(&b).mean()).abs() < 1e-6);
            prop_assert!((back.variance() - sample(&b).variance()).abs() < 1e-2);
            prop_assert!((merged.negated().skewness() + merged.skewness()).abs() < 1e-9);
        }
    }
}
