//! Calls of the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Judged, TurnPolicy, blocked, hints, names, undecided};
use crate::policy::bindings::Bindings;
use crate::policy::call::Call;
use crate::policy::engine::{Action, Needed, Rule};
use crate::policy::expr::Undecided;
use crate::policy::kept::Kept;
use crate::policy::lease::{self, Claim};
use crate::policy::rewrite;
use crate::policy::source::{Lease, Level, OnBlock, Stage};
use crate::policy::verdict::{Blocked, Decision, NeedsLease, Verdict};

/// Times a call is judged again after a rewrite.
const MAX_REWRITES: usize = 3;

/// What a rule that applies does.
enum Acts {
    Not,
    Block(Blocked),
    Rewrite(String),
    Lease(Claim, Lease),
}

impl TurnPolicy {
    /// A call of the model, complete and valid.
    pub fn tool_call(&self, tool: &str, arguments: &str) -> Judged<Verdict> {
        let mut decisions = Vec::new();
        let mut current = arguments.to_owned();
        for _ in 0..MAX_REWRITES {
            let mut lease = None;
            let changed = (current != arguments).then(|| current.clone());
            let verdict = match self.once(tool, &current, &mut decisions, &mut lease) {
                Verdict::Rewrite(new) => {
                    current = new;
                    continue;
                }
                Verdict::Allow => match (lease, changed) {
                    (Some(lease), arguments) => {
                        Verdict::NeedsLease(Box::new(NeedsLease { arguments, ..lease }))
                    }
                    (None, Some(current)) => Verdict::Rewrite(current),
                    (None, None) => {
                        if decisions.is_empty() {
                            let mut none = Decision::none(Stage::ToolCall, tool);
                            none.old = Some(Kept::of(arguments));
                            decisions.push(none);
                        }
                        Verdict::Allow
                    }
                },
                blocked => blocked,
            };
            return Judged { verdict, decisions };
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
            hint: "The call could not be changed so that it is allowed. Say paths plainly, and one command at a time."
                .to_owned(),
            on_block: OnBlock::AnswerModel,
            for_now: false,
        };
        Judged {
            verdict: Verdict::Block(blocked),
            decisions,
        }
    }

    /// Ask every rule once; the first that acts decides. A lease is claimed when all have agreed.
    fn once(
        &self,
        tool: &str,
        arguments: &str,
        decisions: &mut Vec<Decision>,
        lease: &mut Option<NeedsLease>,
    ) -> Verdict {
        let root = self.actor.root.as_deref();
        let call = Call::new(&self.engine.tools, tool, arguments, root);
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
                Ok(Acts::Rewrite(new)) => {
                    if rule.level == Level::Required {
                        decision.decision = "rewrite";
                    }
                    decision.new = Some(Kept::of(&new));
                    Verdict::Rewrite(new)
                }
                Ok(Acts::Block(blocked)) => {
                    decision.reason.clone_from(&blocked.reason);
                    Verdict::Block(blocked)
                }
                Ok(Acts::Lease(claim, how)) => {
                    let claimed = NeedsLease::new(claim, decision, how);
                    // One that acts goes before one that is only tried out.
                    if lease
                        .as_ref()
                        .is_none_or(|known| claimed.acts && !known.acts)
                    {
                        *lease = Some(claimed);
                    }
                    continue;
                }
                Ok(Acts::Not) => continue,
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
    ) -> Result<Acts, Undecided> {
        let context = &self.engine.context;
        match &rule.action {
            Action::Block(block) => Ok(Acts::Block(blocked(rule, block))),
            Action::Require(_) => Ok(Acts::Not),
            Action::Lease(how) => {
                let claim = lease::wants(call, &self.actor, &self.state, &self.engine.leases);
                match claim {
                    None => Ok(Acts::Not),
                    Some(claim) if claim.repository.is_empty() => {
                        Err(Undecided(NO_ROOT.to_owned()))
                    }
                    Some(claim) => Ok(Acts::Lease(claim, how.clone())),
                }
            }
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
                let mut values = BTreeMap::new();
                for (key, expr) in input {
                    values.insert(key.clone(), expr.text(context, bindings)?.into());
                }
                new = rewrite::replace(&new, &values).map_err(Undecided)?;
                match new == arguments {
                    true => Err(Undecided(
                        "the call cannot be changed so that it is allowed".to_owned(),
                    )),
                    false => Ok(Acts::Rewrite(new)),
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
                    .any(|needed| self.would_make(needed, bindings))
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
                    for_now: false,
                });
            }
        }
        None
    }
}

const NO_ROOT: &str = "the session's working directory is not known (policy.root, x-drover-root)";
