//! What a session has done, as far as policy asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::bindings::{Actor, Bindings};
use super::call::Call;
use super::engine::Engine;
use super::judge::ResultDecision;
use super::lease::Grant;
use super::seen::Seen;
use super::shell;
use super::source::Event;
use super::tools::Class;
use super::trees::Trees;
use super::verdict::Decision;
use crate::turn::{Message, Part, ToolCall, ToolResult, floor};

/// What rules ask of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionState {
    /// Facts that hold.
    facts: BTreeSet<String>,
    /// Of facts that take several calls, those that were made.
    parts: BTreeMap<String, BTreeSet<String>>,
    /// Texts remembered.
    captures: BTreeMap<String, String>,
    /// Working trees, with the branch checked out in each.
    #[serde(skip_serializing_if = "Trees::is_empty")]
    trees: Trees,
    /// A file was changed.
    pub mutated: bool,
    /// Calls that were blocked.
    pub denials: u32,
}

impl SessionState {
    /// Whether the fact `name` holds.
    pub fn holds(&self, name: &str) -> bool {
        self.facts.contains(name)
    }

    /// The text remembered as `name`.
    pub fn capture(&self, name: &str) -> Option<&str> {
        self.captures.get(name).map(String::as_str)
    }

    /// The working tree that `dir` is in, where it is known.
    pub(super) fn worktree_of(&self, dir: &str) -> Option<&str> {
        self.trees.of(dir)
    }

    /// The branch checked out in a working tree, where it is known.
    pub(super) fn branch_of(&self, tree: &str) -> Option<&str> {
        self.trees.branch(tree)
    }
}

/// The policy's part of a session. What is not left out is durable: it is kept in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionPolicy {
    /// What rules ask of it.
    pub state: SessionState,
    /// What the model is told with its next results: calls of a batch that were blocked beside others.
    pub notes: Vec<String>,
    /// Leases of calls whose results are not there yet.
    pub leases: Vec<Grant>,
    /// Leases of calls whose results are there, and whether those are good.
    #[serde(skip)]
    pub answered: Vec<(Grant, bool)>,
    seen: Seen,
    /// Decisions about results that are on record.
    #[serde(skip_serializing_if = "Seen::is_empty")]
    recorded: Seen,
    /// Hash of what the store has.
    #[serde(skip)]
    kept: Option<u64>,
}

impl SessionPolicy {
    /// What the store is to keep, unless it has that; from here on it counts as kept.
    pub fn to_keep(&mut self) -> Option<Vec<u8>> {
        let nothing = Self {
            kept: self.kept,
            ..Self::default()
        };
        if *self == nothing {
            return None;
        }
        let value = serde_json::to_vec(self).ok()?;
        let hash = xxhash_rust::xxh3::xxh3_64(&value);
        (self.kept.replace(hash) != Some(hash)).then_some(value)
    }

    /// The store has not kept it.
    pub fn not_kept(&mut self) {
        self.kept = None;
    }

    /// Those of `decisions` that were not made in an earlier turn: each call's are recorded once. Of more than
    /// 8,192 the oldest are forgotten.
    pub fn news(&mut self, decisions: Vec<ResultDecision>) -> Vec<Decision> {
        let new = |made: ResultDecision| self.recorded.insert(made.hash).then_some(made.decision);
        decisions.into_iter().filter_map(new).collect()
    }

    /// Note the result of `call`, if it holds a lease.
    fn frees(&mut self, call: &ToolCall, good: bool) {
        let mut kept = Vec::new();
        for grant in std::mem::take(&mut self.leases) {
            match grant.call == call.id {
                true => self.answered.push((grant, good)),
                false => kept.push(grant),
            }
        }
        self.leases = kept;
    }
}

impl Engine {
    /// Take in what a transcript shows: calls with their results, each once. A transcript that has
    /// lost its beginning takes nothing away.
    pub fn observe(&self, session: &mut SessionPolicy, actor: &Actor, messages: &[Message]) {
        if let Some(root) = &actor.root {
            session.state.trees.begin(root, messages);
        }
        let mut open: HashMap<&str, &ToolCall> = HashMap::new();
        for part in messages.iter().flat_map(Message::parts) {
            match part {
                Part::ToolCall(call) => {
                    open.insert(&call.id, call);
                }
                Part::ToolResult(result) => {
                    if let Some(call) = open.remove(result.call_id.as_str())
                        && session.seen.is_new(call)
                    {
                        let good = self.happened(&mut session.state, actor, call, result);
                        session.frees(call, good);
                    }
                }
                _ => {}
            }
        }
    }

