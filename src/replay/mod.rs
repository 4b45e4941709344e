//! What other rules would have decided: about calls on record, about a conversation, about cases written down.

pub mod cases;
mod conversation;
mod records;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::policy::{Decision, Engine, Judged, Verdict};

pub use conversation::{NoTurn, conversation};
pub use records::records;

#[cfg(test)]
mod tests;

/// What becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It goes on as it is.
    #[serde(alias = "allow")]
    Allowed,
    /// It goes on with other arguments.
    #[serde(alias = "rewrite")]
    Rewritten,
    /// It does not go on.
    #[serde(alias = "block")]
    Blocked,
}

impl Effect {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Rewritten => "rewritten",
            Self::Blocked => "blocked",
        }
    }
}

/// What rules decide about something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ruling {
    /// What becomes of it.
    pub effect: Effect,
    /// The rule that decides; empty for what is allowed.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// The arguments it goes on with, where they are others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl Ruling {
    fn allowed() -> Self {
        Self {
            effect: Effect::Allowed,
            rule: String::new(),
            reason: String::new(),
            new: None,
        }
    }

    fn blocked(rule: &str, reason: &str) -> Self {
        Self {
            effect: Effect::Blocked,
            rule: rule.to_owned(),
            reason: reason.to_owned(),
            new: None,
        }
    }

    fn of_call(judged: Judged<Verdict>) -> Self {
        match judged.verdict {
            Verdict::Allow => Self::allowed(),
            Verdict::Block(blocked) => Self::blocked(&blocked.rule, &blocked.reason),
            // One that is alone has its lease.
            Verdict::NeedsLease(need) => match need.arguments {
                None => Self::allowed(),
                Some(new) => Self::rewritten(&judged.decisions, new),
            },
            Verdict::Rewrite(new) => Self::rewritten(&judged.decisions, new),
        }
    }

    fn rewritten(decisions: &[Decision], new: String) -> Self {
        let by = decisions.iter().rev();
        let by = by.into_iter().find(|one| one.decision == "rewrite");
        Self {
            effect: Effect::Rewritten,
            rule: by.map(|one| one.rule.to_string()).unwrap_or_default(),
            reason: String::new(),
            new: Some(new),
        }
    }

    /// Whether both have the same effect.
    fn does_as(&self, other: &Self) -> bool {
        self.effect == other.effect && (self.effect != Effect::Rewritten || self.new == other.new)
    }
}

/// Something that rules decide about otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its record; 0 for a conversation, where `call` counts.
    pub seq: u64,
    /// The call in the conversation, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<usize>,
    /// The request.
    pub request_id: String,
    /// The session.
    pub session: String,
    /// `tool_call`, `request` or `completion`.
    pub stage: String,
    /// The tool.
    pub tool: String,
    /// Its arguments, as far as they are on record.
    pub arguments: String,
    /// What was decided.
    pub before: Ruling,
    /// What would be.
    pub now: Ruling,
}

/// What came of a replay.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// What is decided otherwise.
    pub changes: Vec<Change>,
    /// Calls, requests and ends of turns judged again.
    pub replayed: u64,
    /// What could not be judged again, by why.
    pub not_replayed: BTreeMap<String, u64>,
}

impl Outcome {
    fn skip(&mut self, why: impl Into<String>) {
        *self.not_replayed.entry(why.into()).or_default() += 1;
    }

    /// How many are newly of `effect`.
    pub fn newly(&self, effect: Effect) -> usize {
        let newly = |change: &&Change| change.now.effect == effect;
        self.changes.iter().filter(newly).count()
    }
}

/// The rules of profiles by name, separated by commas.
fn active(engine: &Arc<Engine>, profiles: &str) -> Result<crate::policy::Active, String> {
    let names = profiles
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    engine.active(names).map_err(|unknown| unknown.to_string())
}
