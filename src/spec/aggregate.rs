//! What came of many attempts, added up.

use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::answer::AnswerClass;
use super::latest::Latest;
use super::observe::{Drafts, Observation, Position, StopKind};
use super::sequential::{Count, Sample};

/// Less than this part of the expected cache is a cache that was lost.
const LOST: f64 = 0.5;

/// The numbers that are compared. Rates, times and lengths are kept as logarithms: they vary by factors, and a
/// difference of logarithms is a factor as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// ln of generated tokens a second.
    pub decode: Sample,
    /// ln of evaluated prompt tokens a second.
    pub prefill: Sample,
    /// ln of seconds to the first content.
    pub ttft: Sample,
    /// ln of the accept length.
    pub accept_length: Sample,
    /// Rolled back tokens for each generated one.
    pub rollback: Sample,
    /// Part of the cache that was expected and found.
    pub cache_found: Sample,
}

impl Measured {
    pub(super) fn push(&mut self, seen: &Observation) {
        let ln = |value: Option<f64>, sample: &mut Sample| {
            if let Some(value) = value.filter(|value| *value > 0.0) {
                sample.push(value.ln());
            }
        };
        ln(seen.decode_rate(), &mut self.decode);
        ln(seen.prefill_rate(), &mut self.prefill);
        ln(seen.ttft.map(|t| t.as_secs_f64()), &mut self.ttft);
        ln(seen.drafts.accept_length(), &mut self.accept_length);
        if let Some(found) = seen.cache_found() {
            self.cache_found.push(found);
        }
        if seen.drafts.drafted > 0 {
            let generated = seen.timings.map_or(0, |timings| timings.predicted_n);
            let share = seen.drafts.rolled_back() as f64 / generated.max(1) as f64;
            self.rollback.push(share);
        }
    }

    /// What has come since it was `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            decode: self.decode.since(&earlier.decode),
            prefill: self.prefill.since(&earlier.prefill),
            ttft: self.ttft.since(&earlier.ttft),
            accept_length: self.accept_length.since(&earlier.accept_length),
            rollback: self.rollback.since(&earlier.rollback),
            cache_found: self.cache_found.since(&earlier.cache_found),
        }
    }
}

/// What came of many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Aggregate {
    /// How many.
    pub turns: u64,
    /// All of them.
    pub measured: Measured,
    /// The latest ones by themselves.
    pub latest: Latest,
    /// The same by how long their prompts were.
    pub positions: BTreeMap<Position, Measured>,
    /// Draft tokens, all together.
    pub drafts: Drafts,
    /// Answers that had any.
    pub with_drafts: u64,
    /// Generated tokens.
    pub generated: u64,
    /// How they ended.
    pub stops: BTreeMap<StopKind, u64>,
    /// What came out.
    pub answers: BTreeMap<AnswerClass, u64>,
    /// Those with a call that could not be used.
    pub malformed: u64,
    /// Those that went round in circles.
    pub looping: u64,
    /// Those that found less than half of the cache that was expected.
    pub cache_lost: u64,
}

/// What is measured of all of them is what most readers want.
impl Deref for Aggregate {
    type Target = Measured;

    fn deref(&self) -> &Measured {
        &self.measured
    }
}

impl Aggregate {
    /// One more.
    pub fn push(&mut self, seen: &Observation) {
        self.turns += 1;
        self.measured.push(seen);
        self.latest.push(seen);
        self.positions
            .entry(seen.position())
            .or_default()
            .push(seen);
        self.with_drafts += u64::from(seen.drafts.drafted > 0);
        self.generated += seen.timings.map_or(0, |timings| timings.predicted_n);
        self.drafts.add(seen.drafts);
        *self.stops.entry(seen.stop).or_default() += 1;
        if let Some(answer) = seen.answer {
            *self.answers.entry(answer).or_default() += 1;
        }
        self.malformed += u64::from(seen.malformed);
        self.looping += u64::from(seen.looping);
        let found = seen.cache_found();
        self.cache_lost += u64::from(found.is_some_and(|found| found < LOST));
    }

    /// What has come since it was `earlier`, as far as it tells what a change comes from.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let positions = self.positions.iter().map(|(position, all)| {
            let since = earlier
                .positions
                .get(position)
                .map_or(*all, |earlier| all.since(earlier));
            (*position, since)
        });
        Self {
            positions: positions.collect(),
            measured: self.measured.since(&earlier.measured),
            turns: self.turns.saturating_sub(earlier.turns),
            malformed: self.malformed.saturating_sub(earlier.malformed),
            cache_lost: self.cache_lost.saturating_sub(earlier.cache_lost),
            ..self.clone()
        }
    }

    /// Attempts that failed.
    pub fn errors(&self) -> Count {
        self.count(self.stops.get(&StopKind::Failed).copied().unwrap_or(0))
    }

    /// Answers with a call that could not be used.
    pub fn malformed(&self) -> Count {
        self.count(self.malformed)
    }

    /// Answers that went round in circles.
    pub fn looping(&self) -> Count {
        self.count(self.looping)
    }

    /// Of those that had a cache to expect, those that did not find it.
    pub fn cache_lost(&self) -> Count {
        Count {
            happened: self.cache_lost,
            of: self.measured.cache_found.n(),
        }
    }

    fn count(&self, happened: u64) -> Count {
        Count {
            happened,
            of: self.turns,
        }
    }
}
