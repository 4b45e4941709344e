//! Leases: whoever commits, pushes, merges, runs a workflow or deploys has its target alone for a while.
//!
//! What a call wants is told here, and who may have it by [`Table`]; both know no clock and no store. The
//! exchange keeps the table of each repository in the store and changes it by compare-and-swap.

mod table;
mod want;
mod windows;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use table::{Answer, Freed, Table};
pub(super) use want::{of_tool, wants};
pub use windows::{Set, Window, Windows};

/// What a deploy-like call does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A branch gets a commit.
    Commit,
    /// A branch of the remote is moved.
    Push,
    /// A branch or pull request is merged.
    Merge,
    /// A workflow is started.
    Workflow,
    /// Anything else that others see: an environment is changed, a package published.
    Deploy,
}

impl Action {
    /// Its name in metrics and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Push => "push",
            Self::Merge => "merge",
            Self::Workflow => "workflow",
            Self::Deploy => "deploy",
        }
    }

    /// Whether the same one again, right after, is for nothing.
    const fn coalesces(self) -> bool {
        matches!(self, Self::Push | Self::Workflow)
    }
}

/// One thing that a call wants for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// What it does.
    pub action: Action,
    /// What it does it to: `branch main`, `head of /r`, `kubernetes prod`; [`EVERYTHING`] where that is
    /// not known.
    pub target: String,
    /// Hash of the words that say it: the same words do the same.
    pub digest: u64,
    /// Longest time it may take.
    pub window: Duration,
}

/// The target of what may be anywhere in the repository.
pub const EVERYTHING: &str = "*";

/// What a call needs before it may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where its targets are: each repository has its own [`Table`].
    pub repository: String,
    /// The session that makes the call.
    pub session: String,
    /// The working tree it works in: with the session, who holds the lease.
    pub worktree: String,
    /// The call's id.
    pub call: String,
    /// All of it, or nothing.
    pub wants: Vec<Want>,
}

/// A lease that a call has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// In whose table it is.
    pub repository: String,
    /// The session that has it.
    pub session: String,
    /// The call it is for.
    pub call: String,
}

impl Grant {
    /// What `claim` has got.
    pub fn of(claim: &Claim) -> Self {
        Self {
            repository: claim.repository.clone(),
            session: claim.session.clone(),
            call: claim.call.clone(),
        }
    }
}

impl Claim {
    /// A short name of who would hold the lease, which tells nothing else.
    pub fn holder(&self) -> String {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for part in [&self.session, &self.worktree] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        format!("{:08x}", hash.digest() >> 32)
    }

    /// Its actions and targets, for people.
    pub fn described(&self) -> String {
        let each = self
            .wants
            .iter()
            .map(|want| format!("{} to {}", want.action.as_str(), want.target));
        each.collect::<Vec<_>>().join(", ")
    }
}

impl Answer {
    /// In one word, with what a client can act on.
    pub fn reason(&self) -> String {
        let seconds = |span: Duration| span.as_millis().div_ceil(1000).max(1);
        match self {
            Self::Granted => "lease_granted".to_owned(),
            Self::Held {
                by,
                own,
                since,
                retry_after,
            } => format!(
                "lease_held by {by}{} for {} s, retry_after {} s",
                if *own { " (this session)" } else { "" },
                since.as_secs(),
                seconds(*retry_after)
            ),
            Self::Coalesced { with, .. } => format!("coalesced_with {with}"),
            Self::Full => "too_many_leases".to_owned(),
        }
    }

    /// What the model is to do.
    pub fn hint(&self) -> String {
        let seconds = |span: Duration| span.as_millis().div_ceil(1000).max(1);
        match self {
            Self::Granted => String::new(),
            Self::Held {
                own: true,
                retry_after,
                ..
            } => format!(
                "A call of your own session, from another working tree, is at work on the same target. Wait for its \
                 result, or do something else first, and try again in {} seconds.",
                seconds(*retry_after)
            ),
            Self::Held { retry_after, .. } => format!(
                "Another session is at work on the same target. Do something else first, and try again in {} seconds.",
                seconds(*retry_after)
            ),
            Self::Coalesced { retry_after, .. } => format!(
                "The same was done just now: it counts for this call too, nothing is left to do. If something has \
                 changed since, try again in {} seconds.",
                seconds(*retry_after)
            ),
            Self::Full => {
                "Too much is going on in this repository. Try again in a minute.".to_owned()
            }
        }
    }

    /// In a fixed word.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Held { .. } => "held",
            Self::Coalesced { .. } => "coalesced",
            Self::Full => "full",
        }
    }
}
