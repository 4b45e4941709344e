//! Rules at work: each stage of a turn.

mod call;
mod turn;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::bindings::{Actor, Bindings};
use super::engine::{Action, Active, Engine, Needed, Rule};
use super::expr::Undecided;
use super::session::SessionState;
use super::source::{Block, Level, Mode, OnBlock};
use super::tools::Class;
use super::verdict::{Blocked, Decision};
use crate::turn::Tool;

pub use turn::{ResultDecision, notice, tell_blockers};

/// A turn's rules with all they ask about.
#[derive(Clone, Debug)]
pub struct TurnPolicy {
    pub(super) engine: Arc<Engine>,
    pub(super) active: Active,
    pub(super) actor: Actor,
    pub(super) state: SessionState,
    pub(super) offered: BTreeSet<Class>,
}

/// What rules decided.
#[derive(Clone, Debug)]
pub struct Judged<V> {
    /// What is to be done.
    pub verdict: V,
    /// Why, one for each rule that had something to say.
    pub decisions: Vec<Decision>,
}

/// What is missing before a turn may end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// In one word.
    pub name: String,
    /// What to do about it.
    pub hint: String,
}

impl TurnPolicy {
    /// For a turn of a session in `state`, with `tools` on offer.
    pub fn new(
        engine: Arc<Engine>,
        active: Active,
        actor: Actor,
        state: SessionState,
        tools: &[Tool],
    ) -> Self {
        let offered = tools
            .iter()
            .map(|tool| engine.tools.class(&tool.name))
            .collect();
        Self {
            engine,
            active,
            actor,
            state,
            offered,
        }
    }

    /// Blocked calls a turn tells its model about.
    pub fn max_denials(&self) -> u32 {
        self.engine.max_denials
    }

    /// Times a turn sends its model back from a blocked end.
    pub fn max_gate_rounds(&self) -> u32 {
        self.engine.max_gate_rounds
    }

    /// Whose turn it is.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    pub(super) fn bindings(&self) -> Bindings<'_> {
        Bindings::new(&self.actor, &self.state, &self.engine.captures)
    }

    pub(super) fn applies(&self, rule: &Rule, bindings: &Bindings<'_>) -> Result<bool, Undecided> {
        let when = rule.when.as_ref();
        when.map_or(Ok(true), |when| when.holds(&self.engine.context, bindings))
    }

    pub(super) fn decision(rule: &Rule, mode: Mode, tool: &str) -> Decision {
        Decision {
            rule: Arc::clone(&rule.id),
            version: Arc::clone(&rule.version),
            stage: rule.stage.as_str(),
            level: rule.level.as_str(),
            mode: mode.as_str(),
            tool: tool.to_owned(),
            decision: match rule.level {
                Level::Required => "block",
                Level::Recommended => "warn",
                Level::Optional => "record",
            },
            acted: rule.level == Level::Required && mode == Mode::Enforce,
            ..Decision::none(rule.stage, tool)
        }
    }

    pub(super) fn missing<'a>(&self, rule: &'a Rule, bindings: &Bindings<'_>) -> Vec<&'a Needed> {
        let Action::Require(needs) = &rule.action else {
            return Vec::new();
        };
        let holds =
            |needed: &&Needed| needed.when.holds(&self.engine.context, bindings) == Ok(true);
        needs.iter().filter(|needed| !holds(needed)).collect()
    }

    /// Whether the call of `bindings`, if it goes well, makes true what is needed.
    fn would_make(&self, needed: &Needed, bindings: &Bindings<'_>) -> bool {
        needed.when.session.iter().any(|name| {
            let fact = self.engine.facts.get(name);
            fact.is_some_and(|fact| fact.when.holds(&self.engine.context, bindings) == Ok(true))
        })
    }

    fn is_satisfiable(&self, needed: &Needed) -> bool {
        let facts = needed.when.session.iter();
        let mut facts = facts
            .filter(|name| self.engine.facts.contains_key(*name))
            .peekable();
        match facts.peek() {
            None => true,
            Some(_) => facts.any(|name| self.engine.can_make(name, &self.offered)),
        }
    }
}

fn blocked(rule: &Rule, block: &Block) -> Blocked {
    Blocked {
        rule: Arc::clone(&rule.id),
        reason: block.reason.clone(),
        hint: block.hint.clone(),
        on_block: block.on_block,
        for_now: false,
    }
}

fn undecided(rule: &Rule, why: &str) -> Blocked {
    let (on_block, hint) = match &rule.action {
        Action::Block(block) => (block.on_block, block.hint.as_str()),
        _ => (OnBlock::AnswerModel, ""),
    };
    Blocked {
        rule: Arc::clone(&rule.id),
        reason: "undecidable".to_owned(),
        hint: format!(
            "It could not be told whether it is allowed: {why}. Say commands and paths plainly. {hint}"
        ),
        on_block,
        for_now: false,
    }
}

fn names(needs: &[&Needed]) -> String {
    let names: Vec<&str> = needs.iter().map(|needed| needed.blocker.as_str()).collect();
    names.join(", ")
}

fn hints(needs: &[&Needed]) -> String {
    let hints: Vec<&str> = needs.iter().map(|needed| needed.hint.as_str()).collect();
    hints.join(" ")
}
