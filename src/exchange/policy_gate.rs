//! Policy in an open stream: a call goes on when it is complete and its rules have allowed it.

use std::sync::Arc;

use serde::de::IgnoredAny;

use super::rules::Rules;
use crate::guard::stream::GuardContext;
use crate::policy::source::OnBlock;
use crate::policy::{Blocked, Decision, Verdict};
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
}

/// The gate of one choice.
pub(super) struct PolicyGate {
    rules: Arc<Rules>,
    context: Option<Arc<GuardContext>>,
    open: Option<Open>,
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
            left_out: 0,
        }
    }

    pub(super) fn push(&mut self, delta: Delta, passed: &mut Passed) {
        match delta {
            Delta::ToolOpen { index, id, name } => {
                self.finish(passed);
                self.open = Some(Open {
                    index,
                    id,
                    name,
                    arguments: String::new(),
                });
            }
            Delta::ToolArguments { fragment, .. } => {
                let Some(open) = &mut self.open else { return };
                open.arguments.push_str(&fragment);
                if is_whole(&open.arguments) {
                    self.finish(passed);
                }
            }
            delta => {
                self.finish(passed);
                passed.deltas.push(delta);
            }
        }
    }

    /// The call under way is complete.
    pub(super) fn finish(&mut self, passed: &mut Passed) {
        let Some(open) = self.open.take() else { return };
        let judged = self.rules.tool_call(&open.name, &open.arguments);
        passed.decisions.extend(judged.decisions);
        let blocked = match judged.verdict {
            Verdict::Allow => return self.pass(open, passed),
            Verdict::Rewrite(arguments) => match self.is_valid(&open.name, &arguments) {
                true => return self.pass(Open { arguments, ..open }, passed),
                false => unusable(passed.decisions.last_mut()),
            },
            Verdict::Block(blocked) => blocked,
        };
        self.left_out += 1;
        passed.blocked.push(BlockedCall {
            id: open.id,
            name: open.name,
            arguments: open.arguments,
            why: blocked,
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
    }
}
