//! What has changed between two profiles or builds, and what that is a sign of.

mod change;

use std::collections::HashSet;

use serde::Serialize;

use super::aggregate::{Aggregate, Measured};
use super::book::Strata;
use super::observe::{Drafts, Place, Position, Stratum};
use super::sequential::{Count, Sample};
use super::signature::{Finding, Signature};

pub use change::{Change, compare};

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

    /// Those that are asked of the latest turns alone, too.
    pub(super) const LATEST: [Self; 2] = [Self::DecodeRate, Self::AcceptLength];

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
    /// The share of one test in one stratum: half of α is for these.
    pub(super) fn share(&self) -> f64 {
        // The rates of malformed calls and of lost caches are two more tests in every stratum.
        let tests = Metric::ALL.len() + Metric::LATEST.len() + 2;
        self.alpha / 2.0 / (STRATA * tests as f64)
    }

    /// The share of one test of all strata together, which finds what is too small for any of them: the other half.
    pub(super) fn share_of_all(&self) -> f64 {
        self.alpha / 2.0 / Metric::ALL.len() as f64
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
    /// In which turns; none: in all.
    pub stratum: Option<Stratum>,
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
    // What all turns of a stratum tell need not be told of its latest ones.
    let mut told = HashSet::new();
    found.retain(|sign| told.insert((sign.signature, sign.stratum)));
    // What is seen in one stratum need not be told of all.
    let in_some: Vec<Signature> = found
        .iter()
        .filter(|sign| sign.stratum.is_some())
        .map(|sign| sign.signature)
        .collect();
    found.retain(|sign| sign.stratum.is_some() || !in_some.contains(&sign.signature));
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
            stratum: Some(*stratum),
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

fn drafts(pair: Comparison<'_>, stratum: Option<Stratum>) -> Drafts {
    let asked = pair.now.1.iter();
    let asked = asked.filter(|(at, _)| stratum.is_none_or(|stratum| **at == stratum));
    asked.fold(Drafts::default(), |sum, (_, all)| Drafts {
        drafted: sum.drafted + all.drafts.drafted,
        accepted: sum.accepted + all.drafts.accepted,
        steps: sum.steps + all.drafts.steps,
    })
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
                stratum: Some(*stratum),
                measure: Measure::Malformed,
                evidence,
            }
        })
    });
    worse.collect()
}

#[cfg(test)]
mod tests;
