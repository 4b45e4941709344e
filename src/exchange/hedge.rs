//! The hedged prefill: while the backend of an attempt has told nothing for longer than its prompt should take, a
//! second one is asked the same. Whoever says something first gives the answer; the other one is closed at once.
//! ("Hedged requests": Dean and Barroso, The Tail at Scale, 2013.)
//!
//! Both are listened to without touching the conversion until one of them is chosen, so that nothing has to be
//! taken back.

mod listen;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::attempt::{self, gone_wrong, timed_out};
use super::client::{Client, Downstream, Waited};
use super::conversion::Conversion;
use super::patience::{Deadline, Failed, Stuck, WayOn};
use super::{
    Connector, Continuation, Exchange, Outcome, Stopped, TurnBudget, UpstreamRequest, place,
};
use crate::dialect::llama::Fault;
use crate::fleet::{Ask, Decision, Failure, Grant, Lease, Wish};
use crate::telemetry::Metrics;
use crate::telemetry::labels::{Configured, Hedged, Why};
pub(super) use listen::Begun;
use listen::{Heard, listen};

/// When a second backend is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Not before, whatever happens.
    at: Instant,
    /// Nor so soon after a sign of life.
    after: Duration,
}

/// Whether an attempt is to be hedged, and when: `cached` tokens of its prompt are expected in the backend's cache.
/// Not after part of an answer was told, nor for the rest of one.
pub(super) fn plan<C>(
    exchange: &Exchange<'_, C>,
    lease: &Lease,
    now: &Continuation,
    conversion: &dyn Conversion,
    cached: u64,
) -> Option<Plan> {
    let rules = exchange.hedge?;
    if now.why == Why::First {
        exchange.pool.earn_hedge(rules.share);
    }
    if now.ask.is_some() || conversion.delivered() {
        return None;
    }
    let uncached = now.footprint?.prompt.saturating_sub(cached);
    let expected = exchange.pool.time_to_read(lease, uncached)?;
    let patience = Duration::try_from_secs_f64(expected * rules.factor).ok()?;
    Some(Plan {
        at: Instant::now() + patience.max(rules.after),
        after: rules.after,
    })
}

/// The second place; whoever drops it has closed its request before its end.
struct Second {
    lease: Option<Lease>,
    /// Prompt tokens that should be in the cache there.
    cached: u64,
}

impl Drop for Second {
    fn drop(&mut self) {
        if let Some(lease) = &self.lease {
            lease.observe_cancel(None);
        }
    }
}

/// What came first.
enum First<N> {
    One(Result<Begun<N>, Failed>),
    Two(Result<Begun<N>, Failed>),
}

/// What a race needs of its turn.
pub(super) struct Race<'a, 'e, C, D> {
    pub(super) exchange: &'a Exchange<'e, C>,
    pub(super) client: &'a mut Client<D>,
    pub(super) conversion: &'a mut dyn Conversion,
    pub(super) now: &'a mut Continuation,
    pub(super) budget: &'a mut TurnBudget,
    pub(super) outcome: &'a mut Outcome,
    pub(super) deadline: Deadline,
}

