//! The statistics: one metric of two lists of turns.

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF as _, StudentsT};
use statrs::stats_tests::Alternative;
use statrs::stats_tests::fisher::fishers_exact;

use super::{Change, LEAST, Metric, Verdict};
use crate::bench::TurnResult;
use crate::spec::sequential::{Interval, Sample};

/// Smallest standard deviation believed, as in `spec::sequential`: what varies less is rounding.
const LEAST_DEVIATION: f64 = 1e-3;

/// Turns of both sides.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Sides<'a> {
    pub(in crate::bench) a: &'a [TurnResult],
    pub(in crate::bench) b: &'a [TurnResult],
    pub(in crate::bench) paired: bool,
}

impl Sides<'_> {
    /// Where the difference of a quantity's logarithms is, its estimate, and of how many pairs or turns.
    pub(in crate::bench) fn difference(
        self,
        metric: Metric,
        alpha: f64,
    ) -> Option<(Interval, f64, u64)> {
        if self.paired {
            let values = |turns: &[TurnResult]| -> BTreeMap<u32, f64> {
                let told = turns
                    .iter()
                    .filter_map(|turn| Some((turn.prompt, metric.of(turn)?)));
                told.collect()
            };
            let before = values(self.a);
            let mut apart = Sample::default();
            for (prompt, now) in values(self.b) {
                if let Some(before) = before.get(&prompt) {
                    apart.push(now - before);
                }
            }
            let deviation = apart.variance().sqrt().max(LEAST_DEVIATION);
            let error = deviation / (apart.n() as f64).sqrt();
            let interval = around(apart.mean(), error, apart.n() as f64 - 1.0, alpha)?;
            return Some((interval, apart.mean(), apart.n()));
        }
        let (before, now) = (sample(metric, self.a), sample(metric, self.b));
        let least = LEAST_DEVIATION * LEAST_DEVIATION;
        let error = |side: &Sample| side.variance().max(least) / side.n() as f64;
        let (a, b) = (error(&before), error(&now));
        // Welch and Satterthwaite's degrees of freedom.
        let freedom = |n: u64| n as f64 - 1.0;
        let freedom = (a + b).powi(2) / (a * a / freedom(before.n()) + b * b / freedom(now.n()));
        let apart = now.mean() - before.mean();
        let n = before.n().min(now.n());
        let interval = around(apart, (a + b).sqrt(), freedom, alpha).filter(|_| n >= 2)?;
        Some((interval, apart, n))
    }

    pub(super) fn quantity(self, metric: Metric, alpha: f64, margin: f64) -> Option<Change> {
        let (interval, apart, n) = self.difference(metric, alpha)?;
        if n < LEAST {
            return None;
        }
        // In the direction in which more is better.
        let (low, high, mean) = match metric.is_cost() {
            true => (-interval.high, -interval.low, -apart),
            false => (interval.low, interval.high, apart),
        };
        let bearable = match metric.is_cost() {
            true => -(1.0 + margin).ln(),
            false => (1.0 - margin).ln(),
        };
        let verdict = match () {
            () if high < 0.0 && mean < bearable => Verdict::Worse,
            () if low > 0.0 => Verdict::Better,
            () => Verdict::NoDifference,
        };
        let part = |ln: f64| ln.exp() - 1.0;
        Some(Change {
            metric,
            values: (
                sample(metric, self.a).mean().exp(),
                sample(metric, self.b).mean().exp(),
            ),
            change: Some((part(apart), part(interval.low), part(interval.high))),
            p: None,
            n,
            verdict,
        })
    }

    pub(super) fn rate(self, metric: Metric, alpha: f64) -> Change {
        let count = |turns: &[TurnResult]| {
            let happened = turns
                .iter()
                .filter(|turn| metric.counts(turn) == Some(true))
                .count();
            (happened as u64, (turns.len() - happened) as u64)
        };
        let (a, b) = (count(self.a), count(self.b));
        let p = |alternative| {
            // The test refuses what it cannot tell: that is no difference.
            fishers_exact(&[b.0, b.1, a.0, a.1], alternative).unwrap_or(1.0)
        };
        let (more, less) = (p(Alternative::Greater), p(Alternative::Less));
        let rate = |(happened, not): (u64, u64)| happened as f64 / (happened + not).max(1) as f64;
        Change {
            metric,
            values: (rate(a), rate(b)),
            change: None,
            p: Some((2.0 * more.min(less)).min(1.0)),
            n: (a.0 + a.1).min(b.0 + b.1),
            verdict: match () {
                () if more < alpha / 2.0 => Verdict::Worse,
                () if less < alpha / 2.0 => Verdict::Better,
                () => Verdict::NoDifference,
            },
        }
    }
}

fn sample(metric: Metric, turns: &[TurnResult]) -> Sample {
    let mut sample = Sample::default();
    let values = turns.iter().filter_map(|turn| metric.of(turn));
    values.for_each(|value| sample.push(value));
    sample
}

/// Student's interval around an estimate with a standard error; none without degrees of freedom.
fn around(mean: f64, error: f64, freedom: f64, alpha: f64) -> Option<Interval> {
    if !(freedom >= 1.0 && error.is_finite()) {
        return None;
    }
    let t = StudentsT::new(0.0, 1.0, freedom)
        .ok()?
        .inverse_cdf(1.0 - alpha / 2.0);
    Some(Interval {
        low: mean - t * error,
        high: mean + t * error,
    })
}
