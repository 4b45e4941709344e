//! Attempt after attempt: who serves the next one, and whether there is one.

use bytes::BytesMut;

use super::attempt::{self, Done};
use super::client::{Client, Downstream};
use super::conversion::Conversion;
use super::{Connector, Continuation, Exchange, Outcome, Stopped, TurnBudget};
use super::{fit, hedge, place};
use crate::dialect::llama::{Ask, Fault};
use crate::fleet::{BackendId, Lease};
use crate::turn::TurnError;

/// What an attempt came to, as far as going on is concerned.
enum Next {
    /// The answer is complete.
    Finished,
    /// It was no good: ask again like this.
    Ask(Ask),
    /// The prompt was too long, and is shorter now; what would be told otherwise.
    Shorter(TurnError),
    /// Nothing more can be asked.
    GiveUp,
    /// The backend failed.
    Failed(TurnError),
}

/// Run attempts until one succeeds or none is left.
pub(super) async fn run<C: Connector, D: Downstream>(
    exchange: &Exchange<'_, C>,
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
    mut budget: TurnBudget,
    outcome: &mut Outcome,
) -> Result<(), Stopped> {
    let wish = exchange.wish;
    let mut now = Continuation::first(wish.preferred().cloned(), wish.footprint);
    let mut last_fault: Option<TurnError> = None;
    // Kept until the next attempt has its own: a turn that goes on does not wait behind others.
    let mut held: Option<Lease> = None;
    loop {
        let (held_now, fault) = (held.take(), last_fault.as_ref());
        let placed = place::find(exchange, &now, held_now, client, conversion, &budget, fault);
        let (mut lease, cached) = match placed.await {
            Ok(placed) => placed,
            Err(Stopped::Fault(_)) if now.is_reask() => {
                return give_up(client, conversion).await;
            }
            Err(stopped) => return Err(stopped),
        };
        // It has come into the pool since.
        if now.is_resumption()
            && !lease.continues_answers()
            && let Some(fault) = last_fault
        {
            return Err(Stopped::Fault(Fault::Transient(fault)));
        }
        if now.ask.is_none() {
            fit::run(exchange, &lease, client, conversion, &budget).await?;
            if place::is_over(&lease, &mut now, conversion) {
                held = Some(lease);
                continue;
            }
        }
        outcome.begin(now.why, &lease, exchange.wish, cached);
        now.hedge = hedge::plan(exchange, &lease, &now, conversion, cached);
        let done = attempt::run(
            exchange,
            &mut lease,
            client,
            conversion,
            &mut now,
            &mut budget,
            outcome,
        );
        let done = done.await;
        if done.is_ok() {
            outcome.settle_doubts(lease.id(), true);
        }
        let next = match done {
            Ok(Done::Complete) => Next::Finished,
            Ok(Done::Again) => conversion.ask().map_or(Next::GiveUp, Next::Ask),
            Err(Stopped::Fault(Fault::Misparsed(why))) if conversion.misparsed(&why) => {
                conversion.ask().map_or(Next::GiveUp, Next::Ask)
            }
            Err(Stopped::Fault(Fault::Permanent(error)))
                if now.ask.is_none() && shortened(conversion, &error) =>
            {
                Next::Shorter(error)
            }
            Err(Stopped::Fault(Fault::Transient(error))) => {
                if error == TurnError::KvOverflow {
                    lease.observe_overflow();
                    exchange.pool.forgets(lease.id(), wish.conversation);
                }
                Next::Failed(error)
            }
            // A refusal of ours, not of a backend, whatever came before.
            Err(Stopped::Fault(Fault::Permanent(error @ TurnError::Forbidden(_)))) => {
                return Err(Stopped::Fault(Fault::Permanent(error)));
            }
            // What came before a further attempt is a better answer than why that failed.
            Err(Stopped::Fault(_)) if now.is_reask() && !conversion.delivered() => Next::GiveUp,
            // Why the first backend failed tells more than why another one does not go on.
            Err(Stopped::Fault(Fault::Permanent(error))) if now.is_resumption() => {
                let fault = last_fault.unwrap_or(error);
                return Err(Stopped::Fault(Fault::Transient(fault)));
            }
            Err(stopped) => return Err(stopped),
        };
        let backend = lease.id().clone();
        if !matches!(next, Next::Failed(_)) {
            lease.observe_success();
        }
        held = Some(lease);
        now = match next {
            Next::Finished => return Ok(()),
            Next::GiveUp => return give_up(client, conversion).await,
            Next::Ask(ask) if budget.charge(conversion.hidden_if_abandoned()) => {
                now.reask(ask, backend)
            }
            Next::Ask(_) => return give_up(client, conversion).await,
            Next::Shorter(_) if budget.charge(conversion.hidden_if_abandoned()) => {
                now.shorter(backend)
            }
            Next::Shorter(error) => return Err(Stopped::Fault(Fault::Permanent(error))),
            Next::Failed(fault) => {
                let asked = now.is_reask() && !conversion.delivered();
                let stays = fault == TurnError::KvOverflow
                    && exchange.pool.reserves()
                    && !exchange.pool.has_other(&now.backend.except, &backend);
                let failed = (!stays).then_some(backend);
                let next = elsewhere(
                    exchange,
                    now,
                    &mut budget,
                    conversion,
                    failed,
                    fault.clone(),
                );
                match next {
                    Err(_) if asked => return give_up(client, conversion).await,
                    next => {
                        last_fault = Some(fault);
                        next?
                    }
                }
            }
        };
    }
}

/// Whether the backend has refused a prompt that is shorter now.
fn shortened(conversion: &mut dyn Conversion, error: &TurnError) -> bool {
    match error {
        TurnError::ContextOverflow { prompt, limit } if !conversion.delivered() => {
            conversion.overflowed(*prompt, *limit)
        }
        _ => false,
    }
}

/// `failed` is not asked again; none where a full cache was all that was wrong, and nobody else is there.
///
/// A failing backend is replaced while the client has seen nothing of its answer; after that another one goes on
/// with it where the answer allows that.
fn elsewhere<C>(
    exchange: &Exchange<'_, C>,
    now: Continuation,
    budget: &mut TurnBudget,
    conversion: &mut dyn Conversion,
    failed: Option<BackendId>,
    fault: TurnError,
) -> Result<Continuation, Stopped> {
    let over = || Stopped::Fault(Fault::Transient(fault));
    if !budget.charge(conversion.hidden_if_abandoned()) {
        return Err(over());
    }
    if !conversion.delivered() {
        return Ok(match failed {
            Some(failed) => now.failover(failed),
            None => now.again(None),
        });
    }
    // What a further attempt has added to an earlier one's text is no single message.
    let ask = (!now.is_reask()).then(|| conversion.resume()).flatten();
    let ask = ask.ok_or_else(over)?;
    let Some(failed) = failed else {
        return Ok(now.again(Some(ask)));
    };
    let backends = exchange.pool.backends().iter();
    let cannot = backends.filter(|backend| !backend.continues_answers());
    let cannot = cannot.map(|backend| backend.id().clone());
    Ok(now.resume(ask, failed, cannot))
}

/// What was good of the answer stays; its end says that the rest was not.
async fn give_up<D: Downstream>(
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
) -> Result<(), Stopped> {
    let mut out = BytesMut::new();
    conversion.give_up(&mut out);
    client.learn(conversion);
    client.send(out.freeze()).await?;
    Ok(())
}
