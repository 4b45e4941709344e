//! The ladder on whole conversations, with everything remembered, with the hot part forgotten, and
//! with nothing remembered.

mod calls;
mod effects;
mod ladder;
mod memory;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Budgets, ForceTools, Loops, Preset};
use crate::turn::{Content, Message, Part, Role, Tool, ToolCall, ToolChoice, ToolResult, Turn};

const TOOLS: [&str; 4] = ["Bash", "Read", "Write", "Edit"];

/// What is forgotten between two turns.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Forgets {
    Nothing,
    TheHotPart,
    Everything,
}

struct Session {
    messages: Vec<Message>,
    state: Option<LoopState>,
    ledger: Option<std::sync::Arc<Ledger>>,
    covered: Option<usize>,
    loops: Loops,
    budgets: Budgets,
    preset: Preset,
    spent: Spent,
    forgets: Forgets,
    generated: u64,
}

fn call(name: &str, arguments: &str, id: usize) -> Message {
    let call = ToolCall {
        id: format!("c{id}"),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    Message::new(Role::Assistant, vec![Part::ToolCall(call)])
}

fn result(text: &str, id: usize) -> Message {
    let result = ToolResult {
        call_id: format!("c{id}"),
        content: vec![Content::Text(text.to_owned())],
        is_error: false,
    };
    Message::new(Role::Tool, vec![Part::ToolResult(result)])
}

fn raw(json: &str) -> Box<serde_json::value::RawValue> {
    serde_json::value::RawValue::from_string(json.to_owned()).unwrap()
}

impl Session {
    fn new() -> Self {
        Self {
            messages: vec![
                Message::text(Role::System, "It is 12:00:01."),
                Message::text(Role::User, "fix it"),
            ],
            state: None,
            ledger: None,
            covered: None,
            loops: Loops::default(),
            budgets: Budgets::default(),
            preset: Preset::Standard,
            spent: Spent::default(),
            forgets: Forgets::Nothing,
            generated: 10,
        }
    }

    fn turn(&self) -> Turn {
        let tool = |name: &str| Tool {
            name: name.to_owned(),
            parameters: None,
            upstream: raw("{}"),
        };
        Turn {
            model: "m".into(),
            messages: self.messages.clone(),
            tools: TOOLS.iter().map(|name| tool(name)).collect(),
            tool_choice: ToolChoice::Auto,
            allowed: None,
            answer: Default::default(),
            stream: false,
            include_usage: false,
            stop: Vec::new(),
            max_tokens: None,
            choices: 1,
            metadata: None,
            extra: Vec::new(),
        }
    }

    fn plan(&self, is_retry: bool) -> (Plan, Pending) {
        let remembered = Remembered {
            state: self.state.clone(),
            ledger: self.ledger.clone(),
            covered: self.covered,
            is_retry,
            spent: self.spent,
        };
        let setting = Setting {
            loops: &self.loops,
            budgets: &self.budgets,
            preset: self.preset,
        };
        plan(&self.turn(), remembered, setting)
    }

    fn answer(&mut self, effects: Effects) -> Plan {
        let (plan, pending) = self.plan(false);
        let settled = pending.settle(&Effects {
            generated: self.generated,
            ..effects
        });
        self.covered = Some(self.messages.len());
        self.ledger = settled.ledger.filter(|_| self.forgets == Forgets::Nothing);
        let matters = self.forgets == Forgets::Nothing || settled.state.matters();
        let keeps = matters && self.forgets != Forgets::Everything;
        self.state = keeps.then_some(settled.state);
        plan
    }

    fn rung(&mut self) -> Phase {
        self.answer(Effects::default()).rung
    }

    fn act(&mut self, name: &str, arguments: &str, outcome: &str) {
        let id = self.messages.len();
        self.messages.push(call(name, arguments, id));
        self.messages.push(result(outcome, id));
    }

    fn says(&mut self, text: &str) {
        self.messages.push(Message::text(Role::Assistant, "done"));
        self.messages.push(Message::text(Role::User, text));
    }
}

/// The changes of rung while `step` acts before each of `turns` turns.
fn timeline(
    session: &mut Session,
    turns: usize,
    mut step: impl FnMut(&mut Session, usize),
) -> Vec<(usize, Phase)> {
    let mut last = session.rung();
    let mut changes = Vec::new();
    for n in 1..=turns {
        step(session, n - 1);
        let rung = session.rung();
        if rung != last {
            changes.push((n, rung));
            last = rung;
        }
    }
    changes
}

fn same_call(session: &mut Session, _: usize) {
    session.act("Bash", r#"{"command":"ls"}"#, "a b");
}

fn each(test: impl Fn(Session)) {
    for forgets in [Forgets::Nothing, Forgets::TheHotPart] {
        test(Session {
            forgets,
            ..Session::new()
        });
    }
}
