//! Policy over a turn's attempts: what was blocked, what the model hears of it, when its turn may end.

use std::sync::Arc;

use super::policy_gate::{BlockedCall, Passed};
use super::rules::Rules;
use crate::dialect::llama::Ask;
use crate::guard::trouble::Trouble;
use crate::policy::lease::Grant;
use crate::policy::source::OnBlock;
use crate::policy::{Decision, notice, tell_blockers};
use crate::turn::{Content, Message, Part, Role, ToolCall, ToolResult, TurnError};

/// See the module's documentation.
pub(super) struct PolicyTurn {
    rules: Arc<Rules>,
    decisions: Vec<Decision>,
    /// Blocked in the running attempt.
    blocked: Vec<BlockedCall>,
    /// What the model has heard in earlier attempts, in order.
    append: Vec<Message>,
    denials: u32,
    rounds: u32,
    total: u32,
    notes: Vec<String>,
    /// Leases of calls that the client has or gets.
    granted: Vec<Grant>,
    /// How many of them it has, whatever comes of the running attempt.
    kept: usize,
    /// Leases of calls that it will not get.
    unused: Vec<Grant>,
}

/// How an answer that has come to its end goes on.
pub(super) enum AtEnd {
    /// It ends.
    Ends,
    /// It ends with this text.
    Says(String),
    /// It does not end.
    GoesOn(Trouble),
}

/// What the session remembers of a turn, and what is recorded of it.
#[derive(Clone, Debug, Default)]
pub struct PolicyReport {
    /// What rules decided.
    pub decisions: Vec<Decision>,
    /// Calls blocked.
    pub denials: u32,
    /// What the model is to hear with its next results.
    pub notes: Vec<String>,
    /// Leases of the calls that the client has.
    pub leases: Vec<Grant>,
}

impl PolicyTurn {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules: Arc::new(rules),
            decisions: Vec::new(),
            blocked: Vec::new(),
            append: Vec::new(),
            denials: 0,
            rounds: 0,
            total: 0,
            notes: Vec::new(),
            granted: Vec::new(),
            kept: 0,
            unused: Vec::new(),
        }
    }

    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    pub(super) fn attempt_begins(&mut self) {
        self.blocked.clear();
    }

    /// The client keeps what it has.
    pub(super) fn keep(&mut self) {
        self.kept = self.granted.len();
    }

    /// The client does not get what the attempt has said.
    pub(super) fn forget(&mut self) {
        self.unused.extend(self.granted.drain(self.kept..));
    }

    /// Leases that are to be given back.
    pub(super) fn unused(&mut self) -> Vec<Grant> {
        std::mem::take(&mut self.unused)
    }

    /// What its gate has let through, and what not.
    ///
    /// # Errors
    /// The client is told at once.
    pub(super) fn take(&mut self, passed: &mut Passed) -> Result<(), TurnError> {
        self.rules.record(&passed.decisions);
        self.decisions.append(&mut passed.decisions);
        self.granted.append(&mut passed.granted);
        self.total += passed.blocked.len() as u32;
        let reject = |call: &&BlockedCall| call.why.on_block == OnBlock::Reject;
        let refused = passed.blocked.iter().find(reject);
        let refused = refused.map(|call| call.why.tell_client(&call.name));
        self.blocked.append(&mut passed.blocked);
        refused.map_or(Ok(()), |message| Err(TurnError::Forbidden(message)))
    }

    /// The answer has come to its end. `called`: the client has calls to go on with. `free`: nothing
    /// else keeps the answer from going on. `gated`: its end has to be earned.
    pub(super) fn at_end(&mut self, called: bool, free: bool, gated: bool) -> AtEnd {
        if !self.blocked.is_empty() {
            return self.blocked_end(called, free);
        }
        if called || !gated {
            return AtEnd::Ends;
        }
        let exhausted = !free || self.rounds >= self.rules.policy.max_gate_rounds();
        let judged = self.rules.completion(exhausted);
        self.rules.record(&judged.decisions);
        self.decisions.extend(judged.decisions);
        let blockers = judged.verdict;
        if blockers.is_empty() {
            return AtEnd::Ends;
        }
        if exhausted {
            return AtEnd::Says(notice(&blockers));
        }
        self.rounds += 1;
        AtEnd::GoesOn(Trouble::Policy {
            kind: "policy_gate",
            told: tell_blockers(&blockers),
            client: notice(&blockers),
        })
    }

    fn blocked_end(&mut self, called: bool, free: bool) -> AtEnd {
        let client: Vec<String> = self
            .blocked
            .iter()
            .map(|call| call.why.tell_client(&call.name))
            .collect();
        let client = client.join("\n");
        let tells = self
            .blocked
            .iter()
            .any(|call| call.why.on_block == OnBlock::TellClient);
        let told = self
            .blocked
            .iter()
            .map(|call| call.why.tell_model(&call.name));
        if called && !tells {
            // The client carries out the others; the model hears of these with their results.
            self.notes.extend(told);
            return AtEnd::Ends;
        }
        if tells || !free || self.denials >= self.rules.policy.max_denials() {
            return AtEnd::Says(client);
        }
        self.denials += 1;
        let told: Vec<String> = told.collect();
        AtEnd::GoesOn(Trouble::Policy {
            kind: "policy_block",
            told: told.join("\n"),
            client,
        })
    }

    /// How the model goes on, having `said` that: it sees its calls, and why they were not carried out.
    pub(super) fn ask(&mut self, trouble: &Trouble, said: &str) -> Ask {
        let mut parts = Vec::new();
        if !said.trim().is_empty() {
            parts.push(Part::Text(said.to_owned()));
        }
        let mut results = Vec::new();
        for call in self.blocked.drain(..) {
            results.push(Part::ToolResult(ToolResult {
                call_id: call.id.clone(),
                content: vec![Content::Text(call.why.tell_model(&call.name))],
                is_error: true,
            }));
            parts.push(Part::ToolCall(ToolCall {
                id: call.id,
                name: call.name,
                arguments: call.arguments,
            }));
        }
        if !parts.is_empty() {
            self.append.push(Message::new(Role::Assistant, parts));
        }
        self.append.push(match results.is_empty() {
            true => Message::text(Role::User, trouble.tell_model()),
            false => Message::new(Role::Tool, results),
        });
        Ask {
            append: self.append.clone(),
            ..Ask::default()
        }
    }

    pub(super) fn report(&self) -> PolicyReport {
        PolicyReport {
            decisions: self.decisions.clone(),
            denials: self.total,
            notes: self.notes.clone(),
            leases: self.granted.clone(),
        }
    }
}
