//! What happens to a rollout, as data.

use serde::{Deserialize, Serialize};

use super::judge::Harm;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The candidate is better, and no worse anywhere.
    Successful,
    /// It does harm.
    Failed,
    /// Nothing is certain.
    Inconclusive,
    /// It could not be tried.
    Error,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Successful,
        Self::Failed,
        Self::Inconclusive,
        Self::Error,
    ];

    /// Its name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Successful => "successful",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::Error => "error",
        }
    }
}

/// A verdict with what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Counted from 0.
    pub step: usize,
    /// The candidate's share of the sessions.
    pub share: f64,
    /// What it came to.
    pub verdict: Verdict,
    /// Why, with numbers.
    pub reason: String,
    /// What was found to be worse.
    pub harms: Vec<Harm>,
    /// Turns of the candidate and of the control.
    pub turns: (u64, u64),
    /// Sessions of both.
    pub sessions: (usize, usize),
    /// When, in milliseconds since 1970.
    pub judged_ms: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// Somebody started it.
    Started,
    /// A step needs more slots than the candidate has.
    Waiting {
        /// What is missing.
        missing: String,
    },
    /// The candidate has this share of the sessions from now on.
    StepBegan {
        /// Which step, from 0.
        step: usize,
        /// The share.
        share: f64,
    },
    /// Half of a step is over: two backends are to exchange their profiles.
    Crossing {
        /// What is to be done.
        missing: String,
    },
    /// They have, and the other half of the step begins.
    Crossed {
        /// The backend that is the control from now on.
        control: String,
    },
    /// A step was judged.
    Verdict(Judged),
    /// The shares stay until somebody decides.
    Held {
        /// Why.
        reason: String,
    },
    /// Somebody paused it.
    Paused,
    /// Somebody let it go on.
    Resumed,
    /// Somebody moved it on.
    MovedOn {
        /// From which step.
        step: usize,
    },
    /// The candidate has all sessions.
    Promoted,
    /// The baseline has all sessions.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// Somebody gave it up.
    Aborted,
    /// Its configuration has changed: what was found out is about something else.
    Reset,
    /// The operator's command has given a backend another profile.
    ProfileSet {
        /// Which backend.
        backend: String,
        /// Which profile.
        #[serde(default)]
        profile: String,
    },
}

/// What happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// In milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}
