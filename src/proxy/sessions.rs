//! The session of a request: found, counted, logged.

use std::fmt::{self, Display};

use http::header::USER_AGENT;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::context::Context;
use super::{Shared, client_address};
use crate::config::Config;
use crate::dialect::relay::Relay;
use crate::guard::loops::last_calls;
use crate::session::{Claims, Principal, SessionKey, Transcript, lineage};
use crate::telemetry::Metrics;
use crate::telemetry::access_log::ClientText;
use crate::telemetry::log;
use crate::turn::{Extra, Turn};

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
    let key = key_of_turn(config, session, ctx, turn, &opener);
    let agent = headers.get(AGENT_ID).and_then(|id| id.to_str().ok());
    let agent = agent.map(str::trim).filter(|id| !id.is_empty());
    let transcript = Transcript::read(turn, agent, &opener);
    let visit = shared.sessions.begin(&key, transcript, Instant::now());
    Metrics::global().session_source(key.source);
    if visit.is_retry {
        Metrics::global().client_retry();
    } else {
        let calls = last_calls(&turn.messages);
        let messages = turn.messages.len();
        shared.sessions.called(&visit, &ctx.id, messages, &calls);
    }
    ctx.session = Some(visit.session());
    let asked = Asked {
        rate: visit.rate,
        lineage: Some(&visit.lineage),
        ..Asked::turn(turn)
    };
    tell(session, ctx, Some(&key), asked);
    ctx.visit = Some(visit);
}

/// The same for a question about a turn: the session it belongs to is in use, but has no turn more.
pub(super) fn count(
    shared: &Shared,
    config: &Config,
    session: &Session,
    ctx: &mut Context,
    turn: &Turn,
) {
    let key = key_of_turn(config, session, ctx, turn, &lineage::opener(turn));
    let (id, rate) = shared.sessions.touch(&key, Instant::now());
    ctx.session = Some(id);
    let asked = Asked {
        rate,
        ..Asked::turn(turn)
    };
    tell(session, ctx, Some(&key), asked);
}

/// The same for a relayed request. It has a session only if it names one: a text to complete or to
/// embed begins no conversation.
pub(super) fn relay(
    shared: &Shared,
    config: &Config,
    session: &Session,
    ctx: &mut Context,
    relay: &Relay,
) {
    let claims = Claims {
        metadata: None,
        fields: relay.fields(),
    };
    let principal = principal(config, session, ctx).for_user_of(claims);
    let key = SessionKey::named(principal, &session.req_header().headers, claims);
    let touched = key
        .as_ref()
        .map(|key| shared.sessions.touch(key, Instant::now()));
    ctx.session = touched.map(|(id, _)| id);
    let asked = Asked {
        model: &relay.model,
        messages: 0,
        tools: 0,
        stream: relay.stream,
        rate: touched.map_or(0, |(_, rate)| rate),
        lineage: None,
    };
    tell(session, ctx, key.as_ref(), asked);
}

/// The session of a request that is passed through, by its header.
pub(super) fn passed(shared: &Shared, config: &Config, session: &Session, ctx: &mut Context) {
    let fields = Extra::default();
    let claims = Claims {
        metadata: None,
        fields: &fields,
    };
    let principal = principal(config, session, ctx).for_user_of(claims);
    let key = SessionKey::named(principal, &session.req_header().headers, claims);
    ctx.session = key.map(|key| shared.sessions.touch(&key, Instant::now()).0);
}

fn key_of_turn(
    config: &Config,
    session: &Session,
    ctx: &Context,
    turn: &Turn,
    opener: &str,
) -> SessionKey {
    let principal = principal(config, session, ctx).for_user_of(turn.into());
    SessionKey::of(principal, &session.req_header().headers, turn, opener)
}

/// The holder of the key, where keys are asked for; else who is at the other end.
pub(super) fn principal(config: &Config, session: &Session, ctx: &Context) -> Principal {
    if let Some(name) = &ctx.principal {
        return Principal::key(name);
    }
    match client_address::of(session, &config.auth.trusted_proxies) {
        Some(address) => Principal::address(&address),
        None => Principal::address(&"unknown"),
    }
}

/// What a `REQ` line says about a request.
struct Asked<'a> {
    model: &'a str,
    messages: usize,
    tools: usize,
    stream: bool,
    rate: u32,
    lineage: Option<&'a dyn Display>,
}

impl<'a> Asked<'a> {
    fn turn(turn: &'a Turn) -> Self {
        Self {
            model: &turn.model,
            messages: turn.messages.len(),
            tools: turn.tools.len(),
            stream: turn.stream,
            rate: 0,
            lineage: None,
        }
    }
}

/// Write the `REQ` line; what is not known is `-`.
fn tell(session: &Session, ctx: &mut Context, key: Option<&SessionKey>, asked: Asked<'_>) {
    let unknown: &dyn Display = &"-";
    let id = ctx.session.map(|id| id.to_string());
    let agent = session.req_header().headers.get(USER_AGENT);
    let agent = agent.map(|agent| ClientText::from_bytes(agent.as_bytes()));
    let client = agent.as_ref().and_then(|a| a.as_str().split(' ').next());
    let record = ctx.record.as_mut();
    if tracing::enabled!(tracing::Level::INFO) {
        write(format_args!(
            "REQ sess={sess} src={src} client={client} dialect={dialect} model={model} msgs={msgs} \
         tools={tools} stream={stream} rate={rate}/60s lineage={lineage} req={req}",
            sess = id.as_deref().unwrap_or("-"),
            src = key.map_or("-", |key| key.source.as_str()),
            client = client.unwrap_or("-"),
            dialect = record
                .as_ref()
                .map_or("-", |record| record.dialect.as_str()),
            model = ClientText::new(asked.model),
            msgs = asked.messages,
            tools = asked.tools,
            stream = asked.stream,
            rate = asked.rate,
            lineage = asked.lineage.unwrap_or(unknown),
            req = ctx.id,
        ));
    }
    if let Some(record) = record {
        record.session = id;
    }
}

fn write(line: fmt::Arguments<'_>) {
    if !log::info(module_path!(), line) {
        tracing::info!("{line}");
    }
}
