//! POSTs that generate: read, decode, exchange, remember what happened.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;
use tokio::time::Instant;

use super::body::{self, NoBody};
use super::context::Context;
use super::downstream::PingoraDownstream;
use super::route::ExchangeKind;
use super::{
    Shared, admission, auth, durable, errors, loops, policy, selection, sessions, shaping, spec,
};
use crate::config::{Config, Preset};
use crate::dialect::relay::{Kind as RelayKind, Relay};
use crate::dialect::{Dialect, Meta};
use crate::exchange::{
    self, ChatConversion, Client, Conversion, CountConversion, End, Exchange, Guards, LeaseDesk,
    RelayConversion,
};
use crate::fleet::{Asking, Pool, Wish};
use crate::guard::preset;
use crate::telemetry::Metrics;
use crate::telemetry::access_log::ClientText;
use crate::telemetry::feed::{self, Feed};
use crate::telemetry::labels::{Configured, Operation, Stage};
use crate::telemetry::metrics::Gaps;
use crate::turn::TurnError;

/// Longest model name in bytes: every chunk of a stream repeats it.
const LONGEST_MODEL: usize = 512;

/// Serve one request to its end.
pub(super) async fn serve(
    shared: &Shared,
    session: &mut Session,
    ctx: &mut Context,
    kind: ExchangeKind,
) -> Result<()> {
    let config = shared.config();
    session.set_write_timeout(Some(config.timeouts.write));
    let tracer = shared.tracer.as_ref();
    ctx.trace = tracer.map(|tracer| tracer.begin(&session.req_header().headers));
    let body = match body::read(session, &config).await {
        Ok(body) => body,
        Err(NoBody::Refused(error)) => return errors::respond(session, ctx, error).await,
        Err(NoBody::Gone(_)) => return Err(gone(ctx)),
    };
    let decoding = Instant::now();
    let bytes = body.len() as u64;
    let prepared = prepare(shared, &config, session, ctx, kind, body).await;
    let (pool, mut conversion, stream, mut wish) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return errors::respond(session, ctx, error).await,
    };
    underway(ctx, pool.name());
    wish.caller = admission::caller(&config, session, ctx, bytes);
    let hedge = Some(&config.fleet.hedge).filter(|hedge| hedge.share > 0.0);
    let needed = hedge.is_some() || pool.learns();
    let size = needed.then(|| selection::size(&mut *conversion, bytes));
    wish.footprint = size.map(|size| pool.expect(ctx.class, size));
    let down = PingoraDownstream {
        session,
        request_id: &ctx.id,
        session_id: ctx.session,
    };
    let (asked, id) = (&*ctx, ctx.id.clone());
    let asking = Asking {
        id: &id,
        number: shared.fleet.explanations().number(),
    };
    let mut client = Client::new(down, stream, &config.timeouts);
    client.add_overhead(Stage::Decode, decoding.elapsed());
    let exchange = Exchange {
        connector: &shared.connector,
        pool: &pool,
        wish: &wish,
        explain: &|decision| selection::decided(shared, asked, asking, pool.name(), decision),
        hedge,
        timeouts: &config.timeouts,
        limits: &config.turn,
        gaps: &gaps(ctx, &pool),
        trace: ctx.trace.as_ref(),
        leases: Some(LeaseDesk {
            leases: &shared.leases,
            longest: config.limits.session_ttl,
        }),
    };
    // Boxed: the loop's state is large, and requests that end before it should not carry it.
    let outcome = Box::pin(exchange::run(&exchange, &mut client, &mut *conversion)).await;
    ctx.overhead = Some(client.overhead());
    ctx.report = conversion.report();
    ctx.interventions = conversion.interventions().to_vec();
    if let Some(visit) = &ctx.visit {
        shared.sessions.record(visit, &ctx.id, &ctx.interventions);
    }
    policy::end(shared, &config, ctx, outcome.end == End::Complete).await;
    let lineage = loops::commit(shared, ctx, &outcome);
    selection::answered(shared, ctx, asking, &pool, &outcome, lineage);
    selection::learn(ctx, &pool, &outcome, size);
    let left = outcome.end == End::ClientGone;
    ctx.exchanged = Some(outcome);
    if left { Err(gone(ctx)) } else { Ok(()) }
}

/// Where its gaps between two content events are counted.
fn gaps(ctx: &Context, pool: &Pool) -> Gaps {
    let generates = ctx.generates.as_ref();
    let generates = generates.map(|(operation, model)| (*operation, Configured::name(model)));
    Metrics::global().gaps(Configured::name(pool.name()), generates)
}

/// Shows the turn to those who watch, for as long as it lasts.
fn underway(ctx: &mut Context, pool: &str) {
    let Some(record) = &ctx.record else { return };
    let turn = feed::Turn {
        model: record
            .model
            .as_ref()
            .map(|model| model.as_str().to_owned())
            .unwrap_or_default(),
        pool: pool.to_owned(),
        session: ctx.session.map(|id| id.to_string()),
        request_id: ctx.id.clone(),
        since: record.time,
        dialect: record.dialect.as_str(),
    };
    ctx.underway = Some(Feed::global().begin(turn));
}

type Prepared = (Arc<Pool>, Box<dyn Conversion>, bool, Wish);

