//! The calls of a choice: held until they are complete, judged, released in order.

use super::{OpenCall, StreamGuard};
use crate::guard::tool_calls::{BadCall, Change, EarlyRelease, Judgement, RawCall, TextualCall};
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
        self.release(id, raw, cut, Some(&call.raw), out)
    }

    pub(super) fn own_id(&self) -> String {
        format!("call_{}_{}", self.context.seed, self.next_call)
    }

    /// A structured call begins.
    pub(super) fn begin_call(&mut self, id: String, call: RawCall) {
        let exact = || self.context.offered.resolve(&call.name) == Some(&*call.name);
        let early = (self.early_release && exact()).then(EarlyRelease::default);
        self.open = Some(OpenCall { id, call, early });
    }

    /// More of the call under way.
    pub(super) fn arguments(&mut self, fragment: &str, out: &mut Vec<Delta>) {
        let Some(OpenCall { id, call, early }) = &mut self.open else {
            return;
        };
        call.arguments.push_str(fragment);
        let Some(early) = early else { return };
        let before = early.released();
        let context = &self.context;
        let released = early.grown(&call.arguments, |key, closed| {
            context.may_flow(&call.name, key, closed)
        });
        if released == before {
            return;
        }
        let index = self.next_call;
        if before == 0 {
            out.push(Delta::ToolOpen {
                index,
                id: id.clone(),
                name: call.name.clone(),
            });
        }
        let fragment = call.arguments[before..released].to_owned();
        out.push(Delta::ToolArguments { index, fragment });
    }

    /// Whether the client has the beginning of a call whose end is not there yet.
    pub fn has_half_sent(&self) -> bool {
        let early = self.open.as_ref().and_then(|open| open.early.as_ref());
        early.is_some_and(|early| early.released() > 0)
    }

    /// Whatever is wrong while a call is half sent cannot be mended.
    pub(super) fn irrevocable(&self, trouble: Trouble) -> Trouble {
        match self.has_half_sent() {
            true => Trouble::HalfSent {
                why: trouble.kind(),
            },
            false => trouble,
        }
    }

    /// The structured call under way is complete.
    pub(super) fn complete(&mut self, cut: bool, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        let Some(OpenCall { id, call, early }) = self.open.take() else {
            return Ok(());
        };
        match early.map_or(0, |early| early.released()) {
            0 => self.release(id, call, cut, None, out),
            sent => self.release_rest(&call, sent, cut, out),
        }
    }

    /// Judge a call, and release it. `written`: how the model put it, where that was no structured call.
    pub(super) fn release(
        &mut self,
        id: String,
        call: RawCall,
        cut: bool,
        written: Option<&str>,
        out: &mut Vec<Delta>,
    ) -> Result<(), Trouble> {
        if self.context.offered.is_empty() {
            // Nothing to judge by: without tools on offer llama-server makes no calls.
            self.pass(id, call, out);
            return Ok(());
        }
        let call = self.judged(&call, cut).map_err(|bad| Trouble::Call {
            bad,
            raw: match written {
                Some(written) => written.to_owned(),
                None => format!("{} {}", call.name, call.arguments),
            },
        })?;
        self.pass(id, call, out);
        Ok(())
    }

    /// The first `sent` bytes of the arguments are with the client already.
    fn release_rest(
        &mut self,
        call: &RawCall,
        sent: usize,
        cut: bool,
        out: &mut Vec<Delta>,
    ) -> Result<(), Trouble> {
        let judged = self
            .judged(call, cut)
            .map_err(|bad| Trouble::HalfSent { why: bad.kind() })?;
        let same = judged.name == call.name;
        let rest = judged.arguments.strip_prefix(&call.arguments[..sent]);
        let Some(rest) = rest.filter(|_| same) else {
            return Err(Trouble::HalfSent { why: "malformed" });
        };
        out.push(Delta::ToolArguments {
            index: self.next_call,
            fragment: rest.to_owned(),
        });
        self.next_call += 1;
        Ok(())
    }

    /// The call as it may go to the client.
    fn judged(&mut self, call: &RawCall, cut: bool) -> Result<RawCall, BadCall> {
        match self.context.judge(call, cut) {
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
                Ok(repaired)
            }
            Judgement::Bad { reason } => Err(reason),
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
