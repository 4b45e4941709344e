//! What rules decide.

use std::sync::Arc;

use serde::Serialize;

use super::kept::Kept;
use super::source::{Level, Mode, OnBlock, Stage};

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it is.
    Allow,
    /// It goes on with these arguments.
    Rewrite(String),
    /// It does not go on.
    Block(Blocked),
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
}

impl Blocked {
    /// For the model, about a call of `tool`.
    pub fn tell_model(&self, tool: &str) -> String {
        let hint = match self.hint.as_str() {
            "" => "Do something else.",
            hint => hint,
        };
        format!(
            "The call of `{tool}` was blocked by policy and not carried out ({}, rule {}). {hint} Making \
             the same call again, or another that does the same, will be blocked as well.",
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
    /// `allow`, `rewrite`, `block`, `warn`, `record`, `gate_exhausted`, `gate_unsatisfiable`.
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
