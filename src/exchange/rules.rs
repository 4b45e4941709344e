//! The rules of a turn, with the record of what they decide.

use tokio::time::Instant;

use crate::audit::TurnAudit;
use crate::policy::{Blocker, Decision, Judged, TurnPolicy, Verdict};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Rules {
    /// They decide.
    pub policy: TurnPolicy,
    /// None: nothing is recorded.
    pub audit: Option<TurnAudit>,
}

impl Rules {
    /// What becomes of a call. Where that cannot be recorded, nothing goes on that a required rule is about.
    pub(super) fn tool_call(&self, tool: &str, arguments: &str) -> Judged<Verdict> {
        if self.audit.as_ref().is_some_and(|audit| !audit.is_open())
            && let Some((blocked, decision)) = self.policy.unrecorded_call(tool)
        {
            return Judged {
                verdict: Verdict::Block(blocked),
                decisions: vec![decision],
            };
        }
        timed(|| self.policy.tool_call(tool, arguments))
    }

    /// What keeps the turn from ending. A gate lets nothing pass, so that it works unrecorded too.
    pub(super) fn completion(&self, exhausted: bool) -> Judged<Vec<Blocker>> {
        timed(|| self.policy.completion(exhausted))
    }

    /// To the audit log, before anything goes on.
    pub(super) fn record(&self, decisions: &[Decision]) {
        if let Some(audit) = &self.audit {
            audit.record(decisions);
        }
    }
}

/// With the time it took.
pub fn timed<V>(judge: impl FnOnce() -> Judged<V>) -> Judged<V> {
    let begun = Instant::now();
    let mut judged = judge();
    let took = begun.elapsed().as_micros();
    for decision in &mut judged.decisions {
        decision.latency_us = u64::try_from(took).unwrap_or(u64::MAX);
    }
    judged
}
