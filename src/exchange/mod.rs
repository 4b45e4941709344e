//! The turn loop: one client request, served by one or more attempts on backends.
//!
//! What is said is decided by a pure [`Conversion`]; this module moves bytes, watches the clock and
//! the client, and decides about further attempts. A [`Continuation`] is the only way to one, and
//! every attempt is charged to one [`TurnBudget`].

mod accounting;
mod attempt;
mod attempts;
mod body;
mod budget;
mod chat;
mod chat_state;
mod choice;
mod client;
mod connector;
mod conversion;
mod count;
mod fit;
mod gate;
mod guards;
mod hedge;
mod ladder;
mod leases;
mod overhead;
mod patience;
mod place;
mod policy_gate;
mod policy_turn;
mod relay;
mod rules;
mod shaping;
mod sink;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use crate::config::{Hedge, Timeouts, TurnLimits};
use crate::dialect::llama::Fault;
use crate::fleet::{Backend, BackendId, Decision, Doubt, Lease, Pool, Unavailable, Wish};
use crate::spec::Place;
use crate::telemetry::labels::{AbortCause, Stage, Why};
use crate::telemetry::metrics::Gaps;
use crate::telemetry::trace::{self, TraceContext};
use crate::turn::TurnError;

pub use budget::{BackendChoice, Continuation, TurnBudget};
pub use chat::ChatConversion;
pub use client::{Client, Downstream, Facts, Gone, Head};
pub use connector::PingoraConnector;
pub use conversion::{Conversion, Measured, Prepared, Progress, Report, UpstreamRequest};
pub use count::CountConversion;
pub use guards::Guards;
pub use leases::{LeaseDesk, Leases, Unavailable as LeaseUnavailable};
pub use overhead::Overhead;
pub use policy_turn::PolicyReport;
pub use relay::RelayConversion;
pub use rules::{Rules, timed};
pub use shaping::Shaping;

/// A connection pool towards the backends.
pub trait Connector: Send + Sync {
    /// One request's connection.
    type Connection: Connection;

    /// Send `request` to `backend`, on a kept-alive connection if there is one that still works.
    fn open(
        &self,
        backend: &Backend,
        request: &UpstreamRequest,
    ) -> impl Future<Output = Result<Self::Connection, Fault>> + Send;
}

/// A request that has been sent. Dropping it closes the connection, which cancels the generation.
pub trait Connection: Send {
    /// Wait for status and headers.
    fn head(&mut self) -> impl Future<Output = Result<UpstreamHead, Fault>> + Send;

    /// The next piece of the body; none at its proper end. Cancel-safe.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<bytes::Bytes>, Fault>> + Send;

    /// The body was read to its end: keep the connection for the next request.
    fn release(self) -> impl Future<Output = ()> + Send;
}

