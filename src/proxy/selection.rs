//! Where a turn had better go, and what came of it.

use std::time::Duration;

use super::Shared;
use super::context::Context;
use crate::config::Config;
use crate::exchange::{Conversion, End, Outcome};
use crate::fleet::{Asking, Decision, Known, Pool, Prefix, Size, SpecWish, Wish};
use crate::session::{LineageId, Visit};
use crate::telemetry::Metrics;
use crate::telemetry::labels::Configured;
use crate::turn::Turn;

/// What is known of `turn` before its first attempt; what it asks of speculation, or a rollout of its pool, may move it.
pub(super) fn wish(
    config: &Config,
    pool: &Pool,
    visit: Option<&Visit>,
    turn: &Turn,
    spec: Option<SpecWish>,
    has_rollout: bool,
) -> Wish {
    // With one backend there is nothing to choose, but its cache is still predicted.
    let mut wish = visit.map(of_visit).unwrap_or_default();
    let stays = wish
        .preferred()
        .is_some_and(|backend| pool.would_stay(backend));
    if !stays || spec.is_some() || has_rollout {
        let least = config.fleet.selection.min_prefix.as_u64();
        wish.prefix = Prefix::of(turn, least);
    }
    wish.spec = spec;
    wish
}

fn of_visit(visit: &Visit) -> Wish {
    let known = |lineage, backend| Known {
        backend,
        conversation: visit.conversation(lineage),
    };
    let cache = visit.cache.zip(visit.preferred.clone());
    Wish {
        conversation: Some(visit.conversation(visit.lineage)),
        common: cache.as_ref().map_or(0.0, |(cache, _)| cache.common),
        cache: cache.map(|(cache, backend)| known(cache.lineage, backend)),
        prefix: None,
        spare: visit
            .main
            .clone()
            .map(|(lineage, backend)| known(lineage, backend)),
        ..Wish::default()
    }
}

/// How large a turn is; `bytes` is the length of its body.
pub(super) fn size(conversion: &mut dyn Conversion, bytes: u64) -> Size {
    let of_body = || Size {
        bytes,
        answers: 1,
        ..Size::default()
    };
    conversion.size().unwrap_or_else(of_body)
}

/// What came of a turn of that size.
pub(super) fn learn(ctx: &Context, pool: &Pool, outcome: &Outcome, size: Option<Size>) {
    let usage = ctx.report.usage;
    if let Some(size) = size.filter(|_| outcome.end == End::Complete && usage.prompt > 0) {
        pool.learn(ctx.class, size, usage.prompt, usage.completion);
    }
}

/// A backend was selected.
pub(super) fn decided(
    shared: &Shared,
    ctx: &Context,
    asking: Asking<'_>,
    pool: &str,
    decision: Decision,
) {
    Metrics::global().selection(Configured::name(pool), decision.reason);
    if let Some(wish) = &decision.spec {
        Metrics::global().spec_wish(Configured::name(pool), wish);
    }
    if let Some(underway) = &ctx.underway {
        underway.goes_to(decision.chosen.as_str());
    }
    let session = ctx.session.map(|id| id.to_string());
    let explanations = shared.fleet.explanations();
    explanations.decided(asking, session, pool, decision);
}

/// The turn came to its end; it was counted to `lineage` if its client has all of it.
pub(super) fn answered(
    shared: &Shared,
    ctx: &Context,
    asking: Asking<'_>,
    pool: &Pool,
    outcome: &Outcome,
    lineage: Option<LineageId>,
) {
    let usage = ctx.report.usage;
    if let (Some(timings), Some(backend)) = (&ctx.report.timings, &outcome.backend)
        && let Ok(time) = Duration::try_from_secs_f64(timings.prompt_ms / 1000.0)
    {
        pool.has_read(backend.id(), timings.prompt_n, time);
    }
    if let (Some(lineage), Some(visit), Some(backend)) = (lineage, &ctx.visit, &outcome.backend) {
        let tokens = usage.prompt.saturating_add(usage.completion);
        pool.served(backend.id(), visit.conversation(lineage), tokens);
    }
    if usage.prompt == 0 {
        return;
    }
    let explanations = shared.fleet.explanations();
    explanations.answered(asking, usage.prompt, usage.cached);
    if let (Some(expected), Some(_)) = (expected(ctx, outcome), &ctx.visit) {
        let pool = Configured::name(pool.name());
        Metrics::global().cache_prediction(pool, expected, usage.cached);
    }
}

/// Prompt tokens that were expected in the cache of the backend that has counted the prompt: not of one that
/// failed before, nor of one that was slower than the hedge.
fn expected(ctx: &Context, outcome: &Outcome) -> Option<u64> {
    let mut attempts = ctx.report.attempts.iter().zip(&outcome.ran);
    let (_, ran) = attempts.find(|(usage, _)| usage.prompt > 0)?;
    Some(ran.expected_cached)
}
