//! What is certain about candidate and control, after however many looks.
//!
//! α of a rollout is shared out over all tests there can be: steps, classes, loads and metrics, whether they
//! occur or not. Harm and superiority have an α each: a wrong rollback and a wrong promotion are different
//! mistakes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::fair::{Fair, Speed};
use super::seen::Seen;
use super::stratum::{At, never_worse};
use crate::config::{Classes, RequestClass, RollbackSignature, Rollout};
use crate::spec::sequential::{BURN_IN, Interval};
use crate::spec::{Aggregate, Latest, Stratum};

/// Strata there can be: classes times groups of busy slots.
const STRATA: f64 = (RequestClass::ALL.len() * 4) as f64;

/// What an absolute bound of a rate is above the control's at least.
const LEAST_RISE: f64 = 0.005;

/// What harm was found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// `never_worse.decode_tps`.
    DecodeTps,
    /// `never_worse.ttft`.
    Ttft,
    /// `never_worse.error_rate`.
    ErrorRate,
    /// `never_worse.malformed_rate`.
    MalformedRate,
    /// `never_worse.loop_rate`.
    LoopRate,
    /// `rollback_when.error_rate`.
    ErrorBound,
    /// One of `rollback_when.signatures`.
    Signature(RollbackSignature),
}

/// Something that is certain to be worse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Harm {
    /// By what.
    pub trigger: Trigger,
    /// Where; none: everywhere.
    pub stratum: Option<Stratum>,
    /// With its numbers.
    pub evidence: String,
}

/// A difference of candidate and control.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Which turns.
    #[serde(flatten)]
    pub stratum: Stratum,
    /// `decode_tps` or `ttft`.
    pub metric: &'static str,
    /// The candidate's geometric mean, and of how many turns.
    pub candidate: (f64, u64),
    /// The control's.
    pub control: (f64, u64),
    /// The difference, relative to the control: 0.05 is 5 % more.
    pub difference: f64,
    /// Its lowest value with the error rate of one test; none: unknown.
    pub low: Option<f64>,
    /// Its highest.
    pub high: Option<f64>,
}

/// Judges one step.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    plan: &'a Rollout,
    /// α of one test of harm.
    harm: f64,
    /// α of one test of superiority.
    better: f64,
}

impl<'a> Judge<'a> {
    /// For the steps of `plan`.
    pub fn new(plan: &'a Rollout) -> Self {
        let never = &plan.never_worse;
        let in_stratum = [
            never.decode_tps.is_some(),
            never.ttft.is_some(),
            never.error_rate.is_some(),
            never.malformed_rate.is_some(),
            never.loop_rate.is_some(),
        ];
        // Speed and time are asked of all turns, and of the latest ones.
        let twice = [never.decode_tps.is_some(), never.ttft.is_some()];
        let asked = in_stratum.iter().chain(&twice);
        let of_step = asked.filter(|asked| **asked).count();
        let signatures = plan.rollback_when.signatures.len();
        let steps = plan.steps.len().max(1) as f64;
        let everywhere = f64::from(u8::from(plan.rollback_when.error_rate.is_some()));
        let tests = steps * (STRATA * (of_step + signatures) as f64 + everywhere);
        let alpha = plan.alpha * (1.0 - recorded_share(plan));
        Self {
            plan,
            harm: alpha / tests.max(1.0),
            better: alpha / (steps * STRATA),
        }
    }

