//! What has changed between two profiles or builds, and what that is a sign of.

use serde::Serialize;

use super::aggregate::{Aggregate, Measured};
use super::book::Strata;
use super::observe::{Drafts, Place, Position, Stratum};
use super::sequential::{Count, Interval, Sample, difference};
use super::signature::{Finding, Signature};

/// What can be compared. Means are of logarithms where the metric is a rate or a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Generated tokens a second.
    DecodeRate,
    /// Evaluated prompt tokens a second.
    PrefillRate,
    /// Tokens a verified draft brings.
    AcceptLength,
    /// Rolled back tokens for each generated one.
    Rollback,
    /// Part of the expected cache that was found.
    CacheFound,
}

impl Metric {
    pub(super) const ALL: [Self; 5] = [
        Self::DecodeRate,
        Self::PrefillRate,
        Self::AcceptLength,
        Self::Rollback,
        Self::CacheFound,
    ];

    pub(super) fn of(self, all: &Measured) -> &Sample {
        match self {
            Self::DecodeRate => &all.decode,
            Self::PrefillRate => &all.prefill,
            Self::AcceptLength => &all.accept_length,
            Self::Rollback => &all.rollback,
            Self::CacheFound => &all.cache_found,
        }
    }

    /// Whether more of it is worse.
    pub(super) const fn is_a_loss(self) -> bool {
        matches!(self, Self::Rollback)
    }

    /// Whether differences are of logarithms, that is factors.
    pub const fn is_factor(self) -> bool {
        matches!(
            self,
            Self::DecodeRate | Self::PrefillRate | Self::AcceptLength
        )
    }
}

/// Strata there can be: classes times groups of busy slots. α is shared out over all of them, seen or
/// not, so that the share does not depend on what comes.
const STRATA: f64 = 24.0;

/// One metric in one stratum, now against before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Which turns.
    pub stratum: Stratum,
    /// Of what.
    pub metric: Metric,
    /// Where the difference of the means is.
    pub interval: Interval,
    /// Mean before, and of how many.
    pub before: (f64, u64),
    /// Mean now, and of how many.
    pub now: (f64, u64),
}

/// What is put up with before a change is a finding.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Chance of any false finding of one comparison, over all strata, metrics and looks.
    pub alpha: f64,
    /// Loss of decode speed, as a part of what it was.
    pub decode: f64,
    /// Loss of prefill speed.
    pub prefill: f64,
    /// Loss of accept length.
    pub accept_length: f64,
    /// Loss of the cache that was expected.
    pub cache: f64,
    /// More rolled back tokens for each generated one.
    pub rollback: f64,
    /// Higher rate of calls that cannot be used.
    pub malformed: f64,
    /// Part of the turns that may lose the cache they expect: a prediction errs now and then.
    pub cache_lost: f64,
    /// Turns that a stratum of the earlier side needs to be a baseline.
    pub baseline: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            decode: 0.03,
            prefill: 0.05,
            accept_length: 0.1,
            cache: 0.2,
            rollback: 0.25,
            malformed: 0.005,
            cache_lost: 0.3,
            baseline: 20,
        }
    }
}

impl Limits {
    /// The share of one test.
    fn share(&self) -> f64 {
        // The rates of malformed calls and of lost caches are two more tests in every stratum.
        self.alpha / (STRATA * (Metric::ALL.len() + 2) as f64)
    }
}

/// Two places on one backend, of which the first came later.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    /// What runs now.
    pub now: (&'a Place, &'a Strata),
    /// What ran before.
    pub before: (&'a Place, &'a Strata),
}

/// Every metric in every stratum that both have.
pub fn compare(pair: Comparison<'_>, limits: &Limits) -> Vec<Change> {
    let both = pair.now.1.iter().filter_map(|(stratum, now)| {
        let before = pair.before.1.get(stratum)?;
        Some((*stratum, now, before))
    });
    both.flat_map(|(stratum, now, before)| {
        Metric::ALL.map(|metric| {
            let (now, before) = (metric.of(now), metric.of(before));
            Change {
                stratum,
                metric,
                interval: difference(now, before, limits.share()),
                before: (before.mean(), before.n()),
                now: (now.mean(), now.n()),
            }
        })
    })
    .collect()
}

/// What a sign was seen in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A number.
    Of(Metric),
    /// The rate of answers with a call that cannot be used.
    Malformed,
    /// The rate of turns that do not find the cache they expect.
    CacheLost,
}

impl Measure {
    /// What was seen of it, by position where that is known. Less of it is worse.
    pub(super) fn samples(self, all: &Aggregate) -> Vec<(Position, Sample)> {
        let rate = |count: Count| vec![(Position::default(), Sample::of_rate(count).negated())];
        match self {
            Self::Of(metric) => {
                let sample = |measured| match metric.is_a_loss() {
                    true => metric.of(measured).negated(),
                    false => *metric.of(measured),
                };
                let positions = all.positions.iter();
                positions.map(|(at, m)| (*at, sample(m))).collect()
            }
            Self::Malformed => rate(all.malformed()),
            Self::CacheLost => rate(all.cache_lost()),
        }
    }
}

