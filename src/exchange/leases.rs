//! Leases in the store: one table for each repository, changed by compare-and-swap.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::policy::lease::{Answer, Claim, Freed, Grant, Table};
use crate::store::{Clock, Store, StoreError, Swap};
use crate::telemetry::Metrics;

/// Where tables are. The part behind it is a hash: repositories are paths and may be long.
const TAKEN: &str = "policy/lease/";

/// Where those of rules are that do not act.
const TRIED: &str = "policy/lease-tried/";

/// Times somebody else may be faster.
const MAX_TRIES: usize = 100;

/// Shortest time between two writes that get in each other's way.
const PAUSE: Duration = Duration::from_millis(1);

/// Why nobody can tell whether a lease is free.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A table is there that nobody can read; it ends with its windows.
    #[error("the leases of this repository cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Others were faster, time and again.
    #[error("the leases of this repository change too often")]
    Contended,
}

/// See the module's documentation.
#[derive(Clone)]
pub struct Leases {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl Leases {
    /// Leases in `store`; `clock` is the one that all who share it have in common.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Take what `claim` wants, for at most `longest`: a session may end before a window does. Without
    /// `acts` it is only tried out, against others that are.
    ///
    /// # Errors
    /// [`Unavailable`]: nothing is taken.
    pub async fn claim(
        &self,
        claim: &Claim,
        acts: bool,
        longest: Duration,
    ) -> Result<Answer, Unavailable> {
        let mut claim = claim.clone();
        for want in &mut claim.wants {
            want.window = want.window.min(longest);
        }
        let key = key(if acts { TAKEN } else { TRIED }, &claim.repository);
        let answer = self.change(&key, |table, now| {
            let answer = table.claim(now, &claim);
            let changed = answer == Answer::Granted;
            (answer, changed)
        });
        let answer = answer.await;
        if acts {
            let outcome = answer.as_ref().map_or("failed", Answer::outcome);
            Metrics::global().policy_lease(outcome);
        }
        answer
    }

    /// `grant` is over: its call was made (`went_well`), or was not.
    ///
    /// # Errors
    /// [`Unavailable`]: it ends with its window.
    pub async fn free(&self, grant: &Grant, went_well: bool) -> Result<(), Unavailable> {
        let freed = match went_well {
            true => Freed::Done(&grant.call),
            false => Freed::Dropped(&grant.call),
        };
        let key = key(TAKEN, &grant.repository);
        let changed = |table: &mut Table, now: u64| ((), table.free(now, &grant.session, freed));
        self.change(&key, changed).await?;
        Metrics::global().policy_lease(if went_well { "done" } else { "given_back" });
        Ok(())
    }

    /// `session` is over, and with it all it has in `repository`.
    ///
    /// # Errors
    /// [`Unavailable`]: it ends with its windows.
    pub async fn ended(&self, repository: &str, session: &str) -> Result<(), Unavailable> {
        let key = key(TAKEN, repository);
        self.change(&key, |table, now| {
            ((), table.free(now, session, Freed::Ended))
        })
        .await?;
        Metrics::global().policy_lease("session_ended");
        Ok(())
    }

    /// Change a table as `with` does, which says whether it has.
    async fn change<T>(
        &self,
        key: &str,
        with: impl Fn(&mut Table, u64) -> (T, bool),
    ) -> Result<T, Unavailable> {
        let mut entry = self.store.get(key).await?;
        for _ in 0..MAX_TRIES {
            let now = u64::try_from((self.clock)().as_millis()).unwrap_or(u64::MAX);
            let mut table = match &entry {
                Some(entry) => serde_json::from_slice(&entry.value)?,
                None => Table::default(),
            };
            let (told, changed) = with(&mut table, now);
            if !changed {
                return Ok(told);
            }
            let lasts = table.lasts(now);
            let value = serde_json::to_vec(&table)?;
            let value = lasts.is_some().then_some(value.as_slice());
            let expected = entry.as_ref().map(|entry| entry.version);
            if value.is_none() && expected.is_none() {
                return Ok(told);
            }
            match self.store.swap(key, expected, value, lasts).await? {
                Swap::Done(_) => return Ok(told),
                Swap::Conflict(newer) => entry = newer,
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Unavailable::Contended)
    }
}

/// What one turn has to do with leases.
#[derive(Clone, Copy)]
pub struct LeaseDesk<'a> {
    /// Where they are.
    pub leases: &'a Leases,
    /// Longest time that the session may be there without another request.
    pub longest: Duration,
}

impl LeaseDesk<'_> {
    /// What came of a claim; none when nobody can tell.
    pub(super) async fn claim(&self, claim: &Claim, acts: bool) -> Option<Answer> {
        let answer = self.leases.claim(claim, acts, self.longest).await;
        answer
            .inspect_err(|error| tracing::warn!(%error, "no lease can be had"))
            .ok()
    }

    /// Their calls are not made.
    pub(super) async fn give_back(&self, grants: &[Grant]) {
        for grant in grants {
            if let Err(error) = self.leases.free(grant, false).await {
                tracing::warn!(%error, "a lease lasts to the end of its window");
            }
        }
    }
}

fn key(kind: &str, repository: &str) -> String {
    format!(
        "{kind}{:032x}",
        xxhash_rust::xxh3::xxh3_128(repository.as_bytes())
    )
}

#[cfg(test)]
mod tests;
