//! Loop protection around an exchange: planned before it, remembered after it.

use tokio::time::Instant;

use super::Shared;
use super::context::Context;
use crate::config::{Config, Preset};
use crate::exchange::{End, Outcome};
use crate::guard::context::PrefixBreak;
use crate::guard::loops::{self, Plan, Setting, Settled};
use crate::session::{LineageId, Served};
use crate::telemetry::Metrics;
use crate::turn::Turn;

/// What is done about `turn`; none without guards or tools.
pub(super) fn plan(
    config: &Config,
    ctx: &mut Context,
    turn: &Turn,
    preset: Preset,
) -> Option<Plan> {
    let settings = &config.guard;
    if preset == Preset::Off || !settings.loops.enabled || turn.tools.is_empty() {
        return None;
    }
    let visit = ctx.visit.as_mut()?;
    let earlier = (preset == Preset::UapLegacy).then(|| settings.loops.clone().as_earlier());
    let setting = Setting {
        loops: earlier.as_ref().unwrap_or(&settings.loops),
        budgets: &settings.budgets,
        preset,
    };
    let (plan, pending) = loops::plan(turn, std::mem::take(&mut visit.loops), setting);
    ctx.loops = Some(pending);
    Some(plan)
}

/// The client has its whole answer: what was done and spent is remembered. Returns the conversation
/// that the turn was counted to.
pub(super) fn commit(shared: &Shared, ctx: &mut Context, outcome: &Outcome) -> Option<LineageId> {
    let (End::Complete, Some(visit)) = (&outcome.end, &ctx.visit) else {
        return None;
    };
    let pending = ctx.loops.take();
    let settled = pending.map(|pending| pending.settle(&ctx.report.loops));
    let noted = settled.as_ref().map(Noted::of);
    let served = Served {
        backend: outcome.backend.as_ref().map(|backend| backend.id().clone()),
        usage: ctx.report.usage,
        context: ctx.report.context.clone(),
        loops: settled,
    };
    let (lineage, counted) = shared.sessions.commit(visit, served, Instant::now());
    if let Some(noted) = noted.filter(|_| counted) {
        noted.report(visit.session(), lineage);
    }
    Some(lineage)
}

/// What changed, for log and metrics.
struct Noted {
    lines: Vec<String>,
    labels: Vec<[&'static str; 3]>,
    resets: bool,
}

impl Noted {
    fn of(settled: &Settled) -> Self {
        let changes = settled.transitions.iter();
        Self {
            lines: settled.lines().collect(),
            labels: changes
                .map(|c| [c.from.as_str(), c.to.as_str(), c.reason.as_str()])
                .collect(),
            resets: settled.resets,
        }
    }

    fn report(self, session: impl std::fmt::Display, lineage: impl std::fmt::Display) {
        let metrics = Metrics::global();
        for labels in self.labels {
            metrics.loop_transition(labels);
        }
        if self.resets {
            metrics.prefix_break(PrefixBreak::SessionReset);
            tracing::warn!(
                "SESSION CONTAMINATION BREAKER: sess={session} lineage={lineage} reset applied"
            );
        }
        for line in self.lines {
            tracing::info!("{line} sess={session} lineage={lineage}");
        }
    }
}
