//! A place for an attempt: at once, or after a wait in which the client gets its pings.

use bytes::BytesMut;
use tokio::time::{Instant, sleep_until};

use super::client::{Client, Downstream, Waited};
use super::conversion::Conversion;
use super::{Continuation, Exchange, Stopped, TurnBudget, no_backend};
use crate::dialect::llama::Fault;
use crate::fleet::{Admitted, Ask, Footprint, Grant, Lease, Pool, Unavailable, Waiting, Wish};
use crate::telemetry::Metrics;
use crate::telemetry::labels::{Configured, Stage};
use crate::turn::TurnError;

/// A place for the attempt `now`, and the tokens of its prompt that should be in the cache there; `held` is that of the turn's last one. When there is none, what the
/// last backend said explains most.
///
/// Where the conversation's cache is at stake, a backend gets the moment it needs to put down a request that was
/// closed just now, most likely one of the same conversation: asked before, it would take another slot and
/// evaluate the whole prompt.
pub(super) async fn find<C, D: Downstream>(
    exchange: &Exchange<'_, C>,
    now: &Continuation,
    held: Option<Lease>,
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
    budget: &TurnBudget,
    last_fault: Option<&TurnError>,
) -> Result<(Lease, u64), Stopped> {
    let selecting = Instant::now();
    let pool = exchange.pool;
    let ask = Ask {
        except: now.backend.except.clone(),
        prefer: now.backend.prefer.clone(),
        wish: Wish {
            footprint: now.footprint.map(|f| uncounted(pool, f)),
            ..exchange.wish.clone()
        },
    };
    let admitted = pool.admit(ask, held);
    client.add_overhead(Stage::Select, selecting.elapsed());
    let granted = match admitted {
        Ok(Admitted::Now(grant)) => Ok(grant),
        Ok(Admitted::Later(waiting)) => wait(waiting, client, conversion, budget).await?,
        Err(why) => Err(why),
    };
    let Grant { lease, decision } = granted.map_err(|why| {
        if let Unavailable::Busy { reason, .. } = why {
            Metrics::global().queue_rejection(reason);
        }
        let error = last_fault
            .cloned()
            .unwrap_or_else(|| no_backend(pool.name(), why));
        Stopped::Fault(Fault::Transient(error))
    })?;
    if let Some(waited) = decision.waited {
        Metrics::global().queue_wait(Configured::name(pool.name()), waited);
    }
    client.attempt_begins(lease.id().as_str(), profile(&lease, exchange.wish));
    let cached = decision.predicted_cached_tokens;
    let has_cache = now.ask.is_some() || cached > 0;
    (exchange.explain)(decision);
    if has_cache && let Some(rests_at) = lease.rests_at() {
        let ping = |out: &mut BytesMut| conversion.ping(out);
        let rest = sleep_until(rests_at);
        if let Waited::Gone = client.wait(budget.deadline(), rest, ping).await {
            return Err(Stopped::Gone);
        }
    }
    Ok((lease, cached))
}

/// A prompt that seems longer than every cache waits for no room: on a backend it is counted, and cut or refused.
fn uncounted(pool: &Pool, footprint: Footprint) -> Footprint {
    match pool.largest_cache() {
        Some(largest) if footprint.prompt >= largest => Footprint {
            prompt: 0,
            ..footprint
        },
        _ => footprint,
    }
}

/// Puts right what the place takes, now that the prompt may have been counted or cut. Whether it is too much there
/// beside what others take: then `now` knows, and looks for another place.
pub(super) fn is_over(
    lease: &Lease,
    now: &mut Continuation,
    conversion: &mut dyn Conversion,
) -> bool {
    let (Some(footprint), true) = (&mut now.footprint, lease.reserves()) else {
        return false;
    };
    let counted = conversion.size().and_then(|size| size.tokens);
    let Some(tokens) = counted.filter(|tokens| *tokens != footprint.prompt) else {
        return false;
    };
    footprint.prompt = tokens;
    lease.occupies(Some(tokens), 0);
    lease.is_over()
}

/// What runs there, as far as that is known.
pub(super) fn profile(lease: &Lease, wish: &Wish) -> Option<String> {
    lease.runs().is_known().then(|| wish.effective(lease))
}

/// Wait; a client that leaves gives its place in the queue up at once.
async fn wait<D: Downstream>(
    mut waiting: Waiting,
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
    budget: &TurnBudget,
) -> Result<Result<Grant, Unavailable>, Stopped> {
    let ping = |out: &mut BytesMut| conversion.ping(out);
    match client
        .wait(budget.deadline(), waiting.granted(), ping)
        .await
    {
        Waited::Ready(granted) => Ok(granted),
        Waited::Gone => Err(Stopped::Gone),
        Waited::Deadline => Err(Stopped::Fault(Fault::Permanent(TurnError::Timeout {
            stage: "timeouts.total",
            after: budget.total(),
        }))),
    }
}
