//! The client's side of an exchange: committed once, pinged while the backend is silent, and
//! watched for leaving.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::config::Timeouts;
use crate::dialect::{Dialect, error};
use crate::guard::intervention;
use crate::telemetry::labels::Stage;
use crate::turn::TurnError;

use super::conversion::Conversion;
use super::overhead::Overhead;

/// The client closed its connection, or takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Beginning of a response.
#[derive(Clone, Debug)]
pub struct Head {
    /// HTTP status.
    pub status: u16,
    /// Length of the body in bytes; none for a stream.
    pub length: Option<usize>,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u64>,
    /// `x-drover-*` headers.
    pub facts: Facts,
}

/// What response headers say about the exchange, as far as it is known when they are sent.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Name of the backend.
    pub backend: Option<String>,
    /// Speculative profile that it runs, where that is known.
    pub profile: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// Own time so far.
    pub overhead: Overhead,
    /// What guards have changed so far, each kind once.
    pub interventions: Vec<&'static str>,
}

/// A connection to a client whose request has been read completely.
pub trait Downstream: Send {
    /// Send status and headers; called once.
    fn head(&mut self, head: Head) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Send part of the body, its last part with `end`. Not cancel-safe: always awaited to its end.
    fn body(&mut self, data: Bytes, end: bool) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Completes when the client has left. Cancel-safe.
    fn gone(&mut self) -> impl Future<Output = Gone> + Send;
}

/// What waiting for the upstream came to.
pub(super) enum Waited<T> {
    Ready(T),
    Gone,
    Deadline,
}

/// See the module's documentation.
pub struct Client<D> {
    down: D,
    pings: Option<Interval>,
    committed: bool,
    facts: Facts,
}

impl<D: Downstream> Client<D> {
    /// A client; only a stream is pinged.
    pub fn new(down: D, stream: bool, timeouts: &Timeouts) -> Self {
        let pings = stream.then(|| {
            let mut pings = interval_at(Instant::now() + timeouts.ping_first, timeouts.ping_every);
            pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pings
        });
        Self {
            down,
            pings,
            committed: false,
            facts: Facts::default(),
        }
    }

    /// Whether status and headers have been sent.
    pub fn is_committed(&self) -> bool {
        self.committed
    }

    /// Own time so far.
    pub fn overhead(&self) -> Overhead {
        self.facts.overhead
    }

    pub(super) fn attempt_begins(&mut self, backend: &str, profile: Option<String>) {
        self.facts.attempts += 1;
        self.facts.profile = profile;
        self.facts.backend = Some(backend.to_owned());
    }

    /// The backend of an earlier attempt goes on after all.
    pub(super) fn attempt_serves(&mut self, backend: &str, profile: Option<String>) {
        self.facts.profile = profile;
        self.facts.backend = Some(backend.to_owned());
    }

    /// Take note of what the response's head says about the exchange, while that is not sent.
    pub(super) fn learn(&mut self, conversion: &dyn Conversion) {
        if !self.committed {
            self.facts.interventions = intervention::kinds(conversion.interventions());
        }
    }

    /// Account for own time.
    pub fn add_overhead(&mut self, stage: Stage, own: Duration) {
        self.facts.overhead.add(stage, own);
    }

    /// Send part of a stream, its head first if that has not happened.
    pub(super) async fn send(&mut self, data: Bytes) -> Result<(), Gone> {
        if data.is_empty() {
            return Ok(());
        }
        self.commit(200, None, None).await?;
        if let Some(pings) = &mut self.pings {
            pings.reset();
        }
        self.down.body(data, false).await
    }

    /// End the stream.
    pub(super) async fn finish(&mut self) -> Result<(), Gone> {
        self.commit(200, None, None).await?;
        self.down.body(Bytes::new(), true).await
    }

    /// Send a whole response.
    pub(super) async fn respond(&mut self, status: u16, body: Bytes) -> Result<(), Gone> {
        self.commit(status, Some(body.len()), None).await?;
        self.down.body(body, true).await
    }

    /// Send an error as a whole response.
    pub async fn respond_error(&mut self, dialect: Dialect, error: &TurnError) -> Result<(), Gone> {
        let body = error::body(dialect, error).freeze();
        let retry_after = error.retry_after().map(|after| after.as_secs().max(1));
        let status = error::status(dialect, error);
        self.commit(status, Some(body.len()), retry_after).await?;
        self.down.body(body, true).await
    }

    async fn commit(
        &mut self,
        status: u16,
        length: Option<usize>,
        retry_after: Option<u64>,
    ) -> Result<(), Gone> {
        if std::mem::replace(&mut self.committed, true) {
            return Ok(());
        }
        let head = Head {
            status,
            length,
            retry_after,
            facts: self.facts.clone(),
        };
        self.down.head(head).await
    }

    /// Wait for `upstream`, sending what `ping` writes whenever the client has heard nothing for
    /// too long. The future is pinned once, so whatever deadline it carries keeps running; writes
    /// happen outside the `select!`, since a write that is cancelled would tear the stream.
    pub(super) async fn wait<T>(
        &mut self,
        deadline: Instant,
        upstream: impl Future<Output = T>,
        mut ping: impl FnMut(&mut BytesMut),
    ) -> Waited<T> {
        tokio::pin!(upstream);
        loop {
            let Self { down, pings, .. } = self;
            let tick = async {
                match pings {
                    Some(pings) => _ = pings.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ready = &mut upstream => return Waited::Ready(ready),
                Gone = down.gone() => return Waited::Gone,
                () = sleep_until(deadline) => return Waited::Deadline,
                () = tick => {}
            }
            let mut out = BytesMut::new();
            ping(&mut out);
            if self.ping(out.freeze()).await.is_err() {
                return Waited::Gone;
            }
        }
    }

    /// Unlike [`Self::send`] this does not postpone the next ping: the interval's own period does.
    async fn ping(&mut self, data: Bytes) -> Result<(), Gone> {
        self.commit(200, None, None).await?;
        self.down.body(data, false).await
    }
}
