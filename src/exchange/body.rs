//! The body of an answer: read, converted and passed on piece by piece.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout};

use super::attempt::{doubtful, gone_wrong, timed_out, way_on};
use super::client::{Client, Downstream, Waited};
use super::conversion::{Conversion, Progress};
use super::patience::{Deadline, Stuck};
use super::{Connection, Connector, Exchange, Outcome, Stopped, TurnBudget, UpstreamHead};
use crate::dialect::llama::{Fault, http_fault};
use crate::fleet::Lease;
use crate::telemetry::labels::{AbortCause, Stage};
use crate::turn::TurnError;

/// Longest error body read from a backend.
const MAX_ERROR_BODY: usize = 64 << 10;

/// How a body was left.
pub(super) enum Ended {
    /// Read to its end: the connection can serve again.
    AtItsEnd,
    /// Nothing more was wanted of it.
    Cancelled,
    /// What it said was no good.
    NoGood,
}

/// Reading a response body.
pub(super) struct Body<'a, 'e, C, D> {
    pub(super) exchange: &'a Exchange<'e, C>,
    pub(super) lease: &'a Lease,
    pub(super) client: &'a mut Client<D>,
    pub(super) conversion: &'a mut dyn Conversion,
    pub(super) budget: &'a TurnBudget,
    pub(super) outcome: &'a mut Outcome,
    pub(super) deadline: Deadline,
    pub(super) last_content: Option<Instant>,
    pub(super) stuck: Stuck<'a>,
    /// Another backend may go on with what this one has said.
    pub(super) may_resume: bool,
    /// Pieces of it that are already here.
    pub(super) read: VecDeque<Bytes>,
}

impl<C: Connector, D: Downstream> Body<'_, '_, C, D> {
    async fn chunk(&mut self, connection: &mut C::Connection) -> Result<Option<Bytes>, Stopped> {
        if let Some(chunk) = self.read.pop_front() {
            return Ok(Some(chunk));
        }
        let way_on = way_on(&*self.conversion, self.may_resume);
        let mut ping = |out: &mut BytesMut| self.conversion.ping(out);
        let last = self.outcome.signs.last;
        let chunk = self.stuck.or(last, way_on, connection.chunk());
        match self.client.wait(self.deadline.at, chunk, &mut ping).await {
            Waited::Ready(chunk) => chunk.map_err(|why| gone_wrong(self.lease, why, self.outcome)),
            Waited::Gone => Err(Stopped::Gone),
            Waited::Deadline => Err(timed_out(self.lease, self.deadline, self.outcome)),
        }
    }

    /// An answer with another status than 200 is an error with a short body.
    pub(super) async fn error(
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
    pub(super) async fn read(&mut self, connection: &mut C::Connection) -> Result<Ended, Stopped> {
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
            self.doubtful(fault)
        })
    }

    /// An error of the backend's own, or of the request.
    fn doubtful(&mut self, fault: Fault) -> Stopped {
        let said = self.last_content.is_some();
        doubtful(self.lease, fault, said, self.outcome)
    }

    fn content(&mut self) {
        let now = Instant::now();
        match self.last_content.replace(now) {
            None => {
                self.outcome.first_token.get_or_insert(now);
                self.lease.observe_begun();
                self.outcome.settle_doubts(self.lease.id(), false);
            }
            Some(before) => {
                let gap = now.duration_since(before);
                self.exchange.gaps.observe(gap);
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
        let ended = self.conversion.end(out);
        ended.map_err(|fault| self.doubtful(fault))?;
        self.client.learn(self.conversion);
        self.client.send(out.split().freeze()).await?;
        Ok(())
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
