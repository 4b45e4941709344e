//! Speculative decoding: what turns ask for.

use super::Metrics;
use super::declare::series;
use crate::fleet::Profiled;
use crate::telemetry::labels::Configured;

series! {
    /// Series of speculative decoding.
    Spec, "Speculative decoding" {
        asked: counters(
            "drover_spec_asked_total",
            "Selections of a backend for a turn that asks for a speculative profile or for none, by who asks.",
            &["pool", "cause"],
        );
        unavailable: counters(
            "drover_spec_unavailable_total",
            "Those of drover_spec_asked_total that were served with another profile, by what was in the way.",
            &["pool", "reason"],
        );
    }
}

impl Metrics {
    /// Counts a wish for a profile, and what became of it.
    pub fn spec_wish(&self, pool: Configured<'_>, wish: &Profiled) {
        let pool = pool.as_str();
        let asked = &self.spec.asked;
        asked.with_label_values(&[pool, wish.cause.as_str()]).inc();
        if let Some(reason) = wish.unserved {
            let unavailable = &self.spec.unavailable;
            unavailable
                .with_label_values(&[pool, reason.as_str()])
                .inc();
        }
    }
}
