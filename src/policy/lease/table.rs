//! Who has what in one repository.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Claim, EVERYTHING, Want};

/// Leases of one repository at a time; more are refused.
const MAX_LEASES: usize = 256;

/// The leases of one repository. Times are milliseconds since 1970 by the clock of whoever asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    leases: Vec<Lease>,
}

/// One target that somebody has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    id: String,
    holder: String,
    session: String,
    call: String,
    action: Action,
    target: String,
    digest: u64,
    since: u64,
    until: u64,
    /// What it was for is done: nobody waits for it any more, but the same again is for nothing.
    #[serde(default)]
    done: bool,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call may go on.
    Granted,
    /// Another holder has it.
    Held {
        /// A short name of who.
        by: String,
        /// It is the session that asks, from another working tree.
        own: bool,
        /// For how long already.
        since: Duration,
        /// When it will be free at the latest.
        retry_after: Duration,
    },
    /// The same was done just now.
    Coalesced {
        /// The lease it was done with.
        with: String,
        /// When it may be done again.
        retry_after: Duration,
    },
    /// The repository has too many leases.
    Full,
}

/// Why leases are free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed<'a> {
    /// This call was made, and went well.
    Done(&'a str),
    /// This call was not made, or failed.
    Dropped(&'a str),
    /// The session is over.
    Ended,
}

impl Table {
    /// Take what `claim` wants, all or nothing.
    pub fn claim(&mut self, now: u64, claim: &Claim) -> Answer {
        self.expire(now);
        let holder = claim.holder();
        if let Some(answer) = self.coalesced(now, claim, &holder) {
            return answer;
        }
        let against = self.leases.iter().filter(|lease| {
            let wanted = claim
                .wants
                .iter()
                .any(|want| overlap(&want.target, &lease.target));
            wanted && !lease.done && lease.holder != holder
        });
        if let Some(longest) = against.max_by_key(|lease| lease.until) {
            return Answer::Held {
                by: longest.holder.clone(),
                own: longest.session == claim.session,
                since: span(longest.since, now),
                retry_after: span(now, longest.until),
            };
        }
        self.forget_done(claim, &holder);
        if self.leases.len() + claim.wants.len() > MAX_LEASES {
            return Answer::Full;
        }
        for want in &claim.wants {
            let until = now.saturating_add(millis(want.window));
            self.leases.push(Lease {
                id: id(&holder, &claim.call, now, want),
                holder: holder.clone(),
                session: claim.session.clone(),
                call: claim.call.clone(),
                action: want.action,
                target: want.target.clone(),
                digest: want.digest,
                since: now,
                until,
                done: false,
            });
        }
        Answer::Granted
    }

    /// A push is for nothing right after the same push of the same holder, and a workflow right after
    /// the same one of anybody.
    fn coalesced(&self, now: u64, claim: &Claim, holder: &str) -> Option<Answer> {
        let before = |want: &Want| {
            let same = |lease: &&Lease| {
                lease.action == want.action
                    && lease.target == want.target
                    && lease.digest == want.digest
                    && (lease.holder == holder || want.action == Action::Workflow)
            };
            self.leases
                .iter()
                .find(same)
                .filter(|_| want.action.coalesces())
        };
        let found: Option<Vec<&Lease>> = claim.wants.iter().map(before).collect();
        let found = found?;
        let until = found.iter().map(|lease| lease.until).max()?;
        Some(Answer::Coalesced {
            with: found.first()?.id.clone(),
            retry_after: span(now, until),
        })
    }

    /// What was done before is not the same any more: somebody does something new to its target, or its
    /// holder has something new to push.
    fn forget_done(&mut self, claim: &Claim, holder: &str) {
        let renews = |want: &Want| matches!(want.action, Action::Commit | Action::Merge);
        let renews = claim.wants.iter().any(renews);
        self.leases.retain(|lease| {
            let wanted = claim
                .wants
                .iter()
                .any(|want| overlap(&want.target, &lease.target));
            !(lease.done && (wanted || renews && lease.holder == holder))
        });
    }

    /// Free what `session` has, as far as `freed` says. Whether anything changed.
    pub fn free(&mut self, now: u64, session: &str, freed: Freed<'_>) -> bool {
        let before = self.clone();
        self.expire(now);
        match freed {
            Freed::Ended => self.leases.retain(|lease| lease.session != session),
            Freed::Dropped(call) => self
                .leases
                .retain(|lease| !(lease.session == session && lease.call == call)),
            Freed::Done(call) => {
                let of_call = |lease: &Lease| lease.session == session && lease.call == call;
                self.leases
                    .retain(|lease| !of_call(lease) || lease.action.coalesces());
                let of_call = self.leases.iter_mut().filter(|lease| of_call(lease));
                of_call.for_each(|lease| lease.done = true);
            }
        }
        *self != before
    }

    /// When the last of them ends; none when there are none.
    pub fn lasts(&self, now: u64) -> Option<Duration> {
        let last = self.leases.iter().map(|lease| lease.until).max()?;
        Some(span(now, last))
    }

    fn expire(&mut self, now: u64) {
        self.leases.retain(|lease| lease.until > now);
    }
}

fn overlap(one: &str, other: &str) -> bool {
    one == other || one == EVERYTHING || other == EVERYTHING
}

fn span(from: u64, to: u64) -> Duration {
    Duration::from_millis(to.saturating_sub(from))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn id(holder: &str, call: &str, now: u64, want: &Want) -> String {
    let text = format!(
        "{holder}\n{call}\n{now}\n{}\n{}",
        want.action.as_str(),
        want.target
    );
    format!("{:08x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()) >> 32)
}

#[cfg(test)]
mod tests;
