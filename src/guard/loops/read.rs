//! A transcript as a row of steps: what the model did, what came of it, what the human said.

use std::collections::HashSet;
use std::hash::Hasher as _;

use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::class::{self, Kind};
use super::mask;
use crate::turn::{Content, Message, Part, Role, ToolCall, ToolResult, human_text, is_summary};

/// Hashes may be stored, so that their seed is ours and never changes.
const SEED: u64 = 0x6472_6f76_6572_0003;

/// Longest arguments that are parsed, so that the order of their members does not matter. Longer
/// ones hold the content of a file, and are compared as they are.
const MAX_PARSED: usize = 16 << 10;

/// Calls we have put into a client's history ourselves begin so.
pub(super) const OWN_CALLS: &str = "drover_continue_";

/// Beginnings of results that report a failure.
const FAILURES: &[&str] = &[
    "error",
    "<tool_use_error>",
    "failed",
    "fatal:",
    "traceback (most recent call last)",
    "command failed",
    "no such file",
];

/// One answer of the model and what followed it, up to its next answer. The first step of a
/// transcript may have no answer.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Calls with their results.
    pub(super) calls: Vec<Seen>,
    /// Hash of what a human said.
    pub(super) human: Option<u64>,
    /// Whether the model said anything: it did in all steps but the first.
    pub(super) answered: bool,
}

/// A call and its result.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    id: String,
    pub(super) name: u32,
    /// Hash of name and arguments.
    pub(super) call: u64,
    pub(super) kind: Kind,
    /// Hash of what it reads.
    pub(super) target: Option<u64>,
    pub(super) result: Option<Outcome>,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Hash, volatile parts left out.
    pub(super) hash: u64,
    /// Nothing but white space.
    pub(super) is_empty: bool,
    /// The tool reports a failure.
    pub(super) is_error: bool,
}

/// A tool's name in 32 bits: enough within one session.
pub(super) fn name_hash(name: &str) -> u32 {
    xxh3_64_with_seed(name.as_bytes(), SEED) as u32
}

/// Hash of a call: its tool and its arguments, whatever the order of their members.
pub fn call_hash(name: &str, arguments: &str) -> u64 {
    hash_call(name, arguments, parse(arguments).as_ref())
}

fn parse(arguments: &str) -> Option<Value> {
    if arguments.len() > MAX_PARSED {
        return None;
    }
    serde_json::from_str(arguments).ok()
}

fn hash_call(name: &str, arguments: &str, parsed: Option<&Value>) -> u64 {
    let mut hasher = Xxh3::with_seed(SEED);
    hasher.update(name.as_bytes());
    hasher.update(&[0]);
    match parsed {
        Some(value) => hash_value(&mut hasher, value),
        None => hasher.update(arguments.trim().as_bytes()),
    }
    hasher.digest()
}

fn hash_value(hasher: &mut Xxh3, value: &Value) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by(|a, b| a.0.cmp(b.0));
            hasher.update(b"{");
            for (key, value) in members {
                hasher.update(key.as_bytes());
                hasher.update(b":");
                hash_value(hasher, value);
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            items.iter().for_each(|item| {
                hash_value(hasher, item);
                hasher.update(b",");
            });
            hasher.update(b"]");
        }
        Value::String(text) => {
            hasher.write_usize(text.len());
            hasher.update(text.as_bytes());
        }
        scalar => hasher.update(scalar.to_string().as_bytes()),
    }
}

/// Read the steps of `messages`, oldest first. Calls of the tools in `polling` may be repeated.
pub(super) fn steps(messages: &[Message], polling: impl Fn(&str) -> bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut step = Step::default();
    let mut follows = false;
    for message in messages {
        match message.role() {
            Role::System => {}
            Role::Assistant => {
                // Two answers in a row are one.
                if follows {
                    steps.push(std::mem::take(&mut step));
                    follows = false;
                }
                step.answered = true;
                let calls = message.tool_calls();
                let calls = calls.filter(|call| !call.id.starts_with(OWN_CALLS));
                step.calls.extend(calls.map(|call| seen(call, &polling)));
            }
            Role::User | Role::Tool => {
                follows = true;
                step.take_in(message);
            }
        }
    }
    if follows || step.answered {
        steps.push(step);
    }
    steps
}

/// A call and what came of it, for people to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called<'t> {
    /// The call's id.
    pub id: &'t str,
    /// The tool.
    pub tool: &'t str,
    /// Hash of tool and arguments.
    pub call: u64,
    /// Hash of the result, volatile parts left out.
    pub result: Option<u64>,
    /// The tool reports a failure.
    pub failed: bool,
}

