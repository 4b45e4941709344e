//! The end of every request: one log line, and the metrics.

use std::mem;
use std::sync::Arc;

use pingora_core::Error;
use pingora_proxy::Session;
use serde_json::json;

use super::Shared;
use super::context::Context;
use super::spec;
use crate::exchange::End;
use crate::guard::intervention;
use crate::telemetry::Metrics;
use crate::telemetry::access_log::{Line, Record};
use crate::telemetry::feed::{Feed, now};
use crate::telemetry::labels::{Configured, Outcome, Stage, TokenKind};
use crate::telemetry::metrics::GenAiRequest;
use crate::telemetry::trace::{TraceContext, TracedTurn};
use crate::turn::{Stop, TurnError};

/// Called exactly once a request, by Pingora's `logging` phase.
pub(super) fn finish(shared: &Shared, session: &Session, error: Option<&Error>, ctx: &mut Context) {
    // A connection that brought no request has nothing to log.
    let Some(mut record) = ctx.record.take() else {
        return;
    };
    let answered = session
        .response_written()
        .filter(|h| !h.status.is_informational());
    record.status = answered.map_or(0, |header| header.status.as_u16());
    record.total = ctx.started.elapsed();
    record.bytes_out = session.body_bytes_sent() as u64;
    record.principal = ctx.principal.take();
    record.pool = ctx.pool.as_deref().map(str::to_owned);
    record.error = ctx.error;
    if let Some(native) = &ctx.native {
        record.backend = Some(native.lease.id().as_str().to_owned());
        record.bytes_in = native.body_bytes;
        record.attempts = 1 + native.tried.len() as u32;
    }
    record.policy = mem::take(&mut ctx.decided);
    exchange(ctx, &mut record);
    record.outcome = outcome(ctx, &record, error.is_some());
    let traced = traced(shared, ctx);
    record.trace_id = traced.as_ref().map(TraceContext::trace_hex);
    count(ctx, &record);
    spec::observe(shared, ctx, &mut record);
    let record = Arc::new(record);
    let line = Line::of(&record);
    tell(ctx, &line);
    line.log();
    if let Some(context) = &traced {
        trace(shared, ctx, context, &record);
    }
    shared.requests.push(record);
}

/// News for those who watch.
fn tell(ctx: &Context, line: &Line<'_>) {
    let feed = Feed::global();
    feed.tell_json("request", || Arc::clone(line.json()));
    for done in &ctx.interventions {
        feed.tell(
            "intervention",
            || json!({ "at": now(), "request_id": ctx.id, "what": done.kind, "mode": done.mode }),
        );
    }
}

/// The place of a turn whose trace is recorded.
fn traced(shared: &Shared, ctx: &mut Context) -> Option<TraceContext> {
    let wanted = shared.tracer.is_some() && ctx.generates.is_some();
    let context = ctx.trace.take().filter(TraceContext::is_sampled);
    context.filter(|_| wanted)
}

/// The spans of a turn are made of what it has noted.
fn trace(shared: &Shared, ctx: &Context, context: &TraceContext, record: &Record) {
    let (Some(tracer), Some((operation, _))) = (&shared.tracer, &ctx.generates) else {
        return;
    };
    let done = ctx.exchanged.as_ref();
    tracer.finished(TracedTurn {
        context,
        record,
        operation: *operation,
        started: ctx.started,
        first_token: done.and_then(|done| done.first_token),
        attempts: done.map_or(&[], |done| &done.spans),
        usage: &ctx.report.attempts,
        interventions: &ctx.interventions,
        decisions: &ctx.decisions,
    });
}

