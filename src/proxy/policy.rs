//! Policy around an exchange: which rules are in force, what they see, what came of them.

use std::sync::Arc;

use pingora_proxy::Session;
use serde_json::json;
use tokio::time::Instant;

use super::context::Context;
use super::{Shared, durable};
use crate::audit::Whose;
use crate::config::Config;
use crate::dialect::Dialect;
use crate::exchange::{Rules, timed};
use crate::fleet::Pool;
use crate::policy::{Active, Actor, Decision, Engine, Judged, Request, TurnPolicy, stated_root};
use crate::telemetry::Metrics;
use crate::telemetry::access_log::ClientText;
use crate::telemetry::feed::{Feed, now};
use crate::telemetry::labels::Configured;
use crate::turn::{Content, Message, Part, Turn, TurnError};

/// Names further profiles, separated by commas; they can only tighten.
const PROFILE: &str = "x-drover-profile";

/// The working directory of the session.
const ROOT: &str = "x-drover-root";

fn header<'s>(session: &'s Session, name: &str) -> Option<&'s str> {
    let value = session.req_header().headers.get(name)?;
    // What is no text is no name either; it is refused like any other that is unknown.
    Some(value.to_str().unwrap_or("?").trim())
}

/// Profiles in force besides the default one: of the key, of the pool, of the request.
fn profiles<'a>(
    config: &'a Config,
    session: &'a Session,
    ctx: &Context,
    pool: &Pool,
) -> Vec<&'a str> {
    let keys = config.auth.keys.iter();
    let keys = keys.filter(|key| Some(&key.name) == ctx.principal.as_ref());
    let keys = keys.filter_map(|key| key.policy.as_deref());
    let pools = config.fleet.pools.iter();
    let pools = pools.filter(|own| own.name == pool.name());
    let pools = pools.filter_map(|own| own.policy.as_deref());
    let asked = header(session, PROFILE).unwrap_or_default().split(',');
    let asked = asked.map(str::trim).filter(|name| !name.is_empty());
    keys.chain(pools).chain(asked).collect()
}

/// Whether any rule may be asked about the turn.
pub(super) fn governs(config: &Config, session: &Session, ctx: &Context, pool: &Pool) -> bool {
    let engine = config.policy.as_ref().and_then(|policy| policy.engine());
    engine.is_some_and(|engine| {
        engine.default_profile().is_some() || !profiles(config, session, ctx, pool).is_empty()
    })
}

/// The rules in force for `turn`, none where there are none; what it shows is remembered, and what its
/// model must not see is replaced. `bytes` is the size of the request's body.
///
/// # Errors
/// [`TurnError::Forbidden`] when a rule refuses the request, [`TurnError::BadRequest`] when it names a
/// profile that there is none of.
pub(super) fn begin(
    shared: &Shared,
    config: &Config,
    session: &Session,
    ctx: &mut Context,
    pool: &Pool,
    turn: &mut Turn,
    bytes: usize,
) -> Result<Option<Rules>, TurnError> {
    let Some(InForce {
        engine,
        active,
        profile,
    }) = in_force(config, session, ctx, pool)?
    else {
        return Ok(None);
    };
    let Some(visit) = ctx.visit.as_ref().filter(|_| !active.is_empty()) else {
        return Ok(None);
    };
    let stated = || {
        header(session, ROOT)
            .filter(|root| root.starts_with('/'))
            .map(str::to_owned)
    };
    let actor = Actor {
        root: engine
            .root
            .clone()
            .or_else(stated)
            .or_else(|| stated_root(&turn.messages)),
        is_agent: visit.is_agent(),
        session: visit.session().to_string(),
        principal: ctx.principal.clone().unwrap_or_default(),
    };
    let (state, notes) = visit.policy(|known| {
        engine.observe(known, &actor, &turn.messages);
        (known.state.clone(), std::mem::take(&mut known.notes))
    });
    let policy = TurnPolicy::new(Arc::clone(engine), active, actor, state, &turn.tools);
    let audit = shared.audit.as_ref().map(|audit| {
        let whose = Whose {
            request_id: ctx.id.clone(),
            session: policy.actor().session.clone(),
            principal: policy.actor().principal.clone(),
            profile,
        };
        audit.turn(whose).of(&policy)
    });
    let rules = Rules { policy, audit };
    request(shared, ctx, &rules, turn, bytes)?;
    let begun = Instant::now();
    let decided = rules.policy.results(turn);
    let took = begun.elapsed().as_micros();
    let mut withheld = match &ctx.visit {
        Some(visit) if !decided.is_empty() => visit.policy(|known| known.news(decided)),
        _ => Vec::new(),
    };
    for decision in &mut withheld {
        decision.latency_us = u64::try_from(took).unwrap_or(u64::MAX);
    }
    if let Some(audit) = &rules.audit {
        audit.record(&withheld);
    }
    record(shared, ctx, &withheld);
    tell(turn, &notes);
    Ok(Some(rules))
}

/// What is in force for a turn.
struct InForce<'a> {
    engine: &'a Arc<Engine>,
    /// The rules of all profiles together.
    active: Active,
    /// Names of the profiles.
    profile: String,
}

