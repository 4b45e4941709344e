//! Gauges of the backends, taken from the fleet at scrape time.
//!
//! Collecting instead of pushing means that a backend removed from the configuration leaves no
//! stale series behind, and that serving requests pays nothing for gauges.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

/// One backend as the gauges show it.
#[derive(Clone, Debug)]
pub struct BackendSample {
    /// The backend's name in the configuration.
    pub backend: Arc<str>,
    /// Its state now, one of `states`.
    pub state: &'static str,
    /// Every state a backend can be in; the gauge is 1 for `state` and 0 for the others.
    pub states: &'static [&'static str],
    /// Leases held on it now.
    pub inflight: u64,
}

/// What waits in one pool, of one class.
#[derive(Clone, Debug)]
pub struct QueueSample {
    /// The pool's name in the configuration.
    pub pool: Arc<str>,
    /// `interactive` or `batch`.
    pub class: &'static str,
    /// Requests waiting now.
    pub waiting: u64,
}

/// The fleet as the gauges show it.
#[derive(Clone, Debug, Default)]
pub struct FleetSample {
    /// Its backends.
    pub backends: Vec<BackendSample>,
    /// The queues of its pools.
    pub queues: Vec<QueueSample>,
}

type Snapshot = Box<dyn Fn() -> FleetSample + Send + Sync>;

/// A collector whose source can be set after registration.
#[derive(Clone)]
pub(super) struct FleetGauges(Arc<Inner>);

struct Inner {
    snapshot: ArcSwapOption<Snapshot>,
    // One scrape at a time resets and fills the gauges.
    gauges: Mutex<Gauges>,
    descriptions: Vec<Desc>,
}

struct Gauges {
    state: IntGaugeVec,
    inflight: IntGaugeVec,
    queued: IntGaugeVec,
}

impl FleetGauges {
    pub(super) fn new() -> prometheus::Result<Self> {
        let state = IntGaugeVec::new(
            Opts::new(
                "drover_backend_state",
                "1 for the state the backend is in, 0 for the others.",
            ),
            &["backend", "state"],
        )?;
        let inflight = IntGaugeVec::new(
            Opts::new(
                "drover_inflight",
                "Requests now in flight to the backend through this gateway.",
            ),
            &["backend"],
        )?;
        let queued = IntGaugeVec::new(
            Opts::new(
                "drover_queue_depth",
                "Requests that wait for a free slot, by pool and priority class.",
            ),
            &["pool", "class"],
        )?;
        let descriptions = [state.desc(), inflight.desc(), queued.desc()]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        Ok(Self(Arc::new(Inner {
            snapshot: ArcSwapOption::empty(),
            gauges: Mutex::new(Gauges {
                state,
                inflight,
                queued,
            }),
            descriptions,
        })))
    }

    pub(super) fn watch(&self, snapshot: Snapshot) {
        self.0.snapshot.store(Some(Arc::new(snapshot)));
    }
}

impl Collector for FleetGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let sample = match self.0.snapshot.load().as_deref() {
            Some(snapshot) => snapshot(),
            None => FleetSample::default(),
        };
        let Gauges {
            state,
            inflight,
            queued,
        } = &*self.0.gauges.lock();
        state.reset();
        inflight.reset();
        queued.reset();
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for sample in &sample.backends {
            let backend = &*sample.backend;
            for name in sample.states {
                let now = i64::from(*name == sample.state);
                state.with_label_values(&[backend, name]).set(now);
            }
            inflight
                .with_label_values(&[backend])
                .set(count(sample.inflight));
        }
        for sample in &sample.queues {
            queued
                .with_label_values(&[&*sample.pool, sample.class])
                .set(count(sample.waiting));
        }
        [state.collect(), inflight.collect(), queued.collect()].concat()
    }
}
