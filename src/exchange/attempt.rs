//! One upstream request: open, wait for the head, hand over to the reading of the [body](super::body).

use std::pin::pin;

use bytes::BytesMut;
use tokio::time::Instant;

use super::body::{Body, Ended};
use super::client::{Client, Downstream, Waited};
use super::conversion::Conversion;
use super::hedge::{Begun, Race};
use super::patience::{Deadline, Failed, Stuck, WayOn};
use super::{
    Connection, Connector, Continuation, Exchange, Outcome, Stopped, TurnBudget, UpstreamRequest,
};
use crate::dialect::llama::{Fault, Target};
use crate::fleet::{Failure, Lease};
use crate::telemetry::labels::{AbortCause, Stage};
use crate::telemetry::trace;
use crate::turn::TurnError;

/// Run one attempt to its end.
pub(super) async fn run<C: Connector, D: Downstream>(
    exchange: &Exchange<'_, C>,
    lease: &mut Lease,
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
    now: &mut Continuation,
    budget: &mut TurnBudget,
    outcome: &mut Outcome,
) -> Result<Done, Stopped> {
    let began = exchange.trace.map(|_| Instant::now());
    let done = serve(exchange, lease, client, conversion, now, budget, outcome).await;
    if let Some(began) = began {
        outcome.spans.push(trace::Attempt {
            why: now.why,
            backend: lease.id().as_str().into(),
            address: lease.host_header().to_owned(),
            began,
            ended: Instant::now(),
            error: error(&done),
        });
    }
    if was_closed(&done) {
        lease.observe_cancel(outcome.signs.step);
    }
    Ok(match done? {
        Ended::AtItsEnd | Ended::Cancelled => Done::Complete,
        Ended::NoGood => Done::Again,
    })
}

/// What went wrong, in a fixed word.
fn error(done: &Result<Ended, Stopped>) -> Option<&'static str> {
    match done {
        Ok(Ended::AtItsEnd | Ended::Cancelled) => None,
        Ok(Ended::NoGood) => Some("no_good"),
        Err(Stopped::Gone) => Some("client_gone"),
        Err(Stopped::Fault(Fault::Transient(error) | Fault::Permanent(error))) => {
            Some(error.kind())
        }
        Err(Stopped::Fault(Fault::Misparsed(_))) => Some("misparsed"),
    }
}

/// Whether the backend was left while it may have been at work.
fn was_closed(done: &Result<Ended, Stopped>) -> bool {
    match done {
        Ok(Ended::AtItsEnd) => false,
        Ok(Ended::Cancelled | Ended::NoGood) | Err(Stopped::Gone) => true,
        Err(Stopped::Fault(Fault::Transient(error) | Fault::Permanent(error))) => {
            matches!(error, TurnError::Timeout { .. })
        }
        Err(Stopped::Fault(Fault::Misparsed(_))) => false,
    }
}

async fn serve<C: Connector, D: Downstream>(
    exchange: &Exchange<'_, C>,
    lease: &mut Lease,
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
    now: &mut Continuation,
    budget: &mut TurnBudget,
    outcome: &mut Outcome,
) -> Result<Ended, Stopped> {
    let encoding = Instant::now();
    let mut request = conversion.begin(target_of(exchange, lease), now.ask.as_ref());
    request.trace = exchange.trace.map(|t| t.headers(outcome.attempts.len()));
    client.learn(conversion);
    client.add_overhead(Stage::Encode, encoding.elapsed());

    let first = Deadline::new(
        "timeouts.first_event",
        exchange.timeouts.first_event,
        budget,
    );
    let begun = match now.hedge {
        None => {
            let opening = Opening {
                request: &request,
                first,
                stuck: Stuck::new(exchange.pool, lease, &now.backend),
                may_resume: !now.is_reask(),
            };
            begin(exchange, lease, client, conversion, opening, outcome).await?
        }
        Some(plan) => {
            let race = Race {
                exchange,
                client: &mut *client,
                conversion: &mut *conversion,
                now: &mut *now,
                budget: &mut *budget,
                outcome: &mut *outcome,
                deadline: first,
            };
            race.run(plan, lease, request).await?
        }
    };
    let Begun {
        mut connection,
        head,
        read,
    } = begun;
    let lease = &*lease;
    let mut body = Body {
        stuck: Stuck::new(exchange.pool, lease, &now.backend),
        may_resume: !now.is_reask(),
        read: read.into(),
        exchange,
        lease,
        client,
        conversion,
        budget,
        outcome,
        deadline: first,
        last_content: None,
    };
    if head.status != 200 {
        let fault = body.error(&mut connection, &head).await?;
        connection.release().await;
        return Err(match fault {
            Fault::Transient(TurnError::Loading { .. }) => failed(lease, Failure::Loading, fault),
            fault => doubtful(lease, fault, false, body.outcome),
        });
    }
    let ended = body.read(&mut connection).await?;
    if let Ended::AtItsEnd = ended {
        connection.release().await;
    }
    Ok(ended)
}

