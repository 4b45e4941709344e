//! What a turn wants of speculative decoding, and what came of it.

use std::sync::Arc;

use pingora_proxy::Session;

use super::Shared;
use super::context::Context;
use crate::config::{Config, RequestClass};
use crate::exchange::{End, Measured, Outcome, Ran};
use crate::fleet::{Pool, SpecWish, Wish};
use crate::spec::rollout::Site;
use crate::spec::{Cause, Drafts, Observation, Place, Runs, Sources, StopKind, Stratum, resolve};
use crate::telemetry::Metrics;
use crate::telemetry::access_log::{Record, Speculation};
use crate::telemetry::labels::{self as telemetry, Configured, Why};
use crate::turn::{Stop, Turn, TurnError};

/// Says what a client wants: `off`, a profile, or `auto`.
const HEADER: &str = "x-drover-spec";

/// The wish of `turn`, by header, kind of turn and rule. Its class is noted: what comes of the turn is counted by it.
///
/// # Errors
/// [`TurnError::BadRequest`] when the header names a profile that there is none of.
pub(super) fn begin(
    config: &Config,
    session: &Session,
    ctx: &mut Context,
    pool: &Pool,
    turn: &Turn,
) -> Result<Option<SpecWish>, TurnError> {
    let class = RequestClass::of(turn);
    ctx.class = Some(class);
    wish(config, session, pool, turn.is_tool_turn(), Some(class))
}

/// The wish of a request that is no turn.
///
/// # Errors
/// As [`begin`].
pub(super) fn relayed(
    config: &Config,
    session: &Session,
    pool: &Pool,
) -> Result<Option<SpecWish>, TurnError> {
    wish(config, session, pool, false, None)
}

fn wish(
    config: &Config,
    session: &Session,
    pool: &Pool,
    tool_turn: bool,
    class: Option<RequestClass>,
) -> Result<Option<SpecWish>, TurnError> {
    let header = session.req_header().headers.get(HEADER);
    let sources = Sources {
        // What is no text is no name either; it is refused like any other that is unknown.
        header: header.map(|value| value.to_str().unwrap_or("?")),
        tool_turn,
        pool: pool.name(),
        class,
    };
    let spec = &config.spec;
    Ok(resolve(spec, sources)?.map(|choice| SpecWish {
        // A client gets what it asks for, whatever that takes.
        reprefill_max: (choice.cause != Cause::Header).then_some(spec.reprefill_max),
        reprefill_rate: spec.reprefill_rate,
        choice,
    }))
}

/// What came of the turn's attempts, for comparisons between profiles and builds. An attempt that its client has left,
/// or that was asked wrongly, says nothing.
pub(super) fn observe(shared: &Shared, ctx: &Context, record: &mut Record) {
    let Some(done) = &ctx.exchanged else { return };
    for (at, ran) in done.ran.iter().enumerate() {
        let measured = ctx.report.measured.get(at).copied().unwrap_or_default();
        tell_backend(ran, measured);
        let Some(seen) = observation(ctx, record, done, at, measured) else {
            continue;
        };
        // The last one's, which is the answer that the client has.
        record.spec = Some(Speculation {
            class: seen.stratum.class,
            profile: Arc::clone(&seen.place.profile),
            drafted: seen.drafts.drafted,
            accepted: seen.drafts.accepted,
            verify_steps: seen.drafts.steps,
        });
        Metrics::global().spec_seen(&seen);
        // What ran by order of the request is no profile of the backend's to be compared with its others.
        if seen.place == ran.place {
            shared.spec.push(&seen);
        }
        compare(shared, ctx, seen);
    }
}

/// The side of a rollout that the request is on. One that asks for a profile gets that, and takes no part.
pub(super) fn side(shared: &Shared, ctx: &mut Context, pool: &Pool, wish: &mut Wish) {
    if wish.spec.is_some() || !shared.rollouts.moves(pool.name()) {
        return;
    }
    let session = ctx.session.map(|id| id.to_string());
    ctx.rollout = shared.rollouts.assign(pool.name(), session.as_deref());
    wish.rollout = ctx.rollout.clone();
}

