//! Going again: why, how, and how often at most.

use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::hedge::Plan;
use crate::config::TurnLimits;
use crate::dialect::llama::Ask;
use crate::fleet::{BackendId, Footprint};
use crate::telemetry::labels::Why;

/// The next attempt of a turn. There is no other way to one.
#[derive(Clone, Debug)]
pub struct Continuation {
    /// Why it is made.
    pub why: Why,
    /// How the request differs from the client's.
    pub ask: Option<Ask>,
    /// Where it goes.
    pub backend: BackendChoice,
    /// What it takes of a KV cache, where somebody reckons with that.
    pub footprint: Option<Footprint>,
    /// When a second backend is asked the same, if at all.
    pub(super) hedge: Option<Plan>,
}

/// Where an attempt goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendChoice {
    /// Not to these: they have failed this turn.
    pub except: SmallVec<[BackendId; 4]>,
    /// To this one if it can be had: it has the prompt in its cache.
    pub prefer: Option<BackendId>,
}

impl Continuation {
    /// The first attempt; on `prefer` if that can be had.
    pub fn first(prefer: Option<BackendId>, footprint: Option<Footprint>) -> Self {
        let backend = BackendChoice {
            prefer,
            ..BackendChoice::default()
        };
        Self {
            why: Why::First,
            ask: None,
            backend,
            footprint,
            hedge: None,
        }
    }

    /// The same request on another backend, after `failed` failed and nothing was delivered.
    #[must_use]
    pub fn failover(mut self, failed: BackendId) -> Self {
        self.backend.except.push(failed);
        Self {
            why: Why::Failover,
            ..self
        }
    }

    /// The same once more wherever there is room for it, after a cache has overflowed that nobody can replace:
    /// with `ask`, where part of the answer was delivered.
    #[must_use]
    pub fn again(mut self, ask: Option<Ask>) -> Self {
        self.backend.prefer = None;
        Self {
            why: match ask {
                Some(_) => Why::Resume,
                None => Why::Failover,
            },
            ask: ask.or(self.ask),
            ..self
        }
    }

    /// The request with a shorter prompt on the same backend, which has refused the longer one.
    #[must_use]
    pub fn shorter(mut self, same: BackendId) -> Self {
        self.backend.prefer = Some(same);
        Self {
            why: Why::Prune,
            ..self
        }
    }

    /// The rest of a half-delivered answer from another backend, after `failed` failed; from none of those that
    /// `cannot` go on with it.
    #[must_use]
    pub fn resume(
        mut self,
        ask: Ask,
        failed: BackendId,
        cannot: impl Iterator<Item = BackendId>,
    ) -> Self {
        self.backend.except.push(failed);
        self.backend.except.extend(cannot);
        self.backend.prefer = None;
        Self {
            why: Why::Resume,
            ask: Some(ask),
            ..self
        }
    }

    /// Whether it goes on with an answer that another backend has begun.
    pub fn is_resumption(&self) -> bool {
        self.ask.as_ref().is_some_and(|ask| ask.continues)
    }

    /// Whether an answer was no good and is asked for once more.
    pub fn is_reask(&self) -> bool {
        self.ask.as_ref().is_some_and(|ask| !ask.continues)
    }

    /// The request with `ask` on the same backend, whose cache is warm.
    #[must_use]
    pub fn reask(mut self, ask: Ask, same: BackendId) -> Self {
        self.backend.prefer = Some(same);
        Self {
            why: Why::Reask,
            ask: Some(ask),
            ..self
        }
    }
}

/// What one turn may still spend, all its attempts together.
#[derive(Clone, Debug)]
pub struct TurnBudget {
    attempts_left: u32,
    max_hidden_tokens: u64,
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
            max_hidden_tokens: limits.max_hidden_tokens,
            no_attempt_after: now + limits.max_wall,
            deadline: now + total,
            total,
        }
    }

    /// Pay for one more attempt, `hidden` tokens having been generated that the client never sees;
    /// false when there is nothing left to pay with.
    #[must_use]
    pub fn charge(&mut self, hidden: u64) -> bool {
        let now = Instant::now();
        if self.attempts_left == 0
            || hidden > self.max_hidden_tokens
            || now >= self.no_attempt_after.min(self.deadline)
        {
            return false;
        }
        self.attempts_left -= 1;
        true
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
        assert!(budget.charge(0));
        assert!(budget.charge(0));
        assert!(!budget.charge(0));
    }

    #[tokio::test(start_paused = true)]
    async fn hidden_tokens_run_out() {
        let mut budget = TurnBudget::new(&limits(), Duration::from_secs(600));
        assert!(budget.charge(100));
        assert!(!budget.charge(101));
    }

    #[tokio::test(start_paused = true)]
    async fn time_runs_out() {
        let mut budget = TurnBudget::new(&limits(), Duration::from_secs(600));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(!budget.charge(0));
    }
}
