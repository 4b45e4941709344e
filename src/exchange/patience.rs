//! How long a backend is waited for: deadlines, and the word of the checks and the watchdog.

use std::time::Duration;

use tokio::time::Instant;

use super::{BackendChoice, TurnBudget};
use crate::dialect::llama::Fault;
use crate::fleet::{BackendId, Closing, Failure, Lease, Pool, WhyClosed};
use crate::turn::TurnError;

/// A deadline and what it means when it passes.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    stage: &'static str,
    length: Duration,
}

impl Deadline {
    /// `length` from now, or the end of the turn if that is sooner.
    pub(super) fn new(stage: &'static str, length: Duration, budget: &TurnBudget) -> Self {
        Self::from(Instant::now(), stage, length, budget)
    }

    /// The same, counted from another moment.
    pub(super) fn from(
        since: Instant,
        stage: &'static str,
        length: Duration,
        budget: &TurnBudget,
    ) -> Self {
        let at = since + length;
        if at <= budget.deadline() {
            Self { at, stage, length }
        } else {
            Self {
                at: budget.deadline(),
                stage: "timeouts.total",
                length: budget.total(),
            }
        }
    }

    /// The end of the turn cannot be cured by another attempt.
    pub(super) fn fault(self) -> Fault {
        let error = TurnError::Timeout {
            stage: self.stage,
            after: self.length,
        };
        if self.stage == "timeouts.total" {
            Fault::Permanent(error)
        } else {
            Fault::Transient(error)
        }
    }
}

/// How a backend failed, as far as its health is concerned, and what is told of it.
pub(super) type Failed = (Option<Failure>, Fault);

/// How a turn could go on elsewhere if its backend were left now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WayOn {
    /// From the beginning.
    Anew,
    /// Another backend would have to go on with what was told.
    Resumed,
    /// Not at all.
    None,
}

/// The word against waiting any longer for a backend that gets nowhere.
pub(super) struct Stuck<'a> {
    closing: Closing,
    began: Instant,
    pool: &'a Pool,
    backend: BackendId,
    /// Where the turn could not go.
    except: BackendChoice,
}

impl<'a> Stuck<'a> {
    pub(super) fn new(pool: &'a Pool, lease: &Lease, tried: &BackendChoice) -> Self {
        Self {
            closing: lease.closing(),
            began: Instant::now(),
            pool,
            backend: lease.id().clone(),
            except: tried.clone(),
        }
    }

    /// What the backend says, unless it is to be left. `last` is when it last gave a sign of life.
    pub(super) async fn or<T>(
        &mut self,
        last: Option<Instant>,
        way_on: WayOn,
        told: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Failed> {
        tokio::select! {
            biased;
            told = told => told.map_err(|fault| (Some(Failure::Broken), fault)),
            left = self.left(|| last, way_on) => Err(left),
        }
    }

    /// The same where it is known how it failed, and signs of life come while it is waited for.
    pub(super) async fn or_failed<T>(
        &mut self,
        last: impl Fn() -> Option<Instant>,
        way_on: WayOn,
        told: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        tokio::select! {
            biased;
            told = told => told,
            left = self.left(last, way_on) => Err(left),
        }
    }

    /// Completes when it is to be left.
    async fn left(&mut self, last: impl Fn() -> Option<Instant>, way_on: WayOn) -> Failed {
        let began = self.began;
        let silent_since = || last().unwrap_or(began);
        let (pool, except, backend) = (self.pool, &self.except.except, &self.backend);
        let goes_on = || match way_on {
            WayOn::Anew => pool.has_other(except, backend),
            WayOn::Resumed => pool.has_other_that(except, backend, |b| b.continues_answers()),
            WayOn::None => false,
        };
        let why = self.closing.of_silent_since(&silent_since, goes_on).await;
        // That it is down is known already.
        let (failure, stage) = match why {
            WhyClosed::Stuck => (Some(Failure::Broken), "fleet.watchdog.stuck_after"),
            WhyClosed::Down => (None, "fleet.health.timeout"),
        };
        let after = silent_since().elapsed();
        let error = TurnError::Timeout { stage, after };
        (failure, Fault::Transient(error))
    }
}