    /// A call was made and answered. Whether it went well.
    fn happened(
        &self,
        state: &mut SessionState,
        actor: &Actor,
        call: &ToolCall,
        result: &ToolResult,
    ) -> bool {
        let text = result.text();
        let seen = Call::new(
            &self.tools,
            &call.name,
            &call.arguments,
            actor.root.as_deref(),
        );
        let good = is_good(seen.class, &text, result.is_error);
        for event in events(&seen, good) {
            self.stale(state, event);
            state.mutated |= event == Event::Mutation;
        }
        if !good {
            return false;
        }
        if seen.class == Class::Shell {
            state.trees.happened(&seen, &text);
        }
        for (name, fact) in &self.facts {
            let before = state.clone();
            let mut bindings = Bindings::new(actor, &before, &self.captures).with_call(&seen);
            bindings.result = Some((&text, result.is_error));
            let holds = |expr: &super::expr::Expr| expr.holds(&self.context, &bindings) == Ok(true);
            if !holds(&fact.when) || !fact.result.as_ref().is_none_or(holds) {
                continue;
            }
            for (capture, expr) in &fact.capture {
                if let Ok(text) = expr.text(&self.context, &bindings) {
                    let text = match actor.root.as_deref() {
                        Some(root) if fact.paths.contains(capture) => {
                            super::path::resolve(root, &text)
                        }
                        _ => text,
                    };
                    state.captures.insert(capture.clone(), text);
                }
            }
            let by = fact.by.as_ref().map(|by| by.text(&self.context, &bindings));
            match by {
                Some(Ok(part)) if fact.all_of.contains(&part) => {
                    let parts = state.parts.entry(name.clone()).or_default();
                    parts.insert(part);
                    if parts.len() == fact.all_of.len() {
                        state.facts.insert(name.clone());
                    }
                }
                Some(_) => {}
                None => {
                    state.facts.insert(name.clone());
                }
            }
        }
        true
    }

    fn stale(&self, state: &mut SessionState, event: Event) {
        for (name, fact) in &self.facts {
            if fact.stale_after.contains(&event) {
                state.facts.remove(name);
                state.parts.remove(name);
                for capture in fact.capture.keys() {
                    state.captures.remove(capture);
                }
            }
        }
    }

    /// Whether a call of these classes could make `fact` true.
    pub(super) fn can_make(&self, fact: &str, offered: &BTreeSet<Class>) -> bool {
        let Some(fact) = self.facts.get(fact) else {
            return !offered.is_empty();
        };
        let classes = &fact.when.classes;
        match classes.is_empty() {
            true => !offered.is_empty(),
            false => offered.iter().any(|class| classes.contains(class.as_str())),
        }
    }
}

/// What a call that was made amounts to.
fn events(call: &Call<'_>, good: bool) -> Vec<Event> {
    let mut events = Vec::new();
    // A command may have failed after it had changed something.
    if call.edits() && (good || call.class == Class::Shell) {
        events.push(Event::Mutation);
    }
    if call.class == Class::Shell && good {
        let script = call.script();
        let runs = |patterns: &[&str]| shell::runs(&script, patterns) == Ok(true);
        let git = [
            (Event::Commit, &["git commit"][..]),
            (Event::Push, &["git push"]),
            (Event::Merge, &["git merge", "gh pr merge"]),
            (Event::WorktreeRemoved, &["git worktree remove"]),
        ];
        events.extend(
            git.into_iter()
                .filter(|(_, patterns)| runs(patterns))
                .map(|(event, _)| event),
        );
    }
    events
}

/// Whether a result is a good one. Dialects without a mark for errors say it in the text.
fn is_good(class: Class, text: &str, is_error: bool) -> bool {
    let failed = is_error || (class == Class::Shell && says_failure(text));
    !failed
}

/// Whether what a shell tool returns says that the command failed: an exit code other than 0, in the
/// forms of the common agents, at the beginning or the end; or a test runner's verdict.
fn says_failure(text: &str) -> bool {
    let edges = [
        &text[..floor(text, 400)],
        &text[floor(text, text.len().saturating_sub(400))..],
    ];
    edges.iter().any(|edge| {
        let edge = edge.to_ascii_lowercase();
        ["exit code", "exit_code", "exit status", "exited with code"]
            .iter()
            .any(|words| {
                edge.match_indices(words)
                    .any(|(at, _)| is_not_zero(&edge[at + words.len()..]))
            })
            || edge.contains("test result: failed")
            || edge.starts_with("error:")
    })
}

/// Whether a number other than 0 follows directly.
fn is_not_zero(rest: &str) -> bool {
    let number = rest.trim_start_matches([' ', ':', '=', '"', '>', '(']);
    let end = number
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(number.len());
    number[..end].parse::<u32>().is_ok_and(|code| code != 0)
}
