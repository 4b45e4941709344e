//! The audit log.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use prometheus::PullingGauge;

use super::Metrics;
use super::declare::{Declare, series};

/// From a disk that remembers by itself to one that is in trouble.
const WRITE_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

series! {
    /// Series of the audit log.
    Audit, "Audit" {
        records: counter("drover_audit_records_total", "Records of the audit log that are on the disk.");
        bytes: counter("drover_audit_bytes_total", "Bytes of the audit log that are on the disk.");
        failures: counter(
            "drover_audit_failures_total",
            "Times a batch of records could not be written; it is tried again until it can.",
        );
        lost: counter(
            "drover_audit_lost_total",
            "Decisions that found no room in the queue of the audit log; the log says how many.",
        );
        seconds: histogram(
            "drover_audit_write_seconds",
            "Time a batch of records took to be on the disk.",
            WRITE_SECONDS,
        );
    }
}

/// Decisions that wait, and whether decisions are recorded at all.
type Now = Box<dyn Fn() -> (usize, bool) + Send + Sync>;

/// Where the gauges come from.
pub(super) type Source = Arc<ArcSwapOption<Now>>;

/// The gauges, pulled from whatever is stored in the returned place.
pub(super) fn gauges(to: &Declare<'_>) -> prometheus::Result<Source> {
    let source: Source = Arc::default();
    let gauge = |name: &str, help: &str, of: fn((usize, bool)) -> f64| {
        let pulled = Arc::clone(&source);
        let now = move || pulled.load().as_ref().map_or(0.0, |now| of(now()));
        let gauge = PullingGauge::new(name, help, Box::new(now))?;
        to.chapter("Audit").add(gauge, "gauge", &[])
    };
    gauge(
        "drover_audit_queue",
        "Decisions that are not on the disk yet.",
        |(waiting, _)| waiting as f64,
    )?;
    gauge(
        "drover_audit_failing",
        "1 while decisions cannot be recorded, and calls that required rules are about are blocked.",
        |(_, is_open)| f64::from(u8::from(!is_open)),
    )?;
    Ok(source)
}

impl Metrics {
    /// A batch of the audit log is on the disk.
    pub fn audit_written(&self, records: usize, bytes: usize, took: Duration) {
        self.audit.records.inc_by(records as u64);
        self.audit.bytes.inc_by(bytes as u64);
        self.audit.seconds.observe(took.as_secs_f64());
    }

    /// A batch of the audit log could not be written.
    pub fn audit_failure(&self) {
        self.audit.failures.inc();
    }

    /// Decisions found no room in the queue of the audit log.
    pub fn audit_lost(&self, count: u64) {
        self.audit.lost.inc_by(count);
    }

    /// Sets the source of the gauges of the audit log, asked at every scrape. The last call wins.
    pub fn watch_audit(&self, now: impl Fn() -> (usize, bool) + Send + Sync + 'static) {
        self.audit_now.store(Some(Arc::new(Box::new(now))));
    }
}
