//! What came of turns, added up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sequential::{Count, Sample};
use crate::config::RequestClass;
use crate::turn::Timings;

/// Fewest generated tokens that tell a speed: of fewer the first step's latency is what is measured.
const LEAST_DECODED: u64 = 16;

/// Fewest evaluated prompt tokens that tell a speed.
const LEAST_PREFILLED: u64 = 64;

/// Where a turn ran.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Its pool.
    pub pool: Arc<str>,
    /// Its backend.
    pub backend: Arc<str>,
    /// What the backend ran: a profile, `none`, or `unknown`.
    pub profile: Arc<str>,
    /// The build it reported; `unknown` where it did not.
    pub build: Arc<str>,
}

/// Turns that can be compared with each other: of one class, on equally busy backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stratum {
    /// What kind of request.
    pub class: RequestClass,
    /// The lowest count of busy slots of its group: 1, 2, 3 (and 4), or 5 (and more).
    pub busy: u8,
}

impl Stratum {
    /// `busy` counts the requests on the backend when the turn began, itself included.
    pub fn new(class: RequestClass, busy: usize) -> Self {
        let busy = match busy {
            0 | 1 => 1,
            2 => 2,
            3 | 4 => 3,
            _ => 5,
        };
        Self { class, busy }
    }
}

/// Draft tokens of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drafts {
    /// Proposed.
    pub drafted: u64,
    /// Accepted.
    pub accepted: u64,
    /// Times a draft was verified: increases of the cumulative count in a stream with timings in every
    /// chunk. 0: nothing was drafted, or nobody counted.
    pub steps: u64,
}

impl Drafts {
    /// Proposed for nothing.
    pub fn rolled_back(&self) -> u64 {
        self.drafted.saturating_sub(self.accepted)
    }

    /// Tokens a verified draft brings, the one the model adds itself included; none where no steps
    /// were counted.
    pub fn accept_length(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.accepted as f64 / self.steps as f64 + 1.0)
    }

    /// Part of the proposed tokens that was accepted.
    pub fn acceptance(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }

    fn add(&mut self, more: Self) {
        self.drafted += more.drafted;
        self.accepted += more.accepted;
        self.steps += more.steps;
    }
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopKind {
    /// By itself.
    End,
    /// At the token limit or the end of the window.
    Length,
    /// At one of the client's stop sequences.
    Sequence,
    /// It did not: the attempt failed.
    Failed,
}

/// What came of one attempt.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Where it ran.
    pub place: Place,
    /// What it can be compared with.
    pub stratum: Stratum,
    /// What the backend measured, where it said so.
    pub timings: Option<Timings>,
    /// Draft tokens.
    pub drafts: Drafts,
    /// From the request to the first content.
    pub ttft: Option<Duration>,
    /// How it ended.
    pub stop: StopKind,
    /// Prompt tokens that should have been in the backend's cache.
    pub expected_cached: Option<u64>,
    /// It had a call that could not be used.
    pub malformed: bool,
    /// It went round in circles.
    pub looping: bool,
}

impl Observation {
    /// Generated tokens a second.
    pub fn decode_rate(&self) -> Option<f64> {
        let timings = self.timings?;
        rate(timings.predicted_n, timings.predicted_ms, LEAST_DECODED)
    }

    /// Evaluated prompt tokens a second.
    pub fn prefill_rate(&self) -> Option<f64> {
        let timings = self.timings?;
        rate(timings.prompt_n, timings.prompt_ms, LEAST_PREFILLED)
    }

    /// Part of the prompt tokens expected in the cache that was found there, up to 1.
    fn cache_found(&self) -> Option<f64> {
        let expected = self.expected_cached.filter(|n| *n >= LEAST_PREFILLED)?;
        Some((self.timings?.cache_n as f64 / expected as f64).min(1.0))
    }
}

fn rate(tokens: u64, ms: f64, least: u64) -> Option<f64> {
    (tokens >= least && ms > 0.0).then(|| tokens as f64 * 1000.0 / ms)
}

/// What came of many.
///
/// Rates and times are kept as logarithms: they vary by factors, and a difference of logarithms is a
/// factor as well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// How many.
    pub turns: u64,
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
    /// Draft tokens, all together.
    pub drafts: Drafts,
    /// Answers that had any.
    pub with_drafts: u64,
    /// Generated tokens.
    pub generated: u64,
    /// How they ended.
    pub stops: BTreeMap<StopKind, u64>,
    /// Those with a call that could not be used.
    pub malformed: u64,
    /// Those that went round in circles.
    pub looping: u64,
}

impl Aggregate {
    /// One more.
    pub fn push(&mut self, seen: &Observation) {
        self.turns += 1;
        let mut ln = |value: Option<f64>, sample: fn(&mut Self) -> &mut Sample| {
            if let Some(value) = value.filter(|value| *value > 0.0) {
                sample(self).push(value.ln());
            }
        };
        ln(seen.decode_rate(), |this| &mut this.decode);
        ln(seen.prefill_rate(), |this| &mut this.prefill);
        ln(seen.ttft.map(|t| t.as_secs_f64()), |this| &mut this.ttft);
        ln(seen.drafts.accept_length(), |this| &mut this.accept_length);
        if let Some(found) = seen.cache_found() {
            self.cache_found.push(found);
        }
        let generated = seen.timings.map_or(0, |timings| timings.predicted_n);
        if seen.drafts.drafted > 0 {
            self.with_drafts += 1;
            let share = seen.drafts.rolled_back() as f64 / generated.max(1) as f64;
            self.rollback.push(share);
        }
        self.generated += generated;
        self.drafts.add(seen.drafts);
        *self.stops.entry(seen.stop).or_default() += 1;
        self.malformed += u64::from(seen.malformed);
        self.looping += u64::from(seen.looping);
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

    fn count(&self, happened: u64) -> Count {
        Count {
            happened,
            of: self.turns,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
