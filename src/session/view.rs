//! Sessions as the admin API shows them: who, where and how much. Of what was said only hashes, and the short
//! excerpts of interventions, which `guard.excerpts: false` leaves out.

use std::time::SystemTime;

use serde::Serialize;
use tokio::time::Instant;

use super::calls::CallView;
use super::counters::Counters;
use super::decisions::DecisionView;
use super::interventions::InterventionView;
use super::lineage::LineageId;
use super::monitor::Lineage;
use super::visit::Session;
use crate::guard::loops::{LoopState, LoopView};
use crate::policy::SessionState;

/// Part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Sessions to skip.
    pub offset: usize,
    /// Sessions to show.
    pub limit: usize,
}

/// One session in a list. Fields are only ever added.
#[derive(Clone, Debug, Serialize)]
pub struct SessionSummary {
    /// Its public name: `x-drover-session`, `session` of the access log, `sess` of `REQ` lines.
    pub id: String,
    /// What told its identity: `hdr`, `meta` or `fp`.
    pub source: &'static str,
    /// The header or body field that did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'static str>,
    /// Whose it is: `key:NAME` or `addr:ADDRESS`.
    pub principal: String,
    /// When it was first seen (RFC 3339, UTC).
    pub first_seen: String,
    /// When its last request began or ended.
    pub last_seen: String,
    /// Requests of the last 60 s.
    pub requests_per_minute: u32,
    /// Conversations in it.
    pub lineage_count: usize,
    /// Times guards changed something.
    pub intervention_count: u32,
    /// Turns and tokens of all of them.
    #[serde(flatten)]
    pub spent: Spent,
}

/// One session with its conversations.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    /// The session as a whole.
    #[serde(flatten)]
    pub summary: SessionSummary,
    /// The most recent first. Of many only some are remembered.
    pub lineages: Vec<LineageView>,
    /// What guards did or would have done, the last one first; at most 100, and older ones are
    /// forgotten when much happens elsewhere.
    pub interventions: Vec<InterventionView>,
    /// What policy decided, the last one first; at most 100, and older ones are forgotten when much is decided
    /// elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<DecisionView>,
    /// What its agents called and what came of it, the last one first; at most 100, and older ones are forgotten when
    /// much is called elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallView>,
    /// What policy knows of it, where one is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<SessionState>,
}

/// One conversation.
#[derive(Clone, Debug, Serialize)]
pub struct LineageView {
    /// Its name inside the session; `#2` and so on for siblings that began alike.
    pub id: String,
    /// `agent` (a subagent that says who it is), `tools` or `plain`.
    pub kind: &'static str,
    /// Who has its KV cache.
    pub backend: Option<String>,
    /// Messages of its last turn.
    pub messages: usize,
    /// Those of them that its backend was not sent, because the conversation outgrew the window.
    pub messages_left_out: u32,
    /// When its last turn was answered.
    pub last_seen: String,
    /// Its turns and tokens.
    #[serde(flatten)]
    pub spent: Spent,
    /// Where it stands on the ladder of loop protection, while that is remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loop_protection: Option<LoopView>,
}

/// Turns and tokens.
#[derive(Clone, Debug, Serialize)]
pub struct Spent {
    /// Turns answered, retries left out.
    pub turns: u32,
    /// Retries of a turn that had been answered.
    pub retries: u32,
    /// Prompt tokens, cached ones included.
    pub tokens_in: u64,
    /// Prompt tokens found in the prefix cache.
    pub tokens_cached: u64,
    /// Generated tokens.
    pub tokens_out: u64,
}

impl Spent {
    fn of(counters: &Counters) -> Self {
        Self {
            turns: counters.turns,
            retries: counters.retries,
            tokens_in: counters.tokens.prompt,
            tokens_cached: counters.tokens.cached,
            tokens_out: counters.tokens.completion,
        }
    }
}

impl SessionSummary {
    pub(super) fn of(session: &Session, seen: Instant, now: Instant) -> Self {
        let monitor = session.monitor.lock();
        Self {
            id: session.id.to_string(),
            source: session.source.as_str(),
            field: session.source.field(),
            principal: session.principal.to_string(),
            first_seen: at(monitor.since, now),
            last_seen: at(seen, now),
            requests_per_minute: monitor.rate(now),
            lineage_count: monitor.lineages().len(),
            intervention_count: monitor.interventions,
            spent: Spent::of(&monitor.total),
        }
    }
}

/// What has happened in a session lately.
pub(super) struct Told {
    pub(super) interventions: Vec<InterventionView>,
    pub(super) decisions: Vec<DecisionView>,
    pub(super) calls: Vec<CallView>,
}

impl SessionView {
    pub(super) fn of(
        session: &Session,
        seen: Instant,
        now: Instant,
        loops: impl Fn(LineageId) -> Option<LoopState>,
        told: Told,
    ) -> Self {
        let summary = SessionSummary::of(session, seen, now);
        let monitor = session.monitor.lock();
        let lineages = monitor.lineages().iter();
        Self {
            summary,
            lineages: lineages
                .map(|lineage| {
                    let hot = loops(lineage.trail.id);
                    let state = hot.as_ref().or(lineage.loops.as_deref());
                    LineageView::of(lineage, monitor.seen(lineage), now, state)
                })
                .collect(),
            interventions: told.interventions,
            decisions: told.decisions,
            calls: told.calls,
            policy: session
                .policy
                .lock()
                .as_ref()
                .map(|policy| policy.state.clone()),
        }
    }
}

impl LineageView {
    fn of(lineage: &Lineage, seen: Instant, now: Instant, loops: Option<&LoopState>) -> Self {
        Self {
            id: lineage.trail.id.to_string(),
            kind: lineage.trail.kind().as_str(),
            backend: lineage.backend.as_ref().map(ToString::to_string),
            messages: lineage.trail.length(),
            messages_left_out: lineage.left_out(),
            last_seen: at(seen, now),
            spent: Spent::of(&lineage.counters()),
            loop_protection: loops.map(LoopState::view),
        }
    }
}

/// `then` on the wall clock.
fn at(then: Instant, now: Instant) -> String {
    let ago = now.saturating_duration_since(then);
    let time = SystemTime::now()
        .checked_sub(ago)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_millis(time).to_string()
}
