//! One upstream request: open, wait for the head, convert the body as it comes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout};

use super::client::{Client, Downstream, Waited};
use super::conversion::{Conversion, Progress};
use super::hedge::{Begun, Race};
use super::patience::{Deadline, Stuck};
use super::{
    Connection, Connector, Continuation, Exchange, Outcome, Stopped, TurnBudget, UpstreamHead,
    UpstreamRequest,
};
use crate::dialect::llama::{Fault, Target, http_fault};
use crate::fleet::{Failure, Lease};
use crate::telemetry::labels::{AbortCause, Stage};
use crate::telemetry::trace;
use crate::turn::TurnError;

/// Longest error body read from a backend.
const MAX_ERROR_BODY: usize = 64 << 10;

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
            begin(
                exchange, lease, client, conversion, &request, first, outcome,
            )
            .await?
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
        stuck: Stuck::new(lease),
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
            fault => Stopped::Fault(fault),
        });
    }
    let ended = body.read(&mut connection).await?;
    if let Ended::AtItsEnd = ended {
        connection.release().await;
    }
    Ok(ended)
}

/// Until the head of the answer.
async fn begin<C: Connector, D: Downstream>(
    exchange: &Exchange<'_, C>,
    lease: &Lease,
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
    request: &UpstreamRequest,
    first: Deadline,
    outcome: &mut Outcome,
) -> Result<Begun<C::Connection>, Stopped> {
    let mut ping = |out: &mut BytesMut| conversion.ping(out);
    let opening = exchange.connector.open(lease, request);
    let unbegun = lease.begins();
    let mut connection = match client.wait(first.at, opening, &mut ping).await {
        Waited::Ready(opened) => opened.map_err(|fault| failed(lease, Failure::Connect, fault))?,
        Waited::Gone => return Err(Stopped::Gone),
        Waited::Deadline => return Err(timed_out(lease, first, outcome)),
    };
    let mut stuck = Stuck::new(lease);
    let head = stuck.or(None, connection.head());
    let head = match client.wait(first.at, head, &mut ping).await {
        Waited::Ready(head) => head.map_err(|fault| failed(lease, Failure::Broken, fault))?,
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

/// A router that does not know the model is at odds with the client only where the client has named it.
fn about_us(lease: &Lease, fault: Fault) -> Fault {
    match fault {
        Fault::Transient(TurnError::UnknownModel(_)) if lease.upstream_model().is_some() => {
            let why = "the backend knows no model of the name it is configured with";
            Fault::Transient(TurnError::Upstream(why.to_owned()))
        }
        fault => fault,
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

pub(super) fn timed_out(lease: &Lease, deadline: Deadline, outcome: &mut Outcome) -> Stopped {
    outcome.aborts.push(AbortCause::Timeout);
    failed(lease, Failure::Broken, deadline.fault())
}

/// How a body was left.
enum Ended {
    /// Read to its end: the connection can serve again.
    AtItsEnd,
    /// Nothing more was wanted of it.
    Cancelled,
    /// What it said was no good.
    NoGood,
}

/// Reading a response body.
struct Body<'a, 'e, C, D> {
    exchange: &'a Exchange<'e, C>,
    lease: &'a Lease,
    client: &'a mut Client<D>,
    conversion: &'a mut dyn Conversion,
    budget: &'a TurnBudget,
    outcome: &'a mut Outcome,
    deadline: Deadline,
    last_content: Option<Instant>,
    stuck: Stuck,
    /// Pieces of it that are already here.
    read: VecDeque<Bytes>,
}

impl<C: Connector, D: Downstream> Body<'_, '_, C, D> {
    async fn chunk(&mut self, connection: &mut C::Connection) -> Result<Option<Bytes>, Stopped> {
        if let Some(chunk) = self.read.pop_front() {
            return Ok(Some(chunk));
        }
        let mut ping = |out: &mut BytesMut| self.conversion.ping(out);
        let chunk = self.stuck.or(self.outcome.signs.last, connection.chunk());
        match self.client.wait(self.deadline.at, chunk, &mut ping).await {
            Waited::Ready(chunk) => {
                chunk.map_err(|fault| failed(self.lease, Failure::Broken, fault))
            }
            Waited::Gone => Err(Stopped::Gone),
            Waited::Deadline => Err(timed_out(self.lease, self.deadline, self.outcome)),
        }
    }

    /// An answer with another status than 200 is an error with a short body.
    async fn error(
        &mut self,
        connection: &mut C::Connection,
        head: &UpstreamHead,
    ) -> Result<Fault, Stopped> {
        let mut body = BytesMut::new();
        while body.len() < MAX_ERROR_BODY {
            match self.chunk(connection).await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(Stopped::Gone) => return Err(Stopped::Gone),
                // The status alone says enough.
                Ok(None) | Err(Stopped::Fault(_)) => break,
            }
        }
        let fault = http_fault(head.status, &body, head.retry_after);
        Ok(about_us(self.lease, fault))
    }

    /// Convert the answer piece by piece. Awaiting each write before the next read is the flow
    /// control: a slow client slows its backend, not our memory.
    async fn read(&mut self, connection: &mut C::Connection) -> Result<Ended, Stopped> {
        let mut out = BytesMut::new();
        loop {
            let Some(chunk) = self.chunk(connection).await? else {
                self.end(&mut out).await?;
                return Ok(Ended::AtItsEnd);
            };
            let mut progress = self.pass_on(&chunk, &mut out).await?;
            while progress == Progress::Held {
                self.content();
                self.lease(&mut out).await?;
                progress = self.pass_on(&[], &mut out).await?;
            }
            if !matches!(progress, Progress::Idle | Progress::Complete) {
                self.outcome.signs.note(Instant::now());
            }
            if self.lease.reserves() && progress != Progress::Idle {
                let (prompt, generated) = self.conversion.occupies();
                self.lease.occupies(prompt, generated);
            }
            match progress {
                Progress::Idle => {}
                Progress::Alive => self.alive(),
                Progress::Content | Progress::Held => self.content(),
                Progress::Complete => {
                    self.end(&mut out).await?;
                    return Ok(Self::trailer(connection).await);
                }
                Progress::Again => return Ok(Ended::NoGood),
                Progress::Cancel => {
                    self.end(&mut out).await?;
                    return Ok(Ended::Cancelled);
                }
            }
        }
    }

    /// Convert a piece, and give the client what comes of it.
    async fn pass_on(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<Progress, Stopped> {
        let progress = self.convert(chunk, out);
        // What was said before a fault has been said.
        self.client.learn(self.conversion);
        self.client.send(out.split().freeze()).await?;
        progress
    }

    /// Ask for the lease that a call waits for.
    async fn lease(&mut self, out: &mut BytesMut) -> Result<(), Stopped> {
        let unused = self.conversion.unused();
        let Some(need) = self.conversion.claim() else {
            return Ok(());
        };
        let (claim, acts) = (need.claim.clone(), need.acts);
        let answer = match self.exchange.leases {
            Some(desk) => {
                desk.give_back(&unused).await;
                desk.claim(&claim, acts).await
            }
            None => None,
        };
        self.conversion.leased(answer, out);
        Ok(())
    }

    /// After the last event only the end of the chunked body is due, normally in the same packet.
    /// Without it the connection cannot be used again.
    async fn trailer(connection: &mut C::Connection) -> Ended {
        const PATIENCE: Duration = Duration::from_millis(100);
        match timeout(PATIENCE, connection.chunk()).await {
            Ok(Ok(None)) => Ended::AtItsEnd,
            _ => Ended::Cancelled,
        }
    }

    fn convert(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<Progress, Stopped> {
        let converting = Instant::now();
        let progress = self.conversion.feed(chunk, out);
        self.client
            .add_overhead(Stage::Events, converting.elapsed());
        progress.map_err(|fault| {
            self.outcome.aborts.push(AbortCause::Invalid);
            Stopped::Fault(fault)
        })
    }

    fn content(&mut self) {
        let now = Instant::now();
        match self.last_content.replace(now) {
            None => _ = self.outcome.first_token.get_or_insert(now),
            Some(before) => {
                let gap = now.duration_since(before);
                self.exchange.gaps.observe(gap.as_secs_f64());
                self.outcome.longest_gap = self.outcome.longest_gap.max(Some(gap));
            }
        }
        self.alive();
    }

    /// Tokens and prompt progress are signs of life; llama-server's own pings are none: they go on
    /// while it is wedged.
    fn alive(&mut self) {
        self.deadline = Deadline::new(
            "timeouts.inter_token",
            self.exchange.timeouts.inter_token,
            self.budget,
        );
    }

    async fn end(&mut self, out: &mut BytesMut) -> Result<(), Stopped> {
        self.conversion.end(out).map_err(Stopped::Fault)?;
        self.client.learn(self.conversion);
        self.client.send(out.split().freeze()).await?;
        Ok(())
    }
}