impl<C: Connector, D: Downstream> Race<'_, '_, C, D> {
    /// The answer of the backend of `lease`, which is another one afterwards where that was faster.
    pub(super) async fn run(
        mut self,
        plan: Plan,
        lease: &mut Lease,
        request: UpstreamRequest,
    ) -> Result<Begun<C::Connection>, Stopped> {
        let heard = Heard::default();
        let connector = self.exchange.connector;
        let mut one = pin!(listen(connector, Arc::clone(lease), request, &heard));
        let mut stuck = Stuck::new(self.exchange.pool, lease, &self.now.backend);
        let mut second = Some(plan);
        loop {
            let silent = heard.last();
            let due = second.map(|plan| plan.at.max(silent.map_or(plan.at, |at| at + plan.after)));
            let deadline = self.deadline(silent);
            let until = due.map_or(deadline.at, |due| due.min(deadline.at));
            let listening = stuck.or_failed(|| heard.last(), WayOn::Anew, one.as_mut());
            let mut ping = |out: &mut BytesMut| self.conversion.ping(out);
            match self.client.wait(until, listening, &mut ping).await {
                Waited::Ready(told) => {
                    return told.map_err(|why| gone_wrong(lease, why, self.outcome));
                }
                Waited::Gone => return Err(Stopped::Gone),
                Waited::Deadline => {}
            }
            let now = Instant::now();
            if now >= self.deadline(heard.last()).at {
                return Err(timed_out(lease, self.deadline(heard.last()), self.outcome));
            }
            let still_silent = heard.last() == silent;
            if due.is_none_or(|due| now < due) || !still_silent {
                continue;
            }
            second = None;
            let Some((other, request)) = self.second(lease) else {
                self.count(Hedged::Refused);
                continue;
            };
            let told = self
                .between(lease, (&mut one, &mut stuck), &heard, other, request)
                .await?;
            if let Some(begun) = told {
                return Ok(begun);
            }
        }
    }