    /// How the difference in a stratum is made fair.
    fn fair<'s>(&self, seen: &Seen<'s>, stratum: Stratum) -> Fair<'s> {
        if !self.plan.crossover {
            return Fair::recorded(seen.hardware, stratum);
        }
        let first = seen.first.and_then(|(candidate, control)| {
            Some((
                candidate.strata.get(&stratum)?,
                control.strata.get(&stratum)?,
            ))
        });
        first.map_or(Fair::Unknown, |(now, than)| Fair::Crossed(now, than))
    }

    /// Everything that is worse for certain.
    pub fn harms(&self, seen: &Seen<'_>) -> Vec<Harm> {
        let mut found = Vec::new();
        for stratum in seen.candidate.strata.keys() {
            found.extend(self.harms_in(*stratum, seen));
        }
        found.extend(self.error_bound(seen));
        found
    }

    /// The same in one stratum.
    fn harms_in(&self, stratum: Stratum, seen: &Seen<'_>) -> Vec<Harm> {
        let Seen {
            candidate,
            control,
            drift,
            ..
        } = *seen;
        let Some(now) = candidate.strata.get(&stratum) else {
            return Vec::new();
        };
        let at = At {
            stratum,
            alpha: self.harm,
            fair: self.fair(seen, stratum),
        };
        let mut found = Vec::new();
        if let Some(than) = control.strata.get(&stratum) {
            found.extend(never_worse(&self.plan.never_worse, &at, now, than));
            found.extend(self.late(&at, &now.latest, than));
        }
        for signature in &self.plan.rollback_when.signatures {
            let than = control.strata.get(&stratum);
            let since = drift.of(stratum);
            let evidence = match (signature, than) {
                (RollbackSignature::AcceptanceCollapse, _) => since.and_then(|s| at.collapse(s)),
                (_, Some(than)) => at.signature(*signature, now, than),
                _ => None,
            };
            found
                .extend(evidence.map(|evidence| at.harm(Trigger::Signature(*signature), evidence)));
        }
        found
    }

    /// The latest turns of the candidate alone, against all of the control's.
    fn late(&self, at: &At<'_>, latest: &Latest, than: &Aggregate) -> Option<Harm> {
        let at = At {
            alpha: latest.share(at.alpha),
            ..*at
        };
        let never = &self.plan.never_worse;
        let decode = never
            .decode_tps
            .and_then(|most| at.falls(Speed::Decode, &latest.measured.decode, &than.decode, most));
        let ttft = || {
            never
                .ttft
                .and_then(|most| at.slower(&latest.measured.ttft, &than.ttft, most))
        };
        decode
            .map(|evidence| at.harm(Trigger::DecodeTps, evidence))
            .or_else(|| ttft().map(|evidence| at.harm(Trigger::Ttft, evidence)))
    }

    /// Whether more of the candidate's turns fail than is put up with, over all strata.
    fn error_bound(&self, seen: &Seen<'_>) -> Option<Harm> {
        let most = self.plan.rollback_when.error_rate?.0;
        let (now, than) = seen.errors();
        let enough = 2.0 / self.harm;
        // The bound is above this, and takes a search.
        if now.evidence(most.max(than.rate() + LEAST_RISE)) < enough {
            return None;
        }
        // max(bound, control + 0.5 pp), where the control's rate is as high as it can be.
        let bound = most.max(than.upper(self.harm / 2.0) + LEAST_RISE);
        let certain = bound < 1.0 && now.evidence(bound) >= enough;
        certain.then(|| Harm {
            trigger: Trigger::ErrorBound,
            stratum: None,
            evidence: format!(
                "{} of {} turns failed, {} of {} on the control: more than {:.2} %",
                now.happened,
                now.of,
                than.happened,
                than.of,
                bound * 100.0
            ),
        })
    }

    /// Classes in which the candidate is better for certain, and those that could tell.
    pub fn better(&self, seen: &Seen<'_>) -> (BTreeSet<RequestClass>, BTreeSet<RequestClass>) {
        let least = self.plan.promote_when.decode_tps.0.ln();
        let (mut better, mut told) = (BTreeSet::new(), BTreeSet::new());
        for (stratum, now, than) in seen.pairs() {
            let (now, than) = (&now.decode, &than.decode);
            if now.n() < BURN_IN || than.n() < BURN_IN {
                continue;
            }
            told.insert(stratum.class);
            let fair = self.fair(seen, stratum);
            let apart = fair.apart(Speed::Decode, now, than, self.better);
            if fair.promotes() && apart.is_above(least) {
                better.insert(stratum.class);
            }
        }
        (better, told)
    }

    /// Whether as many classes are better as have to be.
    pub fn is_superior(&self, seen: &Seen<'_>) -> bool {
        let (better, told) = self.better(seen);
        match self.plan.promote_when.classes {
            Classes::Any => !better.is_empty(),
            Classes::All => !told.is_empty() && better == told,
        }
    }

    /// Differences of everything that both sides have, with the bounds that promotion goes by.
    pub fn estimates(&self, seen: &Seen<'_>) -> Vec<Estimate> {
        let mut all = Vec::new();
        for (stratum, now, than) in seen.pairs() {
            for (metric, speed) in [("decode_tps", Speed::Decode), ("ttft", Speed::Ttft)] {
                let (now, than) = (speed.of(now), speed.of(than));
                if now.n() == 0 || than.n() == 0 {
                    continue;
                }
                let fair = self.fair(seen, stratum);
                let Interval { low, high } = fair.apart(speed, now, than, self.better);
                let bound = |end: f64| end.is_finite().then(|| end.exp_m1());
                all.push(Estimate {
                    stratum,
                    metric,
                    candidate: (now.mean().exp(), now.n()),
                    control: (than.mean().exp(), than.n()),
                    difference: fair.guess(speed, now, than).exp_m1(),
                    low: bound(low),
                    high: bound(high),
                });
            }
        }
        all
    }
}

/// The part of α that is for being wrong about the servers. The first half of a crossover and equal servers need
/// none; what is recorded may come while a rollout is under way, so that the share does not depend on it.
pub const fn recorded_share(plan: &Rollout) -> f64 {
    match plan.hardware_equal || plan.crossover {
        true => 0.0,
        false => 0.5,
    }
}
