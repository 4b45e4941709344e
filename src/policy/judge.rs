//! Rules at work: each stage of a turn.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::bindings::{Actor, Bindings, Request};
use super::call::Call;
use super::engine::{Action, Active, Engine, Needed, Rule};
use super::expr::Undecided;
use super::kept::Kept;
use super::rewrite;
use super::session::SessionState;
use super::source::{Block, Level, Mode, OnBlock, Stage};
use super::tools::Class;
use super::verdict::{Blocked, Decision, Verdict};
use crate::turn::{Content, Message, Part, Tool, Turn};

/// Times a call is judged again after a rewrite.
const MAX_REWRITES: usize = 3;

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

    /// A call of the model, complete and valid.
    pub fn tool_call(&self, tool: &str, arguments: &str) -> Judged<Verdict> {
        let mut decisions = Vec::new();
        let mut current = arguments.to_owned();
        for _ in 0..MAX_REWRITES {
            match self.once(tool, &current, &mut decisions) {
                Verdict::Rewrite(new) => current = new,
                Verdict::Allow if current == arguments => {
                    if decisions.is_empty() {
                        let mut none = Decision::none(Stage::ToolCall, tool);
                        none.old = Some(Kept::of(arguments));
                        decisions.push(none);
                    }
                    return Judged {
                        verdict: Verdict::Allow,
                        decisions,
                    };
                }
                Verdict::Allow => {
                    return Judged {
                        verdict: Verdict::Rewrite(current),
                        decisions,
                    };
                }
                blocked => {
                    return Judged {
                        verdict: blocked,
                        decisions,
                    };
                }
            }
        }
        let last = decisions.last_mut();
        let rule = last.map(|last| {
            last.decision = "block";
            "undecidable".clone_into(&mut last.reason);
            Arc::clone(&last.rule)
        });
        let blocked = Blocked {
            rule: rule.unwrap_or_else(|| "-".into()),
            reason: "undecidable".to_owned(),
            hint:
                "The call could not be changed so that it is allowed. Say paths plainly, and one \
                   command at a time."
                    .to_owned(),
            on_block: OnBlock::AnswerModel,
        };
        Judged {
            verdict: Verdict::Block(blocked),
            decisions,
        }
    }

    /// Ask every rule once; the first that acts decides.
    fn once(&self, tool: &str, arguments: &str, decisions: &mut Vec<Decision>) -> Verdict {
        let call = Call::new(
            &self.engine.tools,
            tool,
            arguments,
            self.actor.root.as_deref(),
        );
        let bindings = self.bindings().with_call(&call);
        let before = decisions.len();
        let blocked = self.bootstrap(&call, &bindings, decisions);
        for decision in &mut decisions[before..] {
            decision.old = Some(Kept::of(arguments));
        }
        if let Some(blocked) = blocked {
            return Verdict::Block(blocked);
        }
        for (rule, mode) in self.engine.at(&self.active, Stage::ToolCall) {
            let when = rule.when.as_ref();
            if when.is_some_and(|when| !when.concerns(call.class.as_str())) {
                continue;
            }
            let verdict = match self.applies(rule, &bindings) {
                Ok(false) => continue,
                Ok(true) => self.act(rule, &call, arguments, &bindings),
                Err(why) => Err(why),
            };
            let mut decision = Self::decision(rule, mode, tool);
            decision.old = Some(Kept::of(arguments));
            let verdict = match verdict {
                Ok(Verdict::Rewrite(new)) => {
                    if rule.level == Level::Required {
                        decision.decision = "rewrite";
                    }
                    decision.new = Some(Kept::of(&new));
                    Verdict::Rewrite(new)
                }
                Ok(Verdict::Block(blocked)) => {
                    decision.reason.clone_from(&blocked.reason);
                    Verdict::Block(blocked)
                }
                Ok(Verdict::Allow) => continue,
                Err(Undecided(why)) => {
                    decision.reason = format!("undecidable: {why}");
                    Verdict::Block(undecided(rule, &why))
                }
            };
            let acts = decision.acted;
            decisions.push(decision);
            if acts {
                return verdict;
            }
        }
        Verdict::Allow
    }

    fn act(
        &self,
        rule: &Rule,
        call: &Call<'_>,
        arguments: &str,
        bindings: &Bindings<'_>,
    ) -> Result<Verdict, Undecided> {
        let context = &self.engine.context;
        match &rule.action {
            Action::Block(block) => Ok(Verdict::Block(blocked(rule, block))),
            Action::Require(_) => Ok(Verdict::Allow),
            Action::Rewrite { paths, input } => {
                let mut new = arguments.to_owned();
                if let Some(paths) = paths {
                    let root = self.actor.root.as_deref();
                    let root = root.ok_or_else(|| Undecided(NO_ROOT.to_owned()))?;
                    let moved = |path: &str| {
                        let bindings = Bindings {
                            p: Some(path),
                            ..*bindings
                        };
                        paths.text(context, &bindings).map_err(|Undecided(why)| why)
                    };
                    new = rewrite::paths(call, &new, root, &moved).map_err(Undecided)?;
                }
                let mut values = std::collections::BTreeMap::new();
                for (key, expr) in input {
                    values.insert(key.clone(), expr.text(context, bindings)?.into());
                }
                new = rewrite::replace(&new, &values).map_err(Undecided)?;
                match new == arguments {
                    true => Err(Undecided(
                        "the call cannot be changed so that it is allowed".to_owned(),
                    )),
                    false => Ok(Verdict::Rewrite(new)),
                }
            }
        }
    }

    /// Until what a session must begin with is done, only calls that do it may run.
    fn bootstrap(
        &self,
        call: &Call<'_>,
        bindings: &Bindings<'_>,
        decisions: &mut Vec<Decision>,
    ) -> Option<Blocked> {
        for (rule, mode) in self.engine.at(&self.active, Stage::SessionStart) {
            if self.applies(rule, bindings) == Ok(false) {
                continue;
            }
            let missing = self.missing(rule, bindings);
            if missing.is_empty()
                || missing
                    .iter()
                    .any(|needed| self.would_make(needed, call, bindings))
            {
                continue;
            }
            let mut decision = Self::decision(rule, mode, call.name);
            let (can, cannot): (Vec<&Needed>, Vec<&Needed>) = missing
                .into_iter()
                .partition(|needed| self.is_satisfiable(needed));
            decision.reason = names(if can.is_empty() { &cannot } else { &can });
            if can.is_empty() {
                // A bootstrap that no tool can do must not lock the session.
                decision.decision = "gate_unsatisfiable";
                decision.acted = false;
            }
            let acts = decision.acted;
            decisions.push(decision);
            if acts {
                return Some(Blocked {
                    rule: Arc::clone(&rule.id),
                    reason: names(&can),
                    hint: hints(&can),
                    on_block: OnBlock::AnswerModel,
                });
            }
        }
        None
    }

    pub(super) fn missing<'a>(&self, rule: &'a Rule, bindings: &Bindings<'_>) -> Vec<&'a Needed> {
        let Action::Require(needs) = &rule.action else {
            return Vec::new();
        };
        let holds =
            |needed: &&Needed| needed.when.holds(&self.engine.context, bindings) == Ok(true);
        needs.iter().filter(|needed| !holds(needed)).collect()
    }

    /// Whether the call, if it goes well, makes true what is needed.
    fn would_make(&self, needed: &Needed, call: &Call<'_>, bindings: &Bindings<'_>) -> bool {
        let _ = call;
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

    /// The request as a whole: who refuses it.
    pub fn request(&self, request: &Request) -> Judged<Option<Blocked>> {
        let mut bindings = self.bindings();
        bindings.request = Some(request);
        self.first_block(Stage::Request, "", &bindings)
    }

    fn first_block(
        &self,
        stage: Stage,
        tool: &str,
        bindings: &Bindings<'_>,
    ) -> Judged<Option<Blocked>> {
        let mut decisions = Vec::new();
        for (rule, mode) in self.engine.at(&self.active, stage) {
            let mut decision = Self::decision(rule, mode, tool);
            let blocked = match (self.applies(rule, bindings), &rule.action) {
                (Ok(true), Action::Block(block)) => blocked(rule, block),
                (Ok(_), _) => continue,
                (Err(Undecided(why)), _) => undecided(rule, &why),
            };
            decision.reason.clone_from(&blocked.reason);
            let acts = decision.acted;
            decisions.push(decision);
            if acts {
                return Judged {
                    verdict: Some(blocked),
                    decisions,
                };
            }
        }
        Judged {
            verdict: None,
            decisions,
        }
    }

    /// Results in `turn` that the model must not see are replaced. The same results are replaced the
    /// same way in every turn, so that the prompt keeps its beginning.
    pub fn results(&self, turn: &mut Turn) -> Vec<Decision> {
        let mut decisions = Vec::new();
        if self
            .engine
            .at(&self.active, Stage::ToolResult)
            .next()
            .is_none()
        {
            return decisions;
        }
        let mut calls = std::collections::HashMap::new();
        for call in turn.messages.iter().flat_map(Message::tool_calls) {
            calls.insert(call.id.clone(), (call.name.clone(), call.arguments.clone()));
        }
        for message in &mut turn.messages {
            let mut replaced = Vec::new();
            for (place, part) in message.parts().iter().enumerate() {
                let Part::ToolResult(result) = part else {
                    continue;
                };
                let Some((name, arguments)) = calls.get(&result.call_id) else {
                    continue;
                };
                let text = result.text();
                let call = Call::new(
                    &self.engine.tools,
                    name,
                    arguments,
                    self.actor.root.as_deref(),
                );
                let mut bindings = self.bindings().with_call(&call);
                bindings.result = Some((&text, result.is_error));
                let judged = self.first_block(Stage::ToolResult, name, &bindings);
                decisions.extend(judged.decisions);
                if let Some(blocked) = judged.verdict {
                    replaced.push((place, blocked));
                }
            }
            if replaced.is_empty() {
                continue;
            }
            let parts = message.parts_mut();
            for (place, blocked) in replaced {
                if let Some(Part::ToolResult(result)) = parts.get_mut(place) {
                    let text = format!(
                        "The result was withheld by policy ({}, rule {}). {}",
                        blocked.reason, blocked.rule, blocked.hint
                    );
                    result.content = vec![Content::Text(text)];
                }
            }
        }
        decisions
    }

    /// The model ends its turn: what keeps it from that. `exhausted`: it has been sent back often
    /// enough.
    pub fn completion(&self, exhausted: bool) -> Judged<Vec<Blocker>> {
        let mut decisions = Vec::new();
        let mut blockers: Vec<Blocker> = Vec::new();
        let bindings = self.bindings();
        for (rule, mode) in self.engine.at(&self.active, Stage::Completion) {
            if self.applies(rule, &bindings) == Ok(false) {
                continue;
            }
            let missing = self.missing(rule, &bindings);
            let (can, cannot): (Vec<&Needed>, Vec<&Needed>) = missing
                .into_iter()
                .partition(|needed| self.is_satisfiable(needed));
            if !cannot.is_empty() {
                decisions.push(Decision {
                    decision: "gate_unsatisfiable",
                    reason: names(&cannot),
                    acted: false,
                    ..Self::decision(rule, mode, "")
                });
            }
            if can.is_empty() {
                continue;
            }
            let mut decision = Self::decision(rule, mode, "");
            decision.reason = names(&can);
            if decision.acted {
                blockers.extend(can.iter().map(|needed| Blocker {
                    name: needed.blocker.clone(),
                    hint: needed.hint.clone(),
                }));
                if exhausted {
                    decision.decision = "gate_exhausted";
                    decision.acted = false;
                }
            }
            decisions.push(decision);
        }
        Judged {
            verdict: blockers,
            decisions,
        }
    }
}

const NO_ROOT: &str = "the session's working directory is not known (policy.root, x-drover-root)";

fn blocked(rule: &Rule, block: &Block) -> Blocked {
    Blocked {
        rule: Arc::clone(&rule.id),
        reason: block.reason.clone(),
        hint: block.hint.clone(),
        on_block: block.on_block,
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

/// What the model is told about a blocked end.
pub fn tell_blockers(blockers: &[Blocker]) -> String {
    let mut told =
        "You cannot end the turn yet: the work is not complete by this project's policy."
            .to_owned();
    for blocker in blockers {
        told.push_str(&format!("\n- {}: {}", blocker.name, blocker.hint));
    }
    told.push_str("\nDo that now with your tools, then finish.");
    told
}

/// What the client reads when the model was sent back often enough.
pub fn notice(blockers: &[Blocker]) -> String {
    let names: Vec<&str> = blockers
        .iter()
        .map(|blocker| blocker.name.as_str())
        .collect();
    format!(
        "[policy] The turn ended with open requirements: {}.",
        names.join(", ")
    )
}