    /// Until the first of both says something; none when the second one has failed and the first is still silent.
    async fn between(
        &mut self,
        lease: &mut Lease,
        (one, stuck): (
            &mut (impl Future<Output = Result<Begun<C::Connection>, Failed>> + Unpin),
            &mut Stuck<'_>,
        ),
        heard: &Heard,
        (other, cached): (Lease, u64),
        request: UpstreamRequest,
    ) -> Result<Option<Begun<C::Connection>>, Stopped> {
        let heard_two = Heard::default();
        let connector = self.exchange.connector;
        let backend = Arc::clone(&other);
        let mut stuck_two = Stuck::new(self.exchange.pool, &other, &self.now.backend);
        let mut other = Second {
            lease: Some(other),
            cached,
        };
        let mut two = pin!(listen(connector, backend, request, &heard_two));
        let mut first_failed = false;
        // What the first said when it refused: told only if the second does no better.
        let mut refusal = None;
        loop {
            let deadline = self.deadline(heard.last().max(heard_two.last()));
            let first = async {
                let one = stuck.or_failed(|| heard.last(), WayOn::Anew, &mut *one);
                let two = stuck_two.or_failed(|| heard_two.last(), WayOn::Anew, two.as_mut());
                tokio::select! {
                    biased;
                    told = one, if !first_failed => First::One(told),
                    told = two => First::Two(told),
                }
            };
            let mut ping = |out: &mut BytesMut| self.conversion.ping(out);
            let told = match self.client.wait(deadline.at, first, &mut ping).await {
                Waited::Ready(told) => told,
                Waited::Gone => return Err(Stopped::Gone),
                Waited::Deadline => {
                    let deadline = self.deadline(heard.last().max(heard_two.last()));
                    if Instant::now() < deadline.at {
                        continue;
                    }
                    if let Some(other) = &other.lease {
                        self.now.backend.except.push(other.id().clone());
                    }
                    self.lost(lease, Hedged::Failed);
                    return Err(timed_out(lease, deadline, self.outcome));
                }
            };
            match told {
                First::One(Ok(begun)) if begun.head.status >= 500 => {
                    first_failed = true;
                    refusal = Some(begun);
                }
                First::One(Ok(begun)) => {
                    self.lost(lease, Hedged::Lost);
                    return Ok(Some(begun));
                }
                First::One(Err(why)) => {
                    gone_wrong(lease, why, self.outcome);
                    first_failed = true;
                }
                First::Two(Ok(begun)) if begun.head.status == 200 => {
                    if let Some(refusal) = refusal {
                        self.refused(lease, &refusal);
                    }
                    if let Some(winner) = other.lease.take() {
                        self.won(lease, winner, other.cached, first_failed);
                    }
                    return Ok(Some(begun));
                }
                First::Two(told) => {
                    let failed = other.lease.take();
                    let says_something = told.as_ref().map_or(true, is_failing);
                    let why = told.err().unwrap_or_else(|| (None, refused()));
                    if let (Some(other), true) = (&failed, says_something) {
                        gone_wrong(other, why.clone(), self.outcome);
                    }
                    self.lost(lease, Hedged::Failed);
                    // Both have: the turn goes on without them.
                    if let (true, Some(other)) = (first_failed, failed) {
                        self.now.backend.except.push(other.id().clone());
                        return refusal.map(Some).ok_or(Stopped::Fault(why.1));
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// Silence ends it as for any attempt.
    fn deadline(&self, heard: Option<Instant>) -> Deadline {
        let timeouts = self.exchange.timeouts;
        match heard {
            None => self.deadline,
            Some(at) => Deadline::from(
                at,
                "timeouts.inter_token",
                timeouts.inter_token,
                self.budget,
            ),
        }
    }

    /// A place on another backend and the request for it, if there is one that nobody waits for and the turn and its
    /// pool may still pay for it; and the tokens of its prompt that should be in the cache there.
    fn second(&mut self, lease: &Lease) -> Option<((Lease, u64), UpstreamRequest)> {
        let pool = self.exchange.pool;
        // Before a place is taken, which others would see as taken and given back at once.
        if !pool.may_hedge() {
            return None;
        }
        let mut except = self.now.backend.except.clone();
        except.push(lease.id().clone());
        let ask = Ask {
            except,
            prefer: None,
            // The conversation moves only if that one wins.
            wish: Wish {
                conversation: None,
                footprint: self.now.footprint,
                ..self.exchange.wish.clone()
            },
        };
        let Grant {
            lease: other,
            decision,
        } = pool.spare(&ask)?;
        // It was shaped for the window of the first.
        let narrower = other.n_ctx().zip(lease.n_ctx());
        if narrower.is_some_and(|(other, first)| other < first) {
            return None;
        }
        let request = self
            .conversion
            .also(attempt::target_of(self.exchange, &other))?;
        if !pool.spend_hedge() || !self.budget.charge(0) {
            return None;
        }
        self.conversion.hedged();
        self.client.learn(self.conversion);
        self.client.attempt_begins(
            other.id().as_str(),
            place::profile(&other, self.exchange.wish),
        );
        let cached = decision.predicted_cached_tokens;
        (self.exchange.explain)(Decision {
            hedge: true,
            ..decision
        });
        tracing::info!(
            backend = %lease.id(),
            other = %other.id(),
            "hedged: it is silent for longer than its prompt should take"
        );
        Some(((other, cached), request))
    }

    /// The other one goes on; the first is closed.
    fn won(&mut self, lease: &mut Lease, other: Lease, cached: u64, failed: bool) {
        self.count(Hedged::Won);
        let pool = self.exchange.pool;
        pool.moved(self.exchange.wish, lease.id(), other.id());
        self.now.backend.except.push(lease.id().clone());
        self.now.why = Why::Hedge;
        let first = std::mem::replace(lease, other);
        if !failed {
            first.observe_cancel(self.outcome.signs.step);
        }
        self.outcome
            .begin(Why::Hedge, lease, self.exchange.wish, cached);
        self.conversion
            .begin(attempt::target_of(self.exchange, lease), None);
    }

    /// The first one answered that it does not want what the second took.
    fn refused<N>(&mut self, lease: &Lease, answer: &Begun<N>) {
        let failure = (!is_failing(answer)).then_some(Failure::Loading);
        gone_wrong(lease, (failure, refused()), self.outcome);
    }

    fn lost(&mut self, lease: &Lease, how: Hedged) {
        self.count(how);
        self.outcome.lost.push(Why::Hedge);
        self.client.attempt_serves(
            lease.id().as_str(),
            place::profile(lease, self.exchange.wish),
        );
    }

    fn count(&self, how: Hedged) {
        let pool = Configured::name(self.exchange.pool.name());
        Metrics::global().hedge(pool, how);
    }
}

/// Whether an answer other than 200 may be the backend's own fault.
fn is_failing<N>(begun: &Begun<N>) -> bool {
    begun.head.status >= 500 && begun.head.status != 503
}

fn refused() -> Fault {
    crate::dialect::llama::stream_fault("the backend refuses what another one took")
}