/// What came of a turn is the rollout's to compare, where it ran on its side.
fn compare(shared: &Shared, ctx: &Context, seen: Observation) {
    let (Some(assigned), Some(session)) = (&ctx.rollout, ctx.session) else {
        return;
    };
    if !assigned.arm.is_compared() {
        return;
    }
    let place = &seen.place;
    let runs = Runs::named(&place.profile);
    let site = Site {
        backend: &place.backend,
        runs: &runs,
        build: Some(&place.build),
    };
    let counts = assigned.routing.counts(assigned.arm, site);
    let rollout = Configured::name(&assigned.routing.rollout);
    Metrics::global().rollout_turn(rollout, assigned.arm, counts);
    if counts {
        shared.rollouts.seen(assigned, &session.to_string(), seen);
    }
}

/// Whether a wish for no drafts is met shows in the answers. Nothing is known of one without timings, and the timings
/// of several choices are those of the first.
fn tell_backend(ran: &Ran, measured: Measured) {
    if let (Some(timings), Some(_)) = (measured.timings, measured.verify_steps) {
        let drafted = timings.draft_n.unwrap_or(0);
        ran.backend
            .has_drafted(ran.off, timings.predicted_n, drafted);
    }
}

/// How attempt number `at` ended, and whether it had a call that could not be used.
fn ended(
    ctx: &Context,
    record: &Record,
    done: &Outcome,
    at: usize,
    measured: Measured,
) -> Option<(StopKind, bool)> {
    // Why there was another one tells what became of this one. Another answer is asked for when a call is missing, or
    // an answer empty, too.
    match done.attempts.get(at + 1) {
        Some(Why::Reask) => return Some((StopKind::End, measured.bad_call)),
        Some(Why::Failover | Why::Resume) => return Some((StopKind::Failed, false)),
        Some(Why::First | Why::Prune | Why::Stale | Why::Hedge) => return None,
        None => {}
    }
    let stop = match (&done.end, record.outcome) {
        (End::Complete, _) => match &ctx.report.stop {
            Some(Stop::Length) => StopKind::Length,
            Some(Stop::Sequence(_)) => StopKind::Sequence,
            Some(Stop::End) | None => StopKind::End,
        },
        (
            End::Failed { .. },
            telemetry::Outcome::UpstreamError
            | telemetry::Outcome::Timeout
            | telemetry::Outcome::Cut,
        ) => StopKind::Failed,
        _ => return None,
    };
    Some((stop, ctx.report.loops.bad))
}

fn observation(
    ctx: &Context,
    record: &Record,
    done: &Outcome,
    at: usize,
    measured: Measured,
) -> Option<Observation> {
    let ran = done.ran.get(at)?;
    let (stop, malformed) = ended(ctx, record, done, at, measured)?;
    let timings = measured.timings;
    let drafted = timings.and_then(|t| t.draft_n).unwrap_or(0);
    let accepted = timings.and_then(|t| t.draft_n_accepted).unwrap_or(0);
    let (is_first, is_only) = (at == 0, done.ran.len() == 1);
    Some(Observation {
        place: Place {
            profile: Arc::clone(&ran.profile),
            ..ran.place.clone()
        },
        stratum: Stratum::new(ctx.class?, ran.busy),
        timings,
        drafts: Drafts {
            drafted,
            accepted: accepted.min(drafted),
            steps: measured.verify_steps.unwrap_or(0),
        },
        ttft: record.ttft.filter(|_| is_only),
        stop,
        expected_cached: is_first.then_some(ran.expected_cached),
        malformed,
        looping: is_only && ctx.report.loops.interfered(),
        answer: measured.answer,
    })
}
