//! Policy in an open stream: a call goes on when it is complete and its rules have allowed it.

use std::sync::Arc;

use serde::de::IgnoredAny;

use super::rules::Rules;
use crate::guard::stream::GuardContext;
use crate::policy::lease::{Answer, Grant};
use crate::policy::source::OnBlock;
use crate::policy::{Blocked, Decision, NeedsLease, Verdict};
use crate::turn::Delta;

/// A call that did not go on.
#[derive(Clone, Debug)]
pub(super) struct BlockedCall {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
    pub(super) why: Blocked,
}

/// What came of some pieces.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// They go on, in order.
    pub(super) deltas: Vec<Delta>,
    pub(super) blocked: Vec<BlockedCall>,
    pub(super) decisions: Vec<Decision>,
    /// Leases that calls among them have.
    pub(super) granted: Vec<Grant>,
}

/// The gate of one choice.
pub(super) struct PolicyGate {
    rules: Arc<Rules>,
    context: Option<Arc<GuardContext>>,
    open: Option<Open>,
    /// Cannot go on, nor can what follows, before its lease is granted or refused.
    waiting: Option<(Open, Box<NeedsLease>)>,
    /// Calls before the next one that were blocked: those that go on are numbered without them.
    left_out: u32,
}

struct Open {
    index: u32,
    id: String,
    name: String,
    arguments: String,
}

impl PolicyGate {
    pub(super) fn new(rules: Arc<Rules>, context: Option<Arc<GuardContext>>) -> Self {
        Self {
            rules,
            context,
            open: None,
            waiting: None,
            left_out: 0,
        }
    }

    /// Take in a piece; it comes back when the call before it waits for a lease.
    #[must_use]
    pub(super) fn push(&mut self, delta: Delta, passed: &mut Passed) -> Option<Delta> {
        if self.waiting.is_some() {
            return Some(delta);
        }
        if let Delta::ToolArguments { fragment, .. } = &delta {
            let open = self.open.as_mut()?;
            open.arguments.push_str(fragment);
            if is_whole(&open.arguments) {
                self.finish(passed);
            }
            return None;
        }
        self.finish(passed);
        if self.waiting.is_some() {
            return Some(delta);
        }
        match delta {
            Delta::ToolOpen { index, id, name } => {
                self.open = Some(Open {
                    index,
                    id,
                    name,
                    arguments: String::new(),
                });
            }
            delta => passed.deltas.push(delta),
        }
        None
    }

    /// The call under way is complete.
    pub(super) fn finish(&mut self, passed: &mut Passed) {
        let Some(open) = self.open.take() else { return };
        let judged = self.rules.tool_call(&open.name, &open.arguments);
        passed.decisions.extend(judged.decisions);
        match judged.verdict {
            Verdict::Allow => self.pass(open, passed),
            Verdict::Block(blocked) => self.block(open, blocked, passed),
            Verdict::Rewrite(arguments) => match self.is_valid(&open.name, &arguments) {
                true => self.pass(Open { arguments, ..open }, passed),
                false => {
                    let blocked = unusable(passed.decisions.last_mut());
                    self.block(open, blocked, passed);
                }
            },
            Verdict::NeedsLease(mut need) => {
                let arguments = need.arguments.take();
                let valid = arguments
                    .as_ref()
                    .is_none_or(|new| self.is_valid(&open.name, new));
                if !valid {
                    let blocked = unusable(passed.decisions.last_mut());
                    return self.block(open, blocked, passed);
                }
                need.claim.call.clone_from(&open.id);
                let arguments = arguments.unwrap_or_else(|| open.arguments.clone());
                self.waiting = Some((Open { arguments, ..open }, need));
            }
        }
    }

    /// What the call that waits needs.
    pub(super) fn waiting(&self) -> Option<&NeedsLease> {
        self.waiting.as_ref().map(|(_, need)| need.as_ref())
    }

    /// The call that waits has its answer; none: nobody can tell, and then it does not go on.
    pub(super) fn answered(&mut self, answer: Option<&Answer>, passed: &mut Passed) {
        let Some((open, need)) = self.waiting.take() else {
            return;
        };
        let granted =
            (need.acts && answer == Some(&Answer::Granted)).then(|| Grant::of(&need.claim));
        let (decision, blocked) = need.answered(answer);
        passed.decisions.push(decision);
        match blocked {
            Some(blocked) => self.block(open, blocked, passed),
            None => {
                passed.granted.extend(granted);
                self.pass(open, passed);
            }
        }
    }

    fn block(&mut self, open: Open, why: Blocked, passed: &mut Passed) {
        self.left_out += 1;
        passed.blocked.push(BlockedCall {
            id: open.id,
            name: open.name,
            arguments: open.arguments,
            why,
        });
    }

    /// What a rule has written is held to the tool's schema as well.
    fn is_valid(&self, name: &str, arguments: &str) -> bool {
        let context = self.context.as_ref();
        context.is_none_or(|context| context.accepts(name, arguments))
    }

    fn pass(&self, open: Open, passed: &mut Passed) {
        let index = open.index.saturating_sub(self.left_out);
        passed.deltas.push(Delta::ToolOpen {
            index,
            id: open.id,
            name: open.name,
        });
        passed.deltas.push(Delta::ToolArguments {
            index,
            fragment: open.arguments,
        });
    }
}

/// Whether the arguments are a complete JSON object: no more can follow.
fn is_whole(arguments: &str) -> bool {
    arguments.trim_end().ends_with('}') && serde_json::from_str::<IgnoredAny>(arguments).is_ok()
}

fn unusable(decision: Option<&mut Decision>) -> Blocked {
    let rule = decision.map(|decision| {
        decision.decision = "block";
        "rewrite_invalid".clone_into(&mut decision.reason);
        Arc::clone(&decision.rule)
    });
    Blocked {
        rule: rule.unwrap_or_else(|| "-".into()),
        reason: "rewrite_invalid".to_owned(),
        hint: "The call had to be changed, and is no valid call then.".to_owned(),
        on_block: OnBlock::AnswerModel,
        for_now: false,
    }
}