fn in_force<'a>(
    config: &'a Config,
    session: &Session,
    ctx: &Context,
    pool: &Pool,
) -> Result<Option<InForce<'a>>, TurnError> {
    let Some(engine) = config.policy.as_ref().and_then(|policy| policy.engine()) else {
        return Ok(None);
    };
    let named = profiles(config, session, ctx, pool);
    let active = engine.active(named.iter().copied()).map_err(|unknown| {
        let name = ClientText::new(&unknown.0);
        TurnError::bad_field(PROFILE, format!("there is no policy profile `{name}`"))
    })?;
    let mut all: Vec<&str> = Vec::new();
    for name in engine.default_profile().into_iter().chain(named) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    Ok(Some(InForce {
        engine,
        active,
        profile: all.join(","),
    }))
}

/// What rules say about the request as a whole.
fn request(
    shared: &Shared,
    ctx: &mut Context,
    rules: &Rules,
    turn: &Turn,
    bytes: usize,
) -> Result<(), TurnError> {
    let request = Request {
        model: turn.model.clone(),
        tools: turn.tools.iter().map(|tool| tool.name.clone()).collect(),
        stream: turn.stream,
        messages: turn.messages.len(),
        bytes,
        dialect: match ctx.dialect {
            Dialect::OpenAi => "openai",
            Dialect::Anthropic => "anthropic",
            Dialect::Responses => "responses",
        }
        .into(),
    };
    let closed = rules.audit.as_ref().filter(|audit| !audit.is_open());
    let closed = closed.and_then(|_| rules.policy.unrecorded_request());
    let judged = match closed {
        Some((blocked, decision)) => Judged {
            verdict: Some(blocked),
            decisions: vec![decision],
        },
        None => timed(|| rules.policy.request(&request)),
    };
    if let Some(audit) = &rules.audit {
        audit.record_request(&rules.policy, &request, &judged.decisions);
    }
    record(shared, ctx, &judged.decisions);
    match judged.verdict {
        None => Ok(()),
        Some(blocked) => Err(TurnError::Forbidden(format!(
            "policy refuses this request ({}, rule {}). {}",
            blocked.reason, blocked.rule, blocked.hint
        ))),
    }
}

/// Say `notes` behind the text of the last result.
fn tell(turn: &mut Turn, notes: &[String]) {
    let Some(message) = turn.messages.last_mut().filter(|_| !notes.is_empty()) else {
        return;
    };
    if !message
        .parts()
        .iter()
        .any(|part| matches!(part, Part::ToolResult(_)))
    {
        let note = Message::text(crate::turn::Role::User, notes.join("\n"));
        turn.messages.push(note);
        return;
    }
    let parts = message.parts_mut().iter_mut().rev();
    let result = parts.into_iter().find_map(|part| match part {
        Part::ToolResult(result) => Some(result),
        _ => None,
    });
    if let Some(result) = result {
        result
            .content
            .push(Content::Text(format!("\n\n{}", notes.join("\n"))));
    }
}

/// The turn is over, whatever its end. `delivered`: the client has all of the answer.
pub(super) async fn end(shared: &Shared, config: &Config, ctx: &mut Context, delivered: bool) {
    let Some(report) = ctx.report.policy.take() else {
        return;
    };
    if let Some(visit) = &ctx.visit {
        visit.policy(|known| {
            known.state.denials += report.denials;
            known.notes.extend(report.notes);
            if delivered {
                known.leases.extend(report.leases);
            }
        });
        durable::keep(shared, config, visit).await;
    }
    record(shared, ctx, &report.decisions);
}

/// Decisions in a line of the access log.
const MOST_DECIDED: usize = 16;

/// Count, log and show decisions.
fn record(shared: &Shared, ctx: &mut Context, decisions: &[Decision]) {
    if let Some(visit) = &ctx.visit {
        shared.sessions.decided(visit, &ctx.id, decisions);
    }
    if ctx.trace.is_some() {
        ctx.decisions.extend_from_slice(decisions);
    }
    let session = ctx.session.map(|id| id.to_string());
    for decision in decisions {
        let Decision {
            rule, mode, tool, ..
        } = decision;
        Metrics::global().policy_decision(Configured::name(rule), decision.decision, mode);
        if decision.is_plain_allow() {
            continue;
        }
        if ctx.decided.len() < MOST_DECIDED {
            ctx.decided
                .push(format!("{} {rule} {mode}", decision.decision));
        }
        Feed::global().tell("policy", || {
            json!({
                "at": now(), "request_id": ctx.id, "session": session, "rule": rule,
                "decision": decision.decision, "mode": mode, "tool": ClientText::new(tool),
                "reason": ClientText::new(&decision.reason),
            })
        });
        tracing::info!(
            "POLICY: sess={sess} rule={rule} tool={tool} decision={made} reason={reason} mode={mode} \
             level={level} stage={stage} req={req}",
            sess = session.as_deref().unwrap_or("-"),
            tool = if tool.is_empty() {
                ClientText::new("-")
            } else {
                ClientText::new(tool)
            },
            made = decision.decision,
            reason = ClientText::new(&decision.reason),
            level = decision.level,
            stage = decision.stage,
            req = ctx.id,
        );
    }
}
