//! What a turn wants of speculative decoding.

use pingora_proxy::Session;

use super::context::Context;
use crate::config::{Config, RequestClass};
use crate::fleet::{Pool, SpecWish};
use crate::spec::{Cause, Sources, resolve};
use crate::turn::{Turn, TurnError};

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