/// A request that is about to be sent.
struct Opening<'a> {
    request: &'a UpstreamRequest,
    first: Deadline,
    stuck: Stuck<'a>,
    /// Another backend may go on with what was told before.
    may_resume: bool,
}

/// Until the head of the answer.
async fn begin<C: Connector, D: Downstream>(
    exchange: &Exchange<'_, C>,
    lease: &Lease,
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
    opening: Opening<'_>,
    outcome: &mut Outcome,
) -> Result<Begun<C::Connection>, Stopped> {
    let Opening {
        request,
        first,
        mut stuck,
        may_resume,
    } = opening;
    let way_on = way_on(conversion, may_resume);
    let mut ping = |out: &mut BytesMut| conversion.ping(out);
    let mut opening = pin!(async {
        let opened = exchange.connector.open(lease, request).await;
        opened.map_err(|fault| (Some(Failure::Connect), fault))
    });
    // A large request can be stuck halfway.
    let opening = stuck.or_failed(|| None, way_on, opening.as_mut());
    let unbegun = lease.begins();
    let mut connection = match client.wait(first.at, opening, &mut ping).await {
        Waited::Ready(opened) => opened.map_err(|why| gone_wrong(lease, why, outcome))?,
        Waited::Gone => return Err(Stopped::Gone),
        Waited::Deadline => return Err(timed_out(lease, first, outcome)),
    };
    let head = stuck.or(None, way_on, connection.head());
    let head = match client.wait(first.at, head, &mut ping).await {
        Waited::Ready(head) => head.map_err(|why| gone_wrong(lease, why, outcome))?,
        Waited::Gone => return Err(Stopped::Gone),
        Waited::Deadline => return Err(timed_out(lease, first, outcome)),
    };
    drop(unbegun);
    Ok(Begun {
        connection,
        head,
        read: Vec::new(),
    })
}

/// How a request is written for the backend of `lease`.
pub(super) fn target_of<'a, C>(exchange: &Exchange<'_, C>, lease: &'a Lease) -> Target<'a> {
    Target {
        spec_off: exchange.wish.spec_off(),
        timings_per_token: lease.runs().speculates(),
        ..target(lease)
    }
}

/// What the backend of `lease` is, as far as requests depend on it.
pub(super) fn target(lease: &Lease) -> Target<'_> {
    let facts = lease.facts();
    Target {
        model: lease.upstream_model(),
        n_ctx: lease.n_ctx(),
        vision: facts.build.is_some().then_some(facts.modalities.vision),
        rules: facts.template.rules.unwrap_or_default(),
        ..Target::default()
    }
}

/// What became of an attempt that did not fail.
pub(super) enum Done {
    /// The answer is complete.
    Complete,
    /// The answer was no good; the conversion knows how to go on.
    Again,
}

/// An attempt stopped by something that the backend's health should know.
pub(super) fn failed(lease: &Lease, failure: Failure, fault: Fault) -> Stopped {
    if let Fault::Transient(_) = fault {
        lease.observe_failure(failure);
    }
    Stopped::Fault(fault)
}

/// The same for what the backend has answered itself: an error of its own, or of the request. `said`: after part of
/// an answer.
pub(super) fn doubtful(lease: &Lease, fault: Fault, said: bool, outcome: &mut Outcome) -> Stopped {
    if let Fault::Transient(TurnError::Upstream(_)) = fault {
        outcome.doubts.push(lease.observe_error(said));
    }
    Stopped::Fault(fault)
}

/// The same for either.
pub(super) fn gone_wrong(
    lease: &Lease,
    (failure, fault): Failed,
    outcome: &mut Outcome,
) -> Stopped {
    match failure {
        Some(failure) => failed(lease, failure, fault),
        None => doubtful(lease, fault, false, outcome),
    }
}

/// How the turn could go on elsewhere; `may_resume`: as far as the attempt is concerned.
pub(super) fn way_on(conversion: &dyn Conversion, may_resume: bool) -> WayOn {
    match (
        conversion.delivered(),
        may_resume && conversion.can_resume(),
    ) {
        (false, _) => WayOn::Anew,
        (true, true) => WayOn::Resumed,
        (true, false) => WayOn::None,
    }
}

pub(super) fn timed_out(lease: &Lease, deadline: Deadline, outcome: &mut Outcome) -> Stopped {
    outcome.aborts.push(AbortCause::Timeout);
    failed(lease, Failure::Broken, deadline.fault())
}
