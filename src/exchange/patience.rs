//! How long a backend is waited for: deadlines, and the watchdog's word.

use std::time::Duration;

use tokio::time::Instant;

use super::TurnBudget;
use crate::dialect::llama::Fault;
use crate::fleet::{Closing, Failure, Lease};
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

/// The watchdog's word against waiting any longer for a backend that gets nowhere.
pub(super) struct Stuck {
    closing: Closing,
    began: Instant,
}

impl Stuck {
    pub(super) fn new(lease: &Lease) -> Self {
        Self {
            closing: lease.closing(),
            began: Instant::now(),
        }
    }

    /// What the backend says, unless it is to be left. `last` is when it last gave a sign of life.
    pub(super) async fn or<T>(
        &mut self,
        last: Option<Instant>,
        told: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.unless(last, told, |fault| fault).await
    }

    /// The same for an answer that nobody has heard anything of.
    pub(super) async fn or_silent<T>(
        &mut self,
        last: Option<Instant>,
        told: impl Future<Output = Result<T, (Option<Failure>, Fault)>>,
    ) -> Result<T, (Option<Failure>, Fault)> {
        self.unless(last, told, |fault| (Some(Failure::Broken), fault))
            .await
    }

    async fn unless<T, E>(
        &mut self,
        last: Option<Instant>,
        told: impl Future<Output = Result<T, E>>,
        error: impl FnOnce(Fault) -> E,
    ) -> Result<T, E> {
        let silent_since = last.unwrap_or(self.began);
        tokio::select! {
            biased;
            told = told => told,
            () = self.closing.of_silent_since(silent_since) => {
                Err(error(Fault::Transient(TurnError::Timeout {
                    stage: "fleet.watchdog.stuck_after",
                    after: silent_since.elapsed(),
                })))
            }
        }
    }
}
