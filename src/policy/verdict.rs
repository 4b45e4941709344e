//! What rules decide.

use std::sync::Arc;

use serde::Serialize;

use super::kept::Kept;
use super::lease::{Answer, Claim};
use super::source::{Lease, Level, Mode, OnBlock, Stage};

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it is.
    Allow,
    /// It goes on with these arguments.
    Rewrite(String),
    /// It does not go on.
    Block(Blocked),
    /// It goes on once it has what it claims; nobody but the store can say.
    NeedsLease(Box<NeedsLease>),
}

/// A call that goes on once it has its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsLease {
    /// What it claims.
    pub claim: Claim,
    /// Its arguments, where rules have changed them.
    pub arguments: Option<String>,
    /// Whether the rule acts; else the claim is only tried out.
    pub acts: bool,
    /// What is decided, as far as it is known: to be completed by the answer.
    pub(super) decision: Decision,
    pub(super) lease: Lease,
}

impl NeedsLease {
    pub(super) fn new(claim: Claim, decision: Decision, lease: Lease) -> Self {
        Self {
            claim,
            arguments: None,
            acts: decision.acted,
            decision,
            lease,
        }
    }

    /// What becomes of it: the decision, and why it does not go on if it does not. Without an answer
    /// nobody can tell, and a rule that acts blocks.
    pub fn answered(self, answer: Option<&Answer>) -> (Decision, Option<Blocked>) {
        let mut decision = self.decision;
        let hint = match answer {
            Some(Answer::Granted) => {
                decision.decision = "lease";
                decision.reason = self.claim.described();
                return (decision, None);
            }
            Some(answer) => {
                decision.reason = answer.reason();
                answer.hint()
            }
            None => {
                "lease_unavailable".clone_into(&mut decision.reason);
                "Nobody can tell at the moment whether another session is at work on it. Try again in a minute."
                    .to_owned()
            }
        };
        let blocked = Blocked {
            rule: Arc::clone(&decision.rule),
            reason: decision.reason.clone(),
            hint: format!("{hint} {}", self.lease.hint).trim_end().to_owned(),
            on_block: self.lease.on_block,
            for_now: true,
        };
        let blocked = self.acts.then_some(blocked);
        (decision, blocked)
    }
}

/// Why something does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The rule.
    pub rule: Arc<str>,
    /// Why, in one word.
    pub reason: String,
    /// What to do instead.
    pub hint: String,
    /// Who hears of it.
    pub on_block: OnBlock,
    /// The same call may go on later.
    pub for_now: bool,
}

impl Blocked {
    /// For the model, about a call of `tool`.
    pub fn tell_model(&self, tool: &str) -> String {
        let hint = match self.hint.as_str() {
            "" => "Do something else.",
            hint => hint,
        };
        let again = match self.for_now {
            true => "",
            false => {
                " Making the same call again, or another that does the same, will be blocked as well."
            }
        };
        format!(
            "The call of `{tool}` was blocked by policy and not carried out ({}, rule {}). {hint}{again}",
            self.reason, self.rule
        )
    }

    /// For a human.
    pub fn tell_client(&self, tool: &str) -> String {
        let hint = if self.hint.is_empty() {
            String::new()
        } else {
            format!(" {}", self.hint)
        };
        format!(
            "Policy blocked a call of `{tool}` ({}, rule {}).{hint}",
            self.reason, self.rule
        )
    }
}

/// What one rule decided, or that none had anything to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The rule; `-` for a call that none of them concerned.
    pub rule: Arc<str>,
    /// Hash of the rule's text.
    pub version: Arc<str>,
    /// Where.
    pub stage: &'static str,
    /// How much the rule weighs.
    pub level: &'static str,
    /// Whether it acts.
    pub mode: &'static str,
    /// The tool, where it is about a call or a result.
    pub tool: String,
    /// `allow`, `rewrite`, `block`, `warn`, `record`, `lease`, `gate_exhausted`, `gate_unsatisfiable`.
    pub decision: &'static str,
    /// Why.
    pub reason: String,
    /// The arguments as they were.
    pub old: Option<Kept>,
    /// What they became.
    pub new: Option<Kept>,
    /// Whether it had an effect.
    pub acted: bool,
    /// How long the rules of the stage took, in microseconds.
    pub latency_us: u64,
}

impl Decision {
    /// A call that no rule had anything to say about.
    pub fn is_plain_allow(&self) -> bool {
        self.decision == "allow" && self.rule.as_ref() == "-"
    }

    pub(super) fn none(stage: Stage, tool: &str) -> Self {
        Self {
            rule: "-".into(),
            version: "-".into(),
            stage: stage.as_str(),
            level: Level::Optional.as_str(),
            mode: Mode::Enforce.as_str(),
            tool: tool.to_owned(),
            decision: "allow",
            reason: String::new(),
            old: None,
            new: None,
            acted: false,
            latency_us: 0,
        }
    }
}
