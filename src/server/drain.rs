//! Ending without cutting answers.
//!
//! Pingora's own graceful shutdown closes the listeners, sleeps a fixed time and then drops the
//! tasks that are left, mid-stream. Here the process ends as soon as the last answer is complete:
//! every request holds an [`InflightGuard`], and [`Drain`] leaves when none is held, or at its
//! deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::telemetry::log;

/// What the process does with new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Running,
    /// Finishing what was begun; new requests on open connections are refused.
    Draining,
    /// The same after another process has taken over: new requests on open connections are served, each as
    /// the last of its connection.
    HandedOver,
}

/// Counts the requests being served and knows the [`Phase`].
#[derive(Debug, Default)]
pub struct Inflight {
    count: AtomicUsize,
    draining: AtomicBool,
    emptied: Notify,
    handed_over: watch::Sender<bool>,
}

impl Inflight {
    /// No requests, running.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Claims a place for one request. Whether a draining process should begin it at all is the
    /// caller's decision, by [`Self::phase`].
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> InflightGuard {
        self.count.fetch_add(1, Ordering::AcqRel);
        InflightGuard(Arc::clone(self))
    }

    /// Requests being served.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if *self.handed_over.borrow() {
            Phase::HandedOver
        } else if self.draining.load(Ordering::Acquire) {
            Phase::Draining
        } else {
            Phase::Running
        }
    }

    /// From now on [`Phase::Draining`]; there is no way back. Returns whether this call began it.
    pub fn begin_drain(&self) -> bool {
        !self.draining.swap(true, Ordering::AcqRel)
    }

    /// From now on [`Phase::HandedOver`].
    pub(super) fn hand_over(&self) {
        self.handed_over.send_replace(true);
    }

    /// Completes once another process has taken over.
    pub(super) async fn handed_over(&self) {
        // The sender lives as long as `self`.
        let _ = self.handed_over.subscribe().wait_for(|done| *done).await;
    }

    /// Completes once no request is being served.
    pub async fn emptied(&self) {
        loop {
            let notified = self.emptied.notified();
            tokio::pin!(notified);
            // Registered before the count is read, so that the last guard cannot slip between.
            notified.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// One request being served. Dropping it, by whatever path, gives the place back.
#[derive(Debug)]
pub struct InflightGuard(Arc<Inflight>);

impl Drop for InflightGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

/// After the last request ended, its last bytes may still wait in an HTTP/2 connection task; and a
/// request accepted just before the listeners closed may not have been counted yet.
const SETTLE: Duration = Duration::from_millis(50);

/// The same where another process has taken over: clients that send their next request on an open connection
/// find it open, and are told that it was the last.
const SETTLE_HANDED_OVER: Duration = Duration::from_secs(1);

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every answer was completed.
    Complete,
    /// The deadline passed; this many requests are cut.
    Deadline {
        /// Requests still being served.
        cut: usize,
    },
    /// A second, impatient signal came; this many requests are cut.
    Interrupted {
        /// Requests still being served.
        cut: usize,
    },
}

/// Waits for the shutdown broadcast, then for the requests in flight, then ends the process.
pub struct Drain {
    inflight: Arc<Inflight>,
    limit: Duration,
    last: Box<dyn Fn() + Send + Sync>,
}

impl Drain {
    /// `limit`: longest wait for open answers. `last` is done before the process ends.
    #[must_use]
    pub fn new(
        inflight: Arc<Inflight>,
        limit: Duration,
        last: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            inflight,
            limit,
            last,
        }
    }

    /// Waits until nothing is in flight, the limit has passed, or `interrupt` completes.
    pub async fn wait(&self, interrupt: impl Future<Output = ()>) -> Drained {
        let deadline = Instant::now() + self.limit;
        let settle = match self.inflight.phase() {
            Phase::HandedOver => SETTLE_HANDED_OVER,
            Phase::Running | Phase::Draining => SETTLE,
        };
        let settled = async {
            loop {
                self.inflight.emptied().await;
                sleep(settle).await;
                if self.inflight.count() == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            result = timeout_at(deadline, settled) => match result {
                Ok(()) => Drained::Complete,
                Err(_) => Drained::Deadline { cut: self.inflight.count() },
            },
            () = interrupt => Drained::Interrupted { cut: self.inflight.count() },
        }
    }
}

#[async_trait]
impl BackgroundService for Drain {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        if shutdown.wait_for(|down| *down).await.is_err() {
            return;
        }
        self.inflight.begin_drain();
        tracing::info!(
            in_flight = self.inflight.count(),
            limit = %humantime::format_duration(self.limit),
            "draining: listeners are closed, open answers are being finished"
        );
        match self.wait(super::signals::interrupt()).await {
            Drained::Complete => tracing::info!("drained, leaving"),
            Drained::Deadline { cut } => tracing::warn!(cut, "drain limit reached, leaving"),
            Drained::Interrupted { cut } => tracing::warn!(cut, "interrupted, leaving"),
        }
        (self.last)();
        // The only way to end sooner than Pingora's fixed grace period, which blocks the main
        // thread in a sleep.
        log::flush();
        std::process::exit(0);
    }
}

#[cfg(test)]
mod tests;
