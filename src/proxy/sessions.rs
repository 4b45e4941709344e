//! The session of a request: found, counted, logged.

use http::header::USER_AGENT;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::context::Context;
use super::{Shared, client_address};
use crate::config::Config;
use crate::session::{Principal, SessionKey, Transcript, lineage};
use crate::telemetry::Metrics;
use crate::telemetry::access_log::ClientText;
use crate::turn::Turn;

/// Names the subagent of a Claude Code session.
const AGENT_ID: &str = "x-claude-code-agent-id";

/// Find the session and conversation of `turn`, and log the request's `REQ` line.
pub(super) fn begin(
    shared: &Shared,
    config: &Config,
    session: &Session,
    ctx: &mut Context,
    turn: &Turn,
) {
    let headers = &session.req_header().headers;
    let opener = lineage::opener(turn);
    let principal = principal(config, session, ctx).for_user_of(turn);
    let key = SessionKey::of(principal, headers, turn, &opener);
    let agent = headers.get(AGENT_ID).and_then(|id| id.to_str().ok());
    let agent = agent.map(str::trim).filter(|id| !id.is_empty());
    let transcript = Transcript::read(turn, agent, &opener);
    let visit = shared.sessions.begin(&key, transcript, Instant::now());
    Metrics::global().session_source(key.source);
    let id = visit.session().to_string();

    let product = |agent: &str| agent.split(' ').next().unwrap_or_default().to_owned();
    let client = headers
        .get(USER_AGENT)
        .map(|agent| ClientText::from_bytes(agent.as_bytes()));
    let client = client.map_or_else(|| "-".to_owned(), |agent| product(agent.as_str()));
    let dialect = ctx
        .record
        .as_ref()
        .map_or("", |record| record.dialect.as_str());
    tracing::info!(
        "REQ sess={id} src={src} client={client} dialect={dialect} model={model} msgs={msgs} \
         tools={tools} stream={stream} rate={rate}/60s lineage={lineage}",
        src = key.source.as_str(),
        model = ClientText::new(&turn.model),
        msgs = turn.messages.len(),
        tools = turn.tools.len(),
        stream = turn.stream,
        rate = visit.rate,
        lineage = visit.lineage,
    );
    if let Some(record) = &mut ctx.record {
        record.session = Some(id);
    }
    ctx.visit = Some(visit);
}

/// The holder of the key, where keys are asked for; else who is at the other end.
fn principal(config: &Config, session: &Session, ctx: &Context) -> Principal {
    if let Some(name) = &ctx.principal {
        return Principal::key(name);
    }
    match client_address::of(session, &config.auth.trusted_proxies) {
        Some(address) => Principal::address(&address),
        None => Principal::address(&"unknown"),
    }
}
