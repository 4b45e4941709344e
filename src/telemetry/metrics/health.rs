//! Backends that were away, and what the watchdog found and did.

use super::Metrics;
use super::declare::series;
use crate::fleet::HealthEvent;
use crate::telemetry::labels::Configured;

/// From a restart of the gateway's connection to a GPU that somebody has to go to.
const AWAY_SECONDS: &[f64] = &[
    0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0,
];

series! {
    /// Series of the backends' health.
    Health, "Health of backends" {
        recovery: histograms(
            "drover_backend_recovery_seconds",
            "Time from the moment a backend stopped serving until it served again, by what it went into: \
             down, loading, wedged, or ejected. Counted when it serves again.",
            &["backend", "from"],
            AWAY_SECONDS,
        );
        ejections: counters(
            "drover_backend_ejections_total",
            "Times the backend was taken out because its requests failed although its checks were good; \
             each failed trial is one more.",
            &["backend"],
        );
        findings: counters(
            "drover_watchdog_findings_total",
            "Backends found getting nowhere: a busy slot without progress (stuck), requests that wait \
             beside an idle slot (unbegun), a closed request still worked on (orphan).",
            &["backend", "finding"],
        );
        overflows: counters(
            "drover_kv_overflows_total",
            "Times the KV cache that a backend's slots share was full (kv_overflow): one for all the answers \
             that were lost by it.",
            &["backend"],
        );
        overflowed: counters(
            "drover_kv_overflow_answers_total",
            "Answers lost to a full KV cache; most go on elsewhere (drover_attempts_total).",
            &["backend"],
        );
        heals: counters(
            "drover_watchdog_heals_total",
            "What was done about them: silent requests closed (close), no new ones (quarantine), the \
             configured command run (hook).",
            &["backend", "step"],
        );
    }
}

impl Metrics {
    /// Counts something that happened to a backend's health.
    pub fn health_event(&self, configured: Configured<'_>, event: HealthEvent) {
        let backend = configured.as_str();
        match event {
            HealthEvent::Ejected => {
                self.health.ejections.with_label_values(&[backend]).inc();
            }
            HealthEvent::Found(finding) => {
                let labels = [backend, finding.as_str()];
                self.health.findings.with_label_values(&labels).inc();
            }
            HealthEvent::Healed(step) => {
                let labels = [backend, step.as_str()];
                self.health.heals.with_label_values(&labels).inc();
            }
            HealthEvent::Overflowed { is_new } => {
                self.health.overflowed.with_label_values(&[backend]).inc();
                if is_new {
                    self.health.overflows.with_label_values(&[backend]).inc();
                }
            }
            HealthEvent::Rested { after } => self.cancel_idle(configured, after),
            HealthEvent::Recovered { from, after } => {
                let recovery = self.health.recovery.with_label_values(&[backend, from]);
                recovery.observe(after.as_secs_f64());
            }
        }
    }
}
