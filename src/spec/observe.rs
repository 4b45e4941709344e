//! What came of one attempt, and where.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::AnswerClass;
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
    /// File of its model; `unknown` where it did not say.
    #[serde(default = "unknown")]
    pub model: Arc<str>,
    /// Digest of what it shows of its flags; `unknown` where it shows nothing.
    #[serde(default = "unknown")]
    pub flags: Arc<str>,
}

/// What stands for a name that nobody has told.
pub const UNKNOWN: &str = "unknown";

fn unknown() -> Arc<str> {
    UNKNOWN.into()
}

impl Place {
    /// A place of which no model and no flags are known.
    pub fn new(pool: &str, backend: &str, profile: &str, build: &str) -> Self {
        Self {
            pool: pool.into(),
            backend: backend.into(),
            profile: profile.into(),
            build: build.into(),
            model: unknown(),
            flags: unknown(),
        }
    }

    /// Whether both are of one backend.
    pub fn is_neighbour(&self, other: &Self) -> bool {
        (&self.pool, &self.backend) == (&other.pool, &other.backend)
    }
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

/// Tokens of a prompt, in groups: the least of the group.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Position(u32);

impl Position {
    /// Where the groups begin.
    const GROUPS: [u32; 4] = [0, 2048, 8192, 32768];

    /// The group of a prompt of `tokens`.
    pub fn of(tokens: u64) -> Self {
        let fits = |least: &&u32| u64::from(**least) <= tokens;
        Self(Self::GROUPS.iter().rev().find(fits).copied().unwrap_or(0))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} prompt tokens", self.0)
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

    pub(super) fn add(&mut self, more: Self) {
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

impl StopKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::End, Self::Length, Self::Sequence, Self::Failed];

    /// Its name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Length => "length",
            Self::Sequence => "sequence",
            Self::Failed => "failed",
        }
    }
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
    /// What came out, where that was looked at.
    pub answer: Option<AnswerClass>,
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

    /// How long its prompt was.
    pub fn position(&self) -> Position {
        let tokens = self.timings.map_or(0, |t| t.cache_n + t.prompt_n);
        Position::of(tokens)
    }

    /// Part of the prompt tokens expected in the cache that was found there, up to 1.
    pub(super) fn cache_found(&self) -> Option<f64> {
        let expected = self.expected_cached.filter(|n| *n >= LEAST_PREFILLED)?;
        Some((self.timings?.cache_n as f64 / expected as f64).min(1.0))
    }
}

fn rate(tokens: u64, ms: f64, least: u64) -> Option<f64> {
    (tokens >= least && ms > 0.0).then(|| tokens as f64 * 1000.0 / ms)
}

#[cfg(test)]
pub(crate) mod tests;