/// A sign, and what it was seen in.
#[derive(Clone, Debug)]
pub struct Sign {
    /// Of what.
    pub signature: Signature,
    /// In which turns.
    pub stratum: Stratum,
    /// In what.
    pub measure: Measure,
    /// The numbers, in words.
    pub evidence: String,
}

/// What the changes are signs of.
pub fn signs(pair: Comparison<'_>, limits: &Limits) -> Vec<Sign> {
    let rebuilt = pair.now.0.build != pair.before.0.build;
    let mut found: Vec<Sign> = compare(pair, limits)
        .iter()
        .filter_map(|change| {
            let signature = change.signature(limits, rebuilt)?;
            let acceptance = drafts(pair, change.stratum).acceptance();
            // A draft that is longer is rolled back more, and that alone is no harm.
            let harmless = signature == Signature::RollbackSpike && acceptance > Some(0.35);
            (!harmless).then(|| Sign {
                signature,
                stratum: change.stratum,
                measure: Measure::Of(change.metric),
                evidence: change.evidence(),
            })
        })
        .collect();
    found.extend(garbled(pair, limits));
    found
}

/// The findings of two sides and nothing else.
pub fn findings(pair: Comparison<'_>, limits: &Limits) -> Vec<Finding> {
    let signs = signs(pair, limits).into_iter();
    signs
        .map(|sign| Finding::new(sign.signature, pair.now.0, sign.evidence))
        .collect()
}

/// Caches that were expected and are not there: the expectation is what it is measured by, and needs no earlier
/// side.
pub fn lost_caches(now: &Strata, limits: &Limits) -> Vec<Sign> {
    let lost = now.iter().filter_map(|(stratum, now)| {
        let count = now.cache_lost();
        let is_more = count.evidence(limits.cache_lost) >= 1.0 / limits.share();
        is_more.then(|| Sign {
            signature: Signature::CacheReprefill,
            stratum: *stratum,
            measure: Measure::CacheLost,
            evidence: format!(
                "{}, {} busy: {} of {} turns found less than half of the tokens that should have been in the cache",
                stratum.class.as_str(),
                stratum.busy,
                count.happened,
                count.of
            ),
        })
    });
    lost.collect()
}

fn drafts(pair: Comparison<'_>, stratum: Stratum) -> Drafts {
    pair.now
        .1
        .get(&stratum)
        .map(|all| all.drafts)
        .unwrap_or_default()
}

/// Calls that cannot be used come with drafts that are nearly always, or nearly never, accepted: the
/// verification is broken then, or the target model is.
fn garbled(pair: Comparison<'_>, limits: &Limits) -> Vec<Sign> {
    let (now, before) = (pair.now.1, pair.before.1);
    let worse = now.iter().filter_map(|(stratum, now)| {
        let (now, before): (_, Count) = (now, before.get(stratum)?.malformed());
        let odd = now.drafts.acceptance().is_some_and(|a| !(0.1..=0.95).contains(&a));
        let more = now.malformed().is_higher(before, limits.malformed, limits.share());
        (odd && more).then(|| {
            let (class, busy) = (stratum.class.as_str(), stratum.busy);
            let evidence = format!(
                "{class}, {busy} busy: {} of {} answers had a call that cannot be used, {} of {} before, with \
                 {:.0} % of the drafted tokens accepted",
                now.malformed().happened,
                now.turns,
                before.happened,
                before.of,
                now.drafts.acceptance().unwrap_or(0.0) * 100.0,
            );
            Sign {
                signature: Signature::GarbledOutput,
                stratum: *stratum,
                measure: Measure::Malformed,
                evidence,
            }
        })
    });
    worse.collect()
}

impl Change {
    fn signature(&self, limits: &Limits, rebuilt: bool) -> Option<Signature> {
        let lost = |part: f64| self.interval.is_below((1.0 - part).ln());
        match self.metric {
            Metric::AcceptLength if lost(limits.accept_length) => {
                Some(Signature::AcceptanceCollapse)
            }
            Metric::DecodeRate if rebuilt && lost(limits.decode) => {
                Some(Signature::ThroughputCollapseAfterBuildChange)
            }
            Metric::PrefillRate if lost(limits.prefill) => Some(Signature::PrefillRegression),
            Metric::CacheFound if self.interval.is_below(-limits.cache) => {
                Some(Signature::CacheReprefill)
            }
            Metric::Rollback if self.interval.is_above(limits.rollback) => {
                Some(Signature::RollbackSpike)
            }
            _ => None,
        }
    }

    fn evidence(&self) -> String {
        let (class, busy) = (self.stratum.class.as_str(), self.stratum.busy);
        let Interval { low, high } = self.interval;
        let (before, now) = (self.before, self.now);
        let of = format!("{} turns before, {} now", before.1, now.1);
        if !self.metric.is_factor() {
            return format!(
                "{class}, {busy} busy: {:.2} now, {:.2} before, a change of {low:+.2} to {high:+.2} ({of})",
                now.0, before.0
            );
        }
        let percent = |ln: f64| (ln.exp() - 1.0) * 100.0;
        format!(
            "{class}, {busy} busy: {:.1} now, {:.1} before, a change of {:+.1} % to {:+.1} % ({of})",
            now.0.exp(),
            before.0.exp(),
            percent(low),
            percent(high),
        )
    }
}

#[cfg(test)]
mod tests;