/// Beginning of an upstream response.
#[derive(Clone, Debug)]
pub struct UpstreamHead {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After` in seconds, when given so.
    pub retry_after: Option<Duration>,
}

/// What an exchange needs besides the client and the conversion.
pub struct Exchange<'a, C> {
    /// Towards the backends.
    pub connector: &'a C,
    /// Backends that serve the model.
    pub pool: &'a Pool,
    /// What is known of the turn that tells where it had better go.
    pub wish: &'a Wish,
    /// Is told why each attempt went where it went.
    pub explain: &'a (dyn Fn(Decision) + Sync),
    /// When a second backend is asked; none: never.
    pub hedge: Option<&'a Hedge>,
    /// Deadlines.
    pub timeouts: &'a Timeouts,
    /// What the turn may spend.
    pub limits: &'a TurnLimits,
    /// Counts the gaps between reads that brought content.
    pub gaps: &'a Gaps,
    /// Its place in a trace, where there is one.
    pub trace: Option<&'a TraceContext>,
    /// Where calls get the leases they need; without it none is to be had.
    pub leases: Option<LeaseDesk<'a>>,
}

/// What happened, whatever the end.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Why each upstream request was made.
    pub attempts: Vec<Why>,
    /// The same of requests whose answer another backend's was preferred to.
    pub lost: Vec<Why>,
    /// Backend of the last attempt.
    pub backend: Option<Arc<Backend>>,
    /// What each attempt's backend ran when it began.
    pub ran: Vec<Ran>,
    /// When the first content event arrived.
    pub first_token: Option<Instant>,
    /// The longest time between two reads that brought content.
    pub longest_gap: Option<Duration>,
    /// Attempts given up by us, by cause.
    pub aborts: Vec<AbortCause>,
    /// The attempts as spans, of a turn with a trace that is recorded.
    pub spans: Vec<trace::Attempt>,
    /// Signs of life of the last attempt.
    signs: Signs,
    /// Errors of earlier attempts that may have been the request's fault.
    doubts: Vec<Doubt>,
}

impl Outcome {
    /// `backend` has begun to answer, or has answered in full: whoever failed before is to blame for it.
    fn settle_doubts(&mut self, backend: &BackendId, is_whole: bool) {
        let settled = |doubt: &mut Doubt| doubt.is_settled_by(backend, is_whole);
        self.doubts.extract_if(.., settled).for_each(Doubt::confirm);
    }

    fn begin(&mut self, why: Why, lease: &Lease, wish: &Wish, cached: u64) {
        self.attempts.push(why);
        self.backend = Some(Arc::clone(lease));
        self.ran.push(Ran::of(lease, wish, cached));
        self.signs = Signs::default();
    }
}

/// What a backend ran when an attempt began.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Where that is, with what the backend runs.
    pub place: Place,
    /// The profile in effect: that of the place, or `none` where the backend does without drafts when it is asked
    /// to.
    pub profile: Arc<str>,
    /// It was asked for no drafts.
    pub off: bool,
    /// Requests it had then, this one included.
    pub busy: usize,
    /// Prompt tokens that it should have had in its cache.
    pub expected_cached: u64,
}

impl Ran {
    fn of(lease: &Lease, wish: &Wish, expected_cached: u64) -> Self {
        let place = lease.place();
        let profile = match wish.effective(lease) {
            name if name == *place.profile => Arc::clone(&place.profile),
            name => name.into(),
        };
        Self {
            backend: Arc::clone(lease),
            place,
            profile,
            off: wish.spec_off(),
            busy: lease.inflight(),
            expected_cached,
        }
    }
}

/// How fast the backend of an attempt tells something.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    last: Option<Instant>,
    /// Time between the last two.
    step: Option<Duration>,
}

impl Signs {
    fn note(&mut self, now: Instant) {
        self.step = self.last.map(|last| now - last);
        self.last = Some(now);
    }
}

/// How an exchange ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The client has the whole answer.
    Complete,
    /// The client left.
    #[default]
    ClientGone,
    /// It has an error answer: as status and body, or inside the stream it had begun to read.
    Failed {
        /// What was told.
        error: TurnError,
        /// Whether the stream had begun.
        committed: bool,
    },
}

/// Why an attempt stopped early.
enum Stopped {
    Gone,
    Fault(Fault),
}

impl From<Gone> for Stopped {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Serve one turn.
pub async fn run<C: Connector, D: Downstream>(
    exchange: &Exchange<'_, C>,
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
) -> Outcome {
    let mut outcome = Outcome::default();
    let budget = TurnBudget::new(exchange.limits, exchange.timeouts.total);
    let served = match at_once(client, conversion).await {
        Some(done) => done,
        None => attempts::run(exchange, client, conversion, budget, &mut outcome).await,
    };
    outcome.doubts.clear();
    let end = match served {
        Ok(()) => deliver_whole(client, conversion).await,
        Err(Stopped::Gone) => {
            outcome.aborts.push(AbortCause::ClientGone);
            End::ClientGone
        }
        Err(Stopped::Fault(fault)) => fail(client, conversion, fault.into_error()).await,
    };
    if let Some(desk) = exchange.leases {
        let mut unused = conversion.unused();
        if end != End::Complete {
            // Whatever part of the answer the client has, it does not go on with it.
            let report = conversion.report();
            unused.extend(report.policy.into_iter().flat_map(|policy| policy.leases));
        }
        desk.give_back(&unused).await;
    }
    outcome.end = end;
    outcome
}

/// Some answers are known before anybody is asked.
async fn at_once<D: Downstream>(
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
) -> Option<Result<(), Stopped>> {
    let mut out = BytesMut::new();
    if !conversion.at_once(&mut out) {
        return None;
    }
    client.learn(conversion);
    Some(client.send(out.freeze()).await.map_err(Stopped::from))
}

/// Why a pool has no backend, as an error of the turn.
pub fn no_backend(pool: &str, unavailable: Unavailable) -> TurnError {
    let retry_after = match unavailable {
        Unavailable::Loading { retry_after } => return TurnError::Loading { retry_after },
        Unavailable::AllDown { retry_after } => retry_after,
        Unavailable::Busy {
            reason,
            retry_after,
        } => {
            return TurnError::Overloaded {
                pool: pool.to_owned(),
                reason,
                retry_after,
            };
        }
        Unavailable::Draining | Unavailable::NoneLeft => Duration::from_secs(5),
    };
    TurnError::NoBackend {
        pool: pool.to_owned(),
        detail: unavailable.to_string(),
        retry_after,
    }
}

/// A client that does not stream gets its answer now; for a stream everything is said already.
async fn deliver_whole<D: Downstream>(
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
) -> End {
    let rendering = Instant::now();
    client.learn(conversion);
    let sent = match conversion.whole() {
        Some(body) => {
            client.add_overhead(Stage::Events, rendering.elapsed());
            client.respond(200, body.freeze()).await
        }
        None => client.finish().await,
    };
    match sent {
        Ok(()) => End::Complete,
        Err(Gone) => End::ClientGone,
    }
}

/// Tell the client, as a status while that is possible, else inside its stream.
async fn fail<D: Downstream>(
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
    error: TurnError,
) -> End {
    let committed = client.is_committed() || conversion.fails_in_stream(&error);
    client.learn(conversion);
    if committed {
        let mut out = BytesMut::new();
        conversion.fail(&error, &mut out);
        if client.send(out.freeze()).await.is_err() || client.finish().await.is_err() {
            return End::ClientGone;
        }
    } else if client
        .respond_error(conversion.dialect(), &error)
        .await
        .is_err()
    {
        return End::ClientGone;
    }
    End::Failed { error, committed }
}