/// From bytes to a conversion and the pool that can serve it.
async fn prepare(
    shared: &Shared,
    config: &Arc<Config>,
    session: &mut Session,
    ctx: &mut Context,
    kind: ExchangeKind,
    body: Bytes,
) -> Result<Prepared, TurnError> {
    if let Some(record) = &mut ctx.record {
        record.bytes_in = body.len() as u64;
    }
    match kind {
        ExchangeKind::Turn(dialect) => {
            let mut turn = dialect.decode(&body)?;
            let stream = turn.stream;
            let (pool, pattern) = pool(shared, config, ctx, &turn.model, stream)?;
            ctx.generates = Some((Operation::Chat, pattern));
            sessions::begin(shared, config, session, ctx, &turn);
            let governed = policy::governs(config, session, ctx, &pool);
            if governed {
                durable::recall(shared, ctx).await;
            }
            let police = policy::begin(shared, config, session, ctx, &pool, &mut turn, body.len())?;
            if governed {
                durable::settle(shared, ctx).await;
            }
            let spec = spec::begin(config, session, ctx, &pool, &turn)?;
            let mut wish = selection::wish(
                config,
                &pool,
                ctx.visit.as_ref(),
                &turn,
                spec,
                shared.rollouts.moves(pool.name()),
            );
            spec::side(shared, ctx, &pool, &mut wish);
            let (id, model) = (ctx.id.clone(), turn.model.clone());
            let meta = Meta {
                id,
                created: unix_seconds(),
                model,
            };
            let preset = preset(config, session, ctx, &pool);
            let shaping = shaping::of(config, preset, session, ctx, &pool, &turn)?;
            let plan = loops::plan(config, ctx, &turn, preset);
            let guards = Guards::new(preset, &config.guard);
            let conversion = ChatConversion::new(dialect, turn, meta, guards).shaped(shaping);
            let conversion = match config.fleet.resume {
                true => conversion.resumable(),
                false => conversion,
            };
            let conversion = match plan {
                Some(plan) => conversion.with_plan(plan),
                None => conversion,
            };
            let conversion = match police {
                Some(police) => conversion.with_policy(police),
                None => conversion,
            };
            Ok((pool, Box::new(conversion), stream, wish))
        }
        ExchangeKind::CountTokens => {
            let turn = Dialect::Anthropic.decode(&body)?;
            let (pool, _) = pool(shared, config, ctx, &turn.model, false)?;
            sessions::count(shared, config, session, ctx, &turn);
            Ok((
                pool,
                Box::new(CountConversion::new(turn)),
                false,
                // llama-server counts without a slot.
                Wish {
                    beside: true,
                    ..Wish::default()
                },
            ))
        }
        ExchangeKind::Relay(kind) => {
            let relay = Relay::decode(kind, &body)?;
            let stream = relay.stream;
            let (pool, pattern) = pool(shared, config, ctx, &relay.model, stream)?;
            ctx.generates = Some((operation(kind), pattern));
            sessions::relay(shared, config, session, ctx, &relay);
            let mut wish = Wish {
                spec: match kind {
                    RelayKind::Completion => spec::relayed(config, session, &pool)?,
                    RelayKind::Embedding => None,
                },
                ..Wish::default()
            };
            spec::side(shared, ctx, &pool, &mut wish);
            Ok((pool, Box::new(RelayConversion::new(relay)), stream, wish))
        }
    }
}

/// How much the guards do for this turn: by header, key, pool or default.
fn preset(config: &Config, session: &Session, ctx: &Context, pool: &Pool) -> Preset {
    let header = session.req_header().headers.get("x-drover-guard");
    let sources = preset::Sources {
        header: header.and_then(|value| value.to_str().ok()),
        principal: ctx.principal.as_deref(),
        pool: pool.guard(),
    };
    preset::resolve(config, sources)
}

/// The pool that serves `model`, if the key may use it, and the pattern that says so.
fn pool(
    shared: &Shared,
    config: &Config,
    ctx: &mut Context,
    model: &str,
    stream: bool,
) -> Result<(Arc<Pool>, Arc<str>), TurnError> {
    if let Some(record) = &mut ctx.record {
        record.model = Some(ClientText::new(model));
        record.stream = stream;
    }
    let unknown = || TurnError::UnknownModel(ClientText::new(model).to_string());
    let (pool, pattern) = shared.fleet.resolve(model).ok_or_else(unknown)?;
    if model.len() > LONGEST_MODEL {
        let message = format!("the name of the model exceeds {LONGEST_MODEL} bytes");
        return Err(TurnError::bad_field("model", message));
    }
    if !auth::may_use(&config.auth, ctx.principal.as_deref(), pool.name()) {
        return Err(TurnError::Forbidden(format!(
            "this key may not use the model `{}`",
            ClientText::new(model)
        )));
    }
    ctx.pool = Some(pool.name().into());
    Ok((pool, pattern))
}

fn operation(kind: RelayKind) -> Operation {
    match kind {
        RelayKind::Completion => Operation::TextCompletion,
        RelayKind::Embedding => Operation::Embeddings,
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Ends the connection: nobody is there to use it again.
fn gone(ctx: &mut Context) -> Box<Error> {
    ctx.gone = true;
    Error::new_down(ErrorType::ConnectionClosed)
}
