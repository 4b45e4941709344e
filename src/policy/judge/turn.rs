//! Requests, results, and the end of a turn.

use std::collections::HashMap;

use super::{Blocker, Judged, TurnPolicy, blocked, names, undecided};
use crate::policy::bindings::{Bindings, Request};
use crate::policy::call::Call;
use crate::policy::engine::{Action, Needed};
use crate::policy::expr::Undecided;
use crate::policy::source::Stage;
use crate::policy::verdict::{Blocked, Decision};
use crate::turn::{Content, Message, Part, Turn};

impl TurnPolicy {
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
    /// same way in every turn, so that the prompt keeps its beginning; which decisions are new,
    /// [`SessionPolicy::news`](crate::policy::SessionPolicy::news) knows.
    pub fn results(&self, turn: &mut Turn) -> Vec<ResultDecision> {
        let mut decisions = Vec::new();
        if self
            .engine
            .at(&self.active, Stage::ToolResult)
            .next()
            .is_none()
        {
            return decisions;
        }
        let mut calls = HashMap::new();
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
                let about = [result.call_id.as_str(), name, arguments, &text];
                let decided = judged.decisions.into_iter();
                decisions.extend(decided.map(|decision| ResultDecision::new(&about, decision)));
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

/// A decision about a result. Clients send their transcripts with every turn, so that it is made again and again.
#[derive(Clone, Debug)]
pub struct ResultDecision {
    /// What was decided.
    pub decision: Decision,
    /// Hash of that and of the call with its result.
    pub(in crate::policy) hash: u64,
}

impl ResultDecision {
    fn new(about: &[&str], decision: Decision) -> Self {
        let Decision {
            rule,
            version,
            mode,
            reason,
            ..
        } = &decision;
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let made: [&str; 4] = [rule, version, mode, reason];
        for part in about.iter().copied().chain(made) {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let hash = hash.digest();
        Self { decision, hash }
    }
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
