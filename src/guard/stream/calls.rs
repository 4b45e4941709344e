//! The calls of a choice: held until they are complete, judged, released in order.

use super::{OpenCall, StreamGuard};
use crate::guard::tool_calls::{Change, Judgement, RawCall, TextualCall, judge};
use crate::guard::trouble::Trouble;
use crate::turn::Delta;

impl StreamGuard {
    pub(super) fn textual(
        &mut self,
        call: TextualCall,
        cut: bool,
        out: &mut Vec<Delta>,
    ) -> Result<(), Trouble> {
        self.ledger
            .record("textual_call", Some(&call.raw), Some(&call.name));
        let id = self.own_id();
        let raw = RawCall {
            name: call.name,
            arguments: call.arguments,
        };
        self.release(id, raw, cut, &call.raw, out)
    }

    pub(super) fn own_id(&self) -> String {
        format!("call_{}_{}", self.context.seed, self.next_call)
    }

    /// The structured call under way is complete.
    pub(super) fn complete(&mut self, cut: bool, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        let Some(OpenCall { id, call }) = self.open.take() else {
            return Ok(());
        };
        let raw = format!("{} {}", call.name, call.arguments);
        self.release(id, call, cut, &raw, out)
    }

    pub(super) fn release(
        &mut self,
        id: String,
        call: RawCall,
        cut: bool,
        raw: &str,
        out: &mut Vec<Delta>,
    ) -> Result<(), Trouble> {
        let offered = &self.context.offered;
        if offered.is_empty() {
            // Nothing to judge by: without tools on offer llama-server makes no calls.
            self.pass(id, call, out);
            return Ok(());
        }
        match judge(
            &call,
            |name| offered.resolve(name),
            self.context.validators(),
            cut,
        ) {
            Judgement::Good {
                call: repaired,
                changes,
            } => {
                for change in changes.as_slice() {
                    let (before, after) = match change {
                        Change::Name => (&call.name, &repaired.name),
                        _ => (&call.arguments, &repaired.arguments),
                    };
                    self.ledger
                        .record(change.as_str(), Some(before), Some(after));
                }
                self.pass(id, repaired, out);
                Ok(())
            }
            Judgement::Bad { reason } => Err(Trouble::Call {
                bad: reason,
                raw: raw.to_owned(),
            }),
        }
    }

    fn pass(&mut self, id: String, call: RawCall, out: &mut Vec<Delta>) {
        let index = self.next_call;
        self.next_call += 1;
        out.push(Delta::ToolOpen {
            index,
            id,
            name: call.name,
        });
        out.push(Delta::ToolArguments {
            index,
            fragment: call.arguments,
        });
    }
}