/// The calls that `messages` end with the results of. None where they end otherwise.
pub fn last_calls(messages: &[Message]) -> Vec<Called<'_>> {
    let is_answer = |message: &&Message| message.role() == Role::Assistant;
    let after = messages.iter().rev().take_while(|m| !is_answer(m)).count();
    let (before, after) = messages.split_at(messages.len() - after);
    let results = after.iter().flat_map(Message::parts);
    let results: Vec<_> = results
        .filter_map(|part| match part {
            Part::ToolResult(result) => Some(result),
            _ => None,
        })
        .collect();
    if results.is_empty() {
        return Vec::new();
    }
    let answers = before.iter().rev().take_while(is_answer).count();
    let calls = before[before.len() - answers..].iter();
    let calls = calls.flat_map(Message::tool_calls);
    calls
        .filter(|call| !call.id.starts_with(OWN_CALLS))
        .map(|call| {
            let result = results.iter().find(|result| result.call_id == call.id);
            let outcome = result.map(|result| outcome(result));
            Called {
                id: &call.id,
                tool: &call.name,
                call: call_hash(&call.name, &call.arguments),
                result: outcome.map(|outcome| outcome.hash),
                failed: outcome.is_some_and(|outcome| outcome.is_error),
            }
        })
        .collect()
}

impl Step {
    fn take_in(&mut self, message: &Message) {
        for part in message.parts() {
            match part {
                Part::ToolResult(result) => {
                    let calls = self.calls.iter_mut();
                    let mut open = calls.filter(|call| call.result.is_none());
                    if let Some(call) = open.find(|call| call.id == result.call_id) {
                        call.result = Some(outcome(result));
                    }
                }
                Part::Text(text) if message.role() == Role::User => {
                    let text = human_text(text);
                    if !text.is_empty() && !is_summary(text) {
                        let mut hasher = Xxh3::with_seed(self.human.unwrap_or(SEED));
                        mask::feed(&mut hasher, text);
                        self.human = Some(hasher.digest());
                    }
                }
                Part::Image(_) if message.role() == Role::User => {
                    let so_far = self.human.unwrap_or(SEED);
                    self.human = Some(so_far.rotate_left(1));
                }
                _ => {}
            }
        }
    }

    /// One hash for everything done and everything that came of it.
    pub(super) fn signature(&self) -> u64 {
        let mut hasher = Xxh3::with_seed(SEED);
        for call in &self.calls {
            hasher.write_u64(call.pair());
        }
        hasher.digest()
    }

    /// The tools called, each once.
    pub(super) fn names(&self) -> impl Iterator<Item = u32> {
        let mut known = HashSet::new();
        let names = self.calls.iter().map(|call| call.name);
        names.filter(move |name| known.insert(*name))
    }
}

impl Seen {
    /// Hash of the call and its result.
    pub(super) fn pair(&self) -> u64 {
        let result = self.result.map_or(0, |result| result.hash);
        xxh3_64_with_seed(&result.to_le_bytes(), self.call)
    }
}

fn seen(call: &ToolCall, polling: &impl Fn(&str) -> bool) -> Seen {
    let parsed = parse(&call.arguments);
    let kind = match polling(&call.name) {
        true => Kind::Polling,
        false => class::kind(&call.name, parsed.as_ref()),
    };
    let target = parsed.as_ref().filter(|_| kind == Kind::Read);
    let target = target.and_then(class::target);
    Seen {
        id: call.id.clone(),
        name: name_hash(&call.name),
        call: hash_call(&call.name, &call.arguments, parsed.as_ref()),
        kind,
        target: target.map(|target| xxh3_64_with_seed(target.as_bytes(), SEED)),
        result: None,
    }
}

fn outcome(result: &ToolResult) -> Outcome {
    let mut hasher = Xxh3::with_seed(SEED);
    let mut is_empty = true;
    let mut first = None;
    for content in &result.content {
        match content {
            Content::Text(text) => {
                let text = text.trim();
                is_empty &= text.is_empty();
                first.get_or_insert(text);
                mask::feed(&mut hasher, text);
                hasher.update(&[0]);
            }
            Content::Image(image) => {
                is_empty = false;
                hasher.update(image.data_url.as_bytes());
            }
        }
    }
    Outcome {
        hash: hasher.digest(),
        is_empty,
        is_error: result.is_error || first.is_some_and(reports_failure),
    }
}

fn reports_failure(text: &str) -> bool {
    let begins = |word: &&str| {
        let start = text.as_bytes().get(..word.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    if FAILURES.iter().any(begins) {
        return true;
    }
    // `Exit code 1`, `exit code: 101`
    let code =
        begins(&"exit code").then(|| text["exit code".len()..].trim_start_matches([':', ' ']));
    code.is_some_and(|code| code.starts_with(|c: char| ('1'..='9').contains(&c)))
}
