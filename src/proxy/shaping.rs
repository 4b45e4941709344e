//! How a turn's request is to be shaped: by configuration, preset, header and what its session knows.

use std::sync::Arc;

use http::HeaderMap;
use pingora_proxy::Session;

use super::context::Context;
use crate::config::{Config, Preset};
use crate::exchange::Shaping;
use crate::fleet::Pool;
use crate::guard::sampling;
use crate::session::lineage;
use crate::turn::{Turn, TurnError};

/// Names the profile of sampling options a client wants; the second is the earlier proxy's.
const PROFILE: [&str; 2] = ["x-drover-model-profile", "x-uap-model-profile"];

/// The shaping of `turn`.
///
/// # Errors
/// [`TurnError::BadRequest`] when the client names a profile that there is none of.
pub(super) fn of(
    config: &Arc<Config>,
    preset: Preset,
    session: &Session,
    ctx: &mut Context,
    pool: &Pool,
    turn: &Turn,
) -> Result<Shaping, TurnError> {
    let pools = config.fleet.pools.iter();
    let own = pools.filter(|own| own.name == pool.name());
    let own = own.filter_map(|own| own.model_profile.as_deref()).next();
    let sources = sampling::Sources {
        header: header(&session.req_header().headers),
        pool: own,
        model: &turn.model,
    };
    let profile = sampling::resolve(&config.guard.sampling, sources)?;
    let profile = profile.map(|(profile, chosen)| (profile.clone(), chosen));
    let remembered = ctx.visit.as_mut().map(|v| std::mem::take(&mut v.context));
    Ok(Shaping::new(
        Arc::clone(config),
        preset,
        profile,
        remembered.unwrap_or_default(),
        lineage::hash,
    ))
}

fn header(headers: &HeaderMap) -> Option<&str> {
    let value = PROFILE.iter().find_map(|name| headers.get(*name))?;
    // What is no text is no name either; it is refused like any other that is unknown.
    Some(value.to_str().unwrap_or("?"))
}
