//! Going again: why, how, and how often at most.

use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use crate::config::TurnLimits;
use crate::fleet::BackendId;
use crate::telemetry::labels::Why;

/// The next attempt of a turn. There is no other way to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// Why it is made.
    pub why: Why,
    /// Where it may go.
    pub backend: BackendChoice,
}

/// Where an attempt may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendChoice {
    /// Any backend of the pool but these.
    Any {
        /// Backends that have failed this turn.
        except: SmallVec<[BackendId; 4]>,
    },
}

impl Continuation {
    /// The first attempt.
    pub fn first() -> Self {
        Self {
            why: Why::First,
            backend: BackendChoice::Any {
                except: SmallVec::new(),
            },
        }
    }

    /// The same request on another backend, after `failed` failed and nothing was delivered.
    #[must_use]
    pub fn failover(self, failed: BackendId) -> Self {
        let BackendChoice::Any { mut except } = self.backend;
        except.push(failed);
        Self {
            why: Why::Failover,
            backend: BackendChoice::Any { except },
        }
    }
}

/// What one turn may still spend, all its attempts together.
#[derive(Clone, Debug)]
pub struct TurnBudget {
    attempts_left: u32,
    hidden_tokens_left: u64,
    no_attempt_after: Instant,
    deadline: Instant,
    total: Duration,
}

impl TurnBudget {
    /// A fresh budget; the first attempt is part of it.
    pub fn new(limits: &TurnLimits, total: Duration) -> Self {
        let now = Instant::now();
        Self {
            attempts_left: limits.max_attempts.saturating_sub(1),
            hidden_tokens_left: limits.max_hidden_tokens,
            no_attempt_after: now + limits.max_wall,
            deadline: now + total,
            total,
        }
    }

    /// Pay for one more attempt; false when there is nothing left to pay with.
    #[must_use]
    pub fn charge(&mut self) -> bool {
        let now = Instant::now();
        if self.attempts_left == 0
            || self.hidden_tokens_left == 0
            || now >= self.no_attempt_after.min(self.deadline)
        {
            return false;
        }
        self.attempts_left -= 1;
        true
    }

    /// Tokens were generated that the client never sees.
    pub fn hidden(&mut self, tokens: u64) {
        self.hidden_tokens_left = self.hidden_tokens_left.saturating_sub(tokens);
    }

    /// When the whole turn must have ended.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The whole turn's time.
    pub fn total(&self) -> Duration {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> TurnLimits {
        TurnLimits {
            max_attempts: 3,
            max_hidden_tokens: 100,
            max_wall: Duration::from_secs(60),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_run_out() {
        let mut budget = TurnBudget::new(&limits(), Duration::from_secs(600));
        assert!(budget.charge());
        assert!(budget.charge());
        assert!(!budget.charge());
    }

    #[tokio::test(start_paused = true)]
    async fn hidden_tokens_run_out() {
        let mut budget = TurnBudget::new(&limits(), Duration::from_secs(600));
        budget.hidden(99);
        assert!(budget.charge());
        budget.hidden(7);
        assert!(!budget.charge());
    }

    #[tokio::test(start_paused = true)]
    async fn time_runs_out() {
        let mut budget = TurnBudget::new(&limits(), Duration::from_secs(600));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(!budget.charge());
    }
}