fn exchange(ctx: &Context, record: &mut Record) {
    let Some(done) = &ctx.exchanged else { return };
    record.backend = done
        .backend
        .as_ref()
        .map(|backend| backend.id().as_str().to_owned());
    record.attempts = (done.attempts.len() + done.lost.len()) as u32;
    record.build = done.ran.last().map(|ran| Arc::clone(&ran.place.build));
    record.ttft = done.first_token.map(|at| at.duration_since(ctx.started));
    record.overhead = ctx.overhead.map(|own| own.get(Stage::Total));
    let usage = ctx.report.usage;
    if usage.prompt > 0 {
        record.tokens_in = Some(usage.prompt);
        record.tokens_cached = Some(usage.cached);
        record.tokens_out = Some(usage.completion);
    }
    record.interventions = intervention::kinds(&ctx.interventions);
    if done.end == End::Complete {
        record.stop_reason = ctx.report.stop.as_ref().map(stop_reason);
    }
    if let End::Failed { error, .. } = &done.end {
        record.error = Some(error.kind());
    }
}

fn stop_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::End => "end",
        Stop::Length => "length",
        Stop::Sequence(_) => "stop_sequence",
    }
}

fn outcome(ctx: &Context, record: &Record, failed: bool) -> Outcome {
    if ctx.client_gone() {
        return Outcome::ClientGone;
    }
    if let Some(End::Failed {
        error,
        committed: true,
    }) = ctx.exchanged.as_ref().map(|e| &e.end)
    {
        return match error {
            TurnError::Timeout { .. } => Outcome::Timeout,
            // Told inside a stream to clients that act on it only there.
            TurnError::ContextOverflow { .. } if ctx.report.usage.completion == 0 => {
                Outcome::ClientError
            }
            TurnError::Overloaded { .. } => Outcome::Unavailable,
            _ => Outcome::Cut,
        };
    }
    match record.status {
        200..=399 if failed => Outcome::Cut,
        200..=399 => Outcome::Ok,
        401 | 403 => Outcome::Denied,
        429 | 503 | 529 => Outcome::Unavailable,
        400..=499 | 501 => Outcome::ClientError,
        502 => Outcome::UpstreamError,
        504 => Outcome::Timeout,
        _ => Outcome::Internal,
    }
}

fn count(ctx: &Context, record: &Record) {
    let metrics = Metrics::global();
    let pool = record
        .pool
        .as_deref()
        .map_or(Configured::NONE, Configured::name);
    metrics.request(record.dialect, pool, record.outcome, record.total);
    if record.outcome == Outcome::ClientGone {
        metrics.client_disconnect();
    }
    if let Some((operation, model)) = &ctx.generates {
        metrics.gen_ai(GenAiRequest {
            operation: *operation,
            model: Configured::name(model),
            outcome: record.outcome,
            took: record.total,
            ttft: record.ttft,
            usage: ctx.report.usage,
        });
    }
    let Some(done) = &ctx.exchanged else { return };
    metrics.witness(record, done.longest_gap);
    for why in done.attempts.iter().chain(&done.lost) {
        metrics.attempt(*why);
    }
    for (why, usage) in done.attempts.iter().zip(&ctx.report.attempts) {
        metrics.attempt_tokens(*why, *usage);
    }
    for cause in &done.aborts {
        metrics.upstream_abort(*cause);
    }
    if let Some(ttft) = record.ttft {
        metrics.ttft(record.dialect, pool, ttft);
    }
    if let Some(own) = &ctx.overhead {
        for stage in Stage::ALL {
            metrics.overhead(*stage, own.get(*stage));
        }
    }
    let usage = ctx.report.usage;
    metrics.tokens(
        pool,
        TokenKind::Input,
        usage.prompt.saturating_sub(usage.cached),
    );
    metrics.tokens(pool, TokenKind::Cached, usage.cached);
    metrics.tokens(pool, TokenKind::Output, usage.completion);
    metrics.tokens(pool, TokenKind::Hidden, ctx.report.hidden);
    if let (Some(timings), Some(backend)) = (&ctx.report.timings, &record.backend) {
        let steps = ctx
            .report
            .measured
            .last()
            .and_then(|last| last.verify_steps);
        metrics.generated(pool, Configured::name(backend), timings, steps);
    }
    metrics.tool_calls(pool, ctx.report.calls);
    if done.end == End::Complete && ctx.report.unguarded {
        metrics.guard_not_evaluated();
    }
    for done in &ctx.interventions {
        metrics.intervention(done);
    }
    for cause in &ctx.report.breaks {
        metrics.prefix_break(*cause);
    }
}
