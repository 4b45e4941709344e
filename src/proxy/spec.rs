//! What a turn wants of speculative decoding, and what came of it.

use std::sync::Arc;

use pingora_proxy::Session;

use super::Shared;
use super::context::Context;
use crate::config::{Config, RequestClass};
use crate::exchange::End;
use crate::fleet::{Pool, SpecWish, Wish};
use crate::guard::intervention::Intervention;
use crate::spec::rollout::Site;
use crate::spec::{Cause, Drafts, Observation, Place, Runs, Sources, StopKind, Stratum, resolve};
use crate::telemetry::Metrics;
use crate::telemetry::access_log::{Record, Speculation};
use crate::telemetry::labels::{Configured, Outcome};
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

/// What came of the turn, for comparisons between profiles and builds. Turns that their client has left, or that it
/// asked wrongly, say nothing.
pub(super) fn observe(shared: &Shared, ctx: &Context, record: &mut Record) {
    failures(ctx).for_each(|failed| compare(shared, ctx, failed));
    let Some(seen) = observation(ctx, record) else {
        return;
    };
    record.spec = Some(Speculation {
        class: seen.stratum.class,
        profile: Arc::clone(&seen.place.profile),
        drafted: seen.drafts.drafted,
        accepted: seen.drafts.accepted,
        verify_steps: seen.drafts.steps,
    });
    Metrics::global().spec_seen(&seen);
    shared.spec.push(&seen);
    compare(shared, ctx, seen);
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

/// Attempts that failed are hidden from clients by those that followed, and are the rollout's all the same.
fn failures(ctx: &Context) -> impl Iterator<Item = Observation> {
    let known = ctx.exchanged.as_ref().zip(ctx.pool.clone()).zip(ctx.class);
    known.into_iter().flat_map(|((done, pool), class)| {
        done.failed.iter().map(move |(backend, ran)| Observation {
            place: Place {
                pool: Arc::clone(&pool),
                backend: backend.id().as_str().into(),
                profile: Arc::clone(&ran.profile),
                build: ran.build.clone().unwrap_or_else(|| "unknown".into()),
            },
            stratum: Stratum::new(class, ran.busy),
            timings: None,
            drafts: Drafts::default(),
            ttft: None,
            stop: StopKind::Failed,
            expected_cached: None,
            malformed: false,
            looping: false,
        })
    })
}

fn observation(ctx: &Context, record: &Record) -> Option<Observation> {
    let done = ctx.exchanged.as_ref()?;
    let ran = done.ran.as_ref()?;
    let stop = match (&done.end, record.outcome) {
        (End::Complete, _) => match &ctx.report.stop {
            Some(Stop::Length) => StopKind::Length,
            Some(Stop::Sequence(_)) => StopKind::Sequence,
            Some(Stop::End) | None => StopKind::End,
        },
        (End::Failed { .. }, Outcome::UpstreamError | Outcome::Timeout | Outcome::Cut) => {
            StopKind::Failed
        }
        _ => return None,
    };
    let timings = ctx.report.timings;
    let drafted = timings.and_then(|t| t.draft_n).unwrap_or(0);
    let accepted = timings.and_then(|t| t.draft_n_accepted).unwrap_or(0);
    let asked_again = |done: &Intervention| done.kind == "reask";
    let place = Place {
        pool: ctx.pool.clone()?,
        backend: record.backend.as_deref()?.into(),
        profile: Arc::clone(&ran.profile),
        build: ran.build.clone().unwrap_or_else(|| "unknown".into()),
    };
    Some(Observation {
        place,
        stratum: Stratum::new(ctx.class?, ran.busy),
        timings,
        drafts: Drafts {
            drafted,
            accepted: accepted.min(drafted),
            steps: ctx.report.verify_steps.unwrap_or(0),
        },
        ttft: record.ttft,
        stop,
        expected_cached: ctx.predicted_cached.filter(|_| done.attempts.len() == 1),
        malformed: ctx.report.loops.bad || ctx.interventions.iter().any(asked_again),
        looping: ctx.report.loops.interfered(),
    })
}
