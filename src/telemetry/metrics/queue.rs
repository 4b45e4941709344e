//! Waiting for a free slot.

use std::time::Duration;

use super::Metrics;
use super::declare::series;
use crate::fleet::{Overload, Waited};
use crate::telemetry::labels::Configured;

/// Wait for a free slot, up to the default `fleet.pools.*.queue.timeout` and beyond.
const QUEUE_SECONDS: &[f64] = &[
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 300.0,
];

series! {
    /// Series of the queues.
    Queue, "Queues" {
        wait: histograms(
            "drover_queue_wait_seconds",
            "Time that requests which had to wait for a free slot have waited until they had one.",
            &["pool", "class"],
            QUEUE_SECONDS,
        );
        rejections: counters(
            "drover_queue_rejections_total",
            "Requests refused because every slot was taken: no room in the queue (full), too much of it \
             taken by one principal (share), waited too long (timeout).",
            &["reason"],
        );
    }
}

impl Queue {
    /// A counter that appears with its first event has not increased in the eyes of Prometheus.
    pub(super) fn start_at_zero(&self) {
        for reason in [
            Overload::Full,
            Overload::Share,
            Overload::Waited(Duration::ZERO),
        ] {
            self.rejections.with_label_values(&[reason.as_str()]);
        }
    }
}

impl Metrics {
    /// A request has waited for a free slot, and has it now.
    pub fn queue_wait(&self, pool: Configured<'_>, waited: Waited) {
        self.queue
            .wait
            .with_label_values(&[pool.as_str(), waited.class.as_str()])
            .observe(waited.seconds);
    }

    /// Counts a request that was refused because every slot was taken.
    pub fn queue_rejection(&self, reason: Overload) {
        self.queue
            .rejections
            .with_label_values(&[reason.as_str()])
            .inc();
    }
}
