//! Where a rollout can be, what it is told, and what it looks at.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::fair::Hardware;
use crate::config::RollbackSignature;

/// Where a rollout is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nobody has started it.
    #[default]
    Pending,
    /// Its step needs more slots than the candidate has.
    WaitingCapacity,
    /// Half of its step is over, and the two backends are to exchange their profiles.
    WaitingCrossover,
    /// A step is under way.
    Running,
    /// Somebody paused it: the shares stay, and harm still rolls back.
    Paused,
    /// A step has told nothing: the shares stay until somebody decides, and harm still rolls back.
    Held,
    /// The candidate has all sessions.
    Promoted,
    /// The baseline has all sessions, for a reason.
    RolledBack,
    /// The same because somebody said so.
    Aborted,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::WaitingCapacity,
        Self::WaitingCrossover,
        Self::Running,
        Self::Paused,
        Self::Held,
        Self::Promoted,
        Self::RolledBack,
        Self::Aborted,
    ];

    /// Its name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::WaitingCapacity => "waiting_capacity",
            Self::WaitingCrossover => "waiting_crossover",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
        }
    }

    /// Whether it is between its start and its end.
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::WaitingCapacity
                | Self::WaitingCrossover
                | Self::Running
                | Self::Paused
                | Self::Held
        )
    }
}

/// Time a step has run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clock {
    /// Until it last stood still, in milliseconds.
    pub(super) before_ms: u64,
    /// Since when it runs, in milliseconds since 1970; none: it stands still.
    pub(super) since_ms: Option<u64>,
}

impl Clock {
    pub(super) fn elapsed(self, now_ms: u64) -> Duration {
        // The system's clock may be set back.
        let running = self
            .since_ms
            .map_or(0, |since| now_ms.saturating_sub(since));
        Duration::from_millis(self.before_ms.saturating_add(running))
    }

    pub(super) fn stop(&mut self, now_ms: u64) {
        self.before_ms = u64::try_from(self.elapsed(now_ms).as_millis()).unwrap_or(u64::MAX);
        self.since_ms = None;
    }
}

/// Whether a difference can be the hardware's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "fair", content = "because")]
pub enum Fairness {
    /// It cannot, because …
    Equal(String),
    /// It can, because …
    Unequal(String),
}

/// What there is to serve the sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// Slots of the candidate's backends that are ready.
    pub candidate: u32,
    /// Of all backends of the pool that are.
    pub all: u32,
}

impl Capacity {
    /// Slots that the candidate lacks for `share`.
    pub fn missing(self, share: f64) -> u32 {
        let needed = (share * f64::from(self.all) - 1e-9).ceil().max(1.0);
        (needed as u32).saturating_sub(self.candidate)
    }
}

/// What is known besides the turns.
#[derive(Clone, Debug)]
pub struct Look {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// What there is to serve the sides.
    pub capacity: Capacity,
    /// Whether a difference can be the hardware's.
    pub fairness: Fairness,
    /// What the servers differ by, as far as it was recorded.
    pub hardware: Hardware,
    /// Backends that are up and run the candidate, by name.
    pub candidates: Vec<String>,
    /// Those that run the baseline.
    pub baselines: Vec<String>,
    /// Signs seen on the candidate's backends, with their evidence.
    pub signs: Vec<(RollbackSignature, String)>,
    /// What makes it impossible to go on.
    pub trouble: Option<String>,
}

#[cfg(test)]
impl Look {
    /// For tests: `b` runs the candidate and `c` the baseline, nothing hinders a fair comparison.
    pub(crate) fn fair(capacity: Capacity, why: &str) -> Self {
        Self {
            now_ms: 1_000_000,
            capacity,
            fairness: Fairness::Equal(why.into()),
            hardware: Hardware::default(),
            candidates: vec!["b".to_owned()],
            baselines: vec!["c".to_owned()],
            signs: Vec::new(),
            trouble: None,
        }
    }
}

/// What somebody orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Begin, or begin anew.
    Start,
    /// Stand still.
    Pause,
    /// Go on; a step that was held has its whole time again.
    Resume,
    /// The next step, whatever is known.
    Promote,
    /// The candidate gets everything.
    PromoteFully,
    /// Back to the baseline.
    Abort,
}

/// An order that makes no sense now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the rollout is {}: it cannot be {order}", .phase.as_str())]
pub struct Refused {
    pub(super) phase: Phase,
    pub(super) order: &'static str,
}
