//! The process itself: connections, configuration, health of its runtimes.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use prometheus::{IntGaugeVec, Opts, PullingGauge};

use super::Metrics;
use super::declare::{Declare, series};
use crate::telemetry::labels::{Reload, Traced};

/// A timer fires within a millisecond of its time on a runtime that is well.
const DELAY_SECONDS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

series! {
    /// Series of the process.
    Process, "Process" {
        connections_refused: counter(
            "drover_connections_refused_total",
            "Connections of clients closed at once: limits.max_connections were open.",
        );
        config_reloads: counters(
            "drover_config_reloads_total",
            "Times the configuration was loaded anew, by result.",
            &["result"],
        );
        traces: counters(
            "drover_traces_total",
            "Traces of turns by what became of them: sent, dropped because too many waited, failed because \
             the receiver was not to be had or refused them.",
            &["result"],
        );
        access_lines_lost: counter(
            "drover_access_lines_lost_total",
            "Lines of the access log that were not written: whoever reads standard output is 8 MiB behind.",
        );
        log_lines_lost: counter(
            "drover_log_lines_lost_total",
            "Diagnostic lines that were not written: whoever reads standard error is 8 MiB behind.",
        );
        runtime_delay: histogram(
            "drover_runtime_delay_seconds",
            "How late a task that wanted to run every 250 ms did run, on the threads that serve clients: \
             long delays mean that something blocks a thread, or that there are too few.",
            DELAY_SECONDS,
        );
    }
}

impl Process {
    /// A counter that appears with its first event has not increased in the eyes of Prometheus.
    pub(super) fn start_at_zero(&self) {
        for result in Reload::ALL {
            self.config_reloads.with_label_values(&[result.as_str()]);
        }
        for result in Traced::ALL {
            self.traces.with_label_values(&[result.as_str()]);
        }
    }
}

type SessionCount = Box<dyn Fn() -> usize + Send + Sync>;

/// Where `drover_sessions` comes from.
pub(super) type Sessions = Arc<ArcSwapOption<SessionCount>>;

/// `drover_sessions`, pulled from whatever is stored in the returned place.
pub(super) fn sessions(to: &Declare<'_>) -> prometheus::Result<Sessions> {
    let source: Sessions = Arc::default();
    let pulled = Arc::clone(&source);
    let count = move || pulled.load().as_ref().map_or(0.0, |count| count() as f64);
    let help = "Sessions remembered now.";
    let gauge = PullingGauge::new("drover_sessions", help, Box::new(count))?;
    to.chapter("Process").add(gauge, "gauge", &[])?;
    Ok(source)
}

/// `drover_build_info{version} 1`, to join other series with the running version.
pub(super) fn build_info(to: &Declare<'_>) -> prometheus::Result<()> {
    let opts = Opts::new("drover_build_info", "The running version; always 1.");
    let info = to
        .chapter("Process")
        .add(IntGaugeVec::new(opts, &["version"])?, "gauge", &[])?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    Ok(())
}

/// CPU, memory, file descriptors and threads of this process, read from `/proc` at every scrape.
#[cfg(target_os = "linux")]
pub(super) fn of_system(registry: &prometheus::Registry) -> prometheus::Result<()> {
    registry.register(Box::new(
        prometheus::process_collector::ProcessCollector::for_self(),
    ))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn of_system(_: &prometheus::Registry) -> prometheus::Result<()> {
    Ok(())
}

impl Metrics {
    /// A client's connection was closed because too many are open.
    pub fn connection_refused(&self) {
        self.process.connections_refused.inc();
    }

    /// Counts a reload of the configuration.
    pub fn config_reload(&self, result: Reload) {
        self.process
            .config_reloads
            .with_label_values(&[result.as_str()])
            .inc();
    }

    /// Counts traces.
    pub fn traces(&self, result: Traced, count: u64) {
        let traces = self.process.traces.with_label_values(&[result.as_str()]);
        traces.inc_by(count);
    }

    /// A line of the access log could not be written.
    pub fn access_line_lost(&self) {
        self.process.access_lines_lost.inc();
    }

    /// A diagnostic line could not be written.
    pub fn log_line_lost(&self) {
        self.process.log_lines_lost.inc();
    }

    /// A task has run so much later than it wanted to.
    pub fn runtime_delay(&self, late: Duration) {
        self.process.runtime_delay.observe(late.as_secs_f64());
    }

    /// Sets the source of `drover_sessions`, asked at every scrape. The last call wins.
    pub fn watch_sessions(&self, count: impl Fn() -> usize + Send + Sync + 'static) {
        self.sessions.store(Some(Arc::new(Box::new(count))));
    }
}
