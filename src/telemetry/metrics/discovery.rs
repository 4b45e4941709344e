//! Backends that are found.

use super::Metrics;
use super::declare::series;
use crate::fleet::DiscoveryResult;
use crate::telemetry::labels::Configured;

series! {
    /// Series of discovery.
    Discovery, "Discovery of backends" {
        results: counters(
            "drover_discovery_total",
            "What the sources of backends told: others than before, which the pool has now (applied), the same, \
             none, a failure, or some that cannot be used. The last three change nothing.",
            &["pool", "result"],
        );
    }
}

impl Metrics {
    /// Counts what a source told about the backends of a pool.
    pub fn discovered(&self, pool: Configured<'_>, result: DiscoveryResult) {
        let labels = [pool.as_str(), result.as_str()];
        self.discovery.results.with_label_values(&labels).inc();
    }
}
