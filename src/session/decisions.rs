//! What policy decided lately, of all sessions together: too large to be kept with each of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::key::SessionId;
use crate::policy::Decision;
use crate::turn::floor;

/// Memory for all of it, in bytes.
const MAX_BYTES: usize = 2 << 20;

/// Most decisions shown of one session.
const MAX_SHOWN: usize = 100;

/// Longest tool name or reason, in bytes.
const MAX_TEXT: usize = 200;

/// A decision in the view of its session. Fields are only ever added.
#[derive(Clone, Debug, Serialize)]
pub struct DecisionView {
    /// When its turn was decided on (RFC 3339, UTC).
    #[serde(serialize_with = "time")]
    at: SystemTime,
    /// The request: `x-request-id`.
    request_id: Box<str>,
    /// The rule.
    rule: Arc<str>,
    /// Where.
    stage: &'static str,
    /// What.
    decision: &'static str,
    /// Whether the rule acts.
    mode: &'static str,
    /// The tool, where it is about a call or a result.
    tool: Box<str>,
    /// Why.
    reason: Box<str>,
}

fn time<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*at))
}

impl DecisionView {
    pub(super) fn new(request: &str, decision: &Decision) -> Self {
        let short = |text: &str| text[..floor(text, MAX_TEXT)].into();
        Self {
            at: SystemTime::now(),
            request_id: request.into(),
            rule: Arc::clone(&decision.rule),
            stage: decision.stage,
            decision: decision.decision,
            mode: decision.mode,
            tool: short(&decision.tool),
            reason: short(&decision.reason),
        }
    }

    fn bytes(&self) -> usize {
        size_of::<(SessionId, Self)>() + self.request_id.len() + self.tool.len() + self.reason.len()
    }
}

/// A ring bounded by memory; the oldest go first.
#[derive(Debug, Default)]
pub(super) struct Decided {
    entries: VecDeque<(SessionId, DecisionView)>,
    bytes: usize,
}

impl Decided {
    pub(super) fn push(&mut self, session: SessionId, decision: DecisionView) {
        self.bytes += decision.bytes();
        self.entries.push_back((session, decision));
        while self.bytes > MAX_BYTES {
            let Some((_, oldest)) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
        }
    }

    /// The latest of one session, the last one first. Reads the whole ring: people ask, not requests.
    pub(super) fn of(&self, session: SessionId) -> Vec<DecisionView> {
        let newest = self.entries.iter().rev();
        let own = newest.filter(|(of, _)| *of == session);
        own.take(MAX_SHOWN).map(|(_, one)| one.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(number: usize) -> DecisionView {
        DecisionView {
            at: SystemTime::UNIX_EPOCH,
            request_id: format!("{number:032}").into(),
            rule: "r".into(),
            stage: "tool_call",
            decision: "block",
            mode: "enforce",
            tool: "Bash".into(),
            reason: "x".into(),
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let id = |n: usize| format!("{n:020x}").parse().unwrap();
        let mut decided = Decided::default();
        for number in 0..50_000 {
            decided.push(id(number % 2), decision(number));
            assert!(decided.bytes <= MAX_BYTES);
        }
        let shown = decided.of(id(1));
        assert_eq!(shown.len(), MAX_SHOWN);
        assert!(shown[0].request_id.ends_with("49999") && shown[1].request_id.ends_with("49997"));
    }
}
