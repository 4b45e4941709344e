//! Every metric series, declared once.
//!
//! Names follow the contract of the architecture: prefix `drover_`, base units, bounded labels.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use once_cell::sync::Lazy;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    PullingGauge, Registry, TextEncoder,
};

use super::fleet_gauges::{BackendSample, FleetGauges};
use super::labels::{AbortCause, Configured, Dialect, Outcome, Reload, Stage, TokenKind, Why};
use crate::fleet::Reason;
use crate::guard::context::PrefixBreak;
use crate::guard::intervention::Intervention;
use crate::session::Source;
use crate::turn::Usage;

/// Content type of the Prometheus text exposition format, version 0.0.4.
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// Time to the first token. A cached prompt starts after milliseconds; a 100k-token prefill on a
/// loaded GPU takes minutes, and the default `timeouts.first_event` is 10 minutes. Doubling steps
/// between keep a quantile within a factor of two.
const TTFT_SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0,
];

/// Gap between two delivered content events. Generation runs at 10 to 300 tokens a second, hence
/// the fine steps from 2 to 100 ms; the long tail shows stalls up to `timeouts.inter_token` (2 min).
const INTER_TOKEN_SECONDS: &[f64] = &[
    0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0,
];

/// A whole request, from a rejected one to an hour of generation (`timeouts.total`).
const REQUEST_SECONDS: &[f64] = &[
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0,
    1200.0, 3600.0,
];

/// Own time. The goals (0.5 ms for a small chat, 3 ms for 200 KB with 40 tools) are bucket edges,
/// so that the share of turns within them is exact.
const OVERHEAD_SECONDS: &[f64] = &[
    0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.1,
];

/// All series of the process, in a registry of their own.
pub struct Metrics {
    registry: Registry,
    fleet: FleetGauges,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    ttft: HistogramVec,
    inter_token: HistogramVec,
    tokens: IntCounterVec,
    attempts: IntCounterVec,
    attempt_tokens: IntCounterVec,
    interventions: IntCounterVec,
    guard_not_evaluated: IntCounter,
    loop_transitions: IntCounterVec,
    prefix_breaks: IntCounterVec,
    policy_decisions: IntCounterVec,
    overhead: HistogramVec,
    upstream_aborts: IntCounterVec,
    client_disconnects: IntCounter,
    connections_refused: IntCounter,
    upstream_connections: IntCounterVec,
    session_sources: IntCounterVec,
    selections: IntCounterVec,
    cache_predictions: IntCounterVec,
    config_reloads: IntCounterVec,
    session_count: Arc<ArcSwapOption<SessionCount>>,
}

type SessionCount = Box<dyn Fn() -> usize + Send + Sync>;

#[expect(
    clippy::expect_used,
    reason = "names and labels are constants of this file; the tests build every series"
)]
static GLOBAL: Lazy<Metrics> = Lazy::new(|| Metrics::new().expect("declaring the metrics"));

impl Metrics {
    /// The process-wide metrics.
    #[must_use]
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// A separate set of series, for tests that count.
    ///
    /// # Errors
    /// When two series share a name or a name is not valid: a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let fleet = FleetGauges::new()?;
        registry.register(Box::new(fleet.clone()))?;
        register_process(&registry)?;
        register_build_info(&registry)?;
        let declare = Declare(&registry);
        Ok(Self {
            fleet,
            requests: declare.counters(
                "drover_requests_total",
                "Requests by client dialect, pool (empty: none resolved) and outcome.",
                &["dialect", "pool", "outcome"],
            )?,
            request_seconds: declare.histograms(
                "drover_request_seconds",
                "Time from the complete request header to the end of the answer.",
                &["dialect", "pool"],
                REQUEST_SECONDS,
            )?,
            ttft: declare.histograms(
                "drover_ttft_seconds",
                "Time from the complete request header to the first content event from a backend.",
                &["dialect", "pool"],
                TTFT_SECONDS,
            )?,
            inter_token: declare.histograms(
                "drover_inter_token_seconds",
                "Gap between two content events of one turn, as received from the backend.",
                &["pool"],
                INTER_TOKEN_SECONDS,
            )?,
            tokens: declare.counters(
                "drover_tokens_total",
                "Tokens as counted by the backends. Prompt tokens are input (evaluated) plus cached.",
                &["pool", "kind"],
            )?,
            attempts: declare.counters(
                "drover_attempts_total",
                "Upstream requests by the reason they were made.",
                &["why"],
            )?,
            attempt_tokens: declare.counters(
                "drover_attempt_tokens_total",
                "Tokens by the reason of their attempt, delivered or not: how warm the cache was for it.",
                &["why", "kind"],
            )?,
            interventions: declare.counters(
                "drover_interventions_total",
                "What guards changed (mode act) or would have changed (mode observe), by kind.",
                &["kind", "mode"],
            )?,
            guard_not_evaluated: declare.counter(
                "drover_guard_not_evaluated_total",
                "Turns answered without the guards of their preset; more than 0 is a defect.",
            )?,
            loop_transitions: declare.counters(
                "drover_loop_transitions_total",
                "Changes of the rung of loop protection (act, hint, narrow, finalize, stop), by reason.",
                &["from", "to", "reason"],
            )?,
            prefix_breaks: declare.counters(
                "drover_prefix_breaks_total",
                "Prompts changed near their beginning by the gateway, which costs the backend its \
                 prefix cache once, by cause.",
                &["cause"],
            )?,
            policy_decisions: declare.counters(
                "drover_policy_decisions_total",
                "What policy decided, by rule (`-`: a call that no rule had anything to say about) and mode.",
                &["rule", "decision", "mode"],
            )?,
            overhead: declare.histograms(
                "drover_overhead_seconds",
                "Own time of the gateway, by stage; waiting for clients and backends is not in it.",
                &["stage"],
                OVERHEAD_SECONDS,
            )?,
            upstream_aborts: declare.counters(
                "drover_upstream_aborts_total",
                "Upstream requests closed by the gateway before their end.",
                &["cause"],
            )?,
            client_disconnects: declare.counter(
                "drover_client_disconnects_total",
                "Clients that closed before their answer was complete.",
            )?,
            connections_refused: declare.counter(
                "drover_connections_refused_total",
                "Connections of clients closed at once: limits.max_connections were open.",
            )?,
            upstream_connections: declare.counters(
                "drover_upstream_connections_total",
                "Connections taken for an attempt: from the keep-alive pool (reused) or opened.",
                &["reused"],
            )?,
            session_sources: declare.counters(
                "drover_session_source_total",
                "Turns by what told their session: header (hdr), body field (meta), fingerprint (fp).",
                &["source"],
            )?,
            selections: declare.counters(
                "drover_selections_total",
                "Backends chosen for attempts, by pool and why.",
                &["pool", "reason"],
            )?,
            cache_predictions: declare.counters(
                "drover_cache_prediction_tokens_total",
                "Prompt tokens of answered turns by what selection expected of the backend's cache: \
                 found as expected (hit), expected and not found (missing), found unexpectedly (surplus).",
                &["pool", "result"],
            )?,
            config_reloads: declare.counters(
                "drover_config_reloads_total",
                "Times the configuration was loaded anew, by result.",
                &["result"],
            )?,
            session_count: declare.session_count()?,
            registry,
        })
    }

    /// Counts a decision of policy; `rule` is an id of the configuration.
    pub fn policy_decision(
        &self,
        rule: Configured<'_>,
        decision: &'static str,
        mode: &'static str,
    ) {
        self.policy_decisions
            .with_label_values(&[rule.as_str(), decision, mode])
            .inc();
    }

    /// Counts a finished request and its duration.
    pub fn request(
        &self,
        dialect: Dialect,
        pool: Configured<'_>,
        outcome: Outcome,
        took: Duration,
    ) {
        let labels = [dialect.as_str(), pool.as_str()];
        self.requests
            .with_label_values(&[labels[0], labels[1], outcome.as_str()])
            .inc();
        self.request_seconds
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
    }

    /// Time to the first content event of a turn.
    pub fn ttft(&self, dialect: Dialect, pool: Configured<'_>, took: Duration) {
        self.ttft
            .with_label_values(&[dialect.as_str(), pool.as_str()])
            .observe(took.as_secs_f64());
    }

    /// The pool's histogram of gaps between content events, to be looked up once a turn and
    /// observed (in seconds) once an event.
    #[must_use]
    pub fn inter_token(&self, pool: Configured<'_>) -> Histogram {
        self.inter_token.with_label_values(&[pool.as_str()])
    }

    /// Adds `count` tokens of one kind.
    pub fn tokens(&self, pool: Configured<'_>, kind: TokenKind, count: u64) {
        if count > 0 {
            self.tokens
                .with_label_values(&[pool.as_str(), kind.as_str()])
                .inc_by(count);
        }
    }

    /// Counts an upstream request.
    pub fn attempt(&self, why: Why) {
        self.attempts.with_label_values(&[why.as_str()]).inc();
    }

    /// Counts the tokens of one upstream request.
    pub fn attempt_tokens(&self, why: Why, usage: Usage) {
        for (kind, count) in [
            (TokenKind::Input, usage.prompt.saturating_sub(usage.cached)),
            (TokenKind::Cached, usage.cached),
            (TokenKind::Output, usage.completion),
        ] {
            if count > 0 {
                let labels = [why.as_str(), kind.as_str()];
                self.attempt_tokens.with_label_values(&labels).inc_by(count);
            }
        }
    }

    /// Counts something a guard changed, or would have.
    pub fn intervention(&self, done: &Intervention) {
        self.interventions
            .with_label_values(&[done.kind, done.mode.as_str()])
            .inc();
    }

    /// Counts a turn that was answered though a guard of its preset has not seen all of it.
    pub fn guard_not_evaluated(&self) {
        self.guard_not_evaluated.inc();
    }

    /// Counts a change of the rung of loop protection; the labels are its fixed names.
    pub fn loop_transition(&self, from_to_reason: [&'static str; 3]) {
        self.loop_transitions
            .with_label_values(&from_to_reason)
            .inc();
    }

    /// Counts a prompt that began otherwise than its conversation's last one.
    pub fn prefix_break(&self, cause: PrefixBreak) {
        self.prefix_breaks
            .with_label_values(&[cause.as_str()])
            .inc();
    }

    /// Own time spent in one stage of one turn.
    pub fn overhead(&self, stage: Stage, took: Duration) {
        self.overhead
            .with_label_values(&[stage.as_str()])
            .observe(took.as_secs_f64());
    }

    /// Counts an upstream request that was closed before its end.
    pub fn upstream_abort(&self, cause: AbortCause) {
        self.upstream_aborts
            .with_label_values(&[cause.as_str()])
            .inc();
    }

    /// A client's connection was closed because too many are open.
    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// Counts a client that closed before its answer was complete.
    pub fn client_disconnect(&self) {
        self.client_disconnects.inc();
    }

    /// Counts a connection to a backend: `reused` from the pool or newly opened.
    pub fn upstream_connection(&self, reused: bool) {
        let reused = if reused { "true" } else { "false" };
        self.upstream_connections.with_label_values(&[reused]).inc();
    }

    /// Counts a turn by what told its session.
    pub fn session_source(&self, source: Source) {
        self.session_sources
            .with_label_values(&[source.as_str()])
            .inc();
    }

    /// Counts a selected backend.
    pub fn selection(&self, pool: Configured<'_>, reason: Reason) {
        self.selections
            .with_label_values(&[pool.as_str(), reason.as_str()])
            .inc();
    }

    /// Compares the prompt tokens a backend was expected to find in its cache with those it found.
    pub fn cache_prediction(&self, pool: Configured<'_>, expected: u64, found: u64) {
        let hit = expected.min(found);
        let results = [
            ("hit", hit),
            ("missing", expected - hit),
            ("surplus", found - hit),
        ];
        for (result, tokens) in results.into_iter().filter(|(_, tokens)| *tokens > 0) {
            self.cache_predictions
                .with_label_values(&[pool.as_str(), result])
                .inc_by(tokens);
        }
    }

    /// Counts a reload of the configuration.
    pub fn config_reload(&self, result: Reload) {
        self.config_reloads
            .with_label_values(&[result.as_str()])
            .inc();
    }

    /// Sets the source of `drover_sessions`, asked at every scrape. The last call wins.
    pub fn watch_sessions(&self, count: impl Fn() -> usize + Send + Sync + 'static) {
        self.session_count.store(Some(Arc::new(Box::new(count))));
    }

    /// Sets the source of the per-backend gauges, asked at every scrape. The last call wins.
    pub fn watch_backends(
        &self,
        snapshot: impl Fn() -> Vec<BackendSample> + Send + Sync + 'static,
    ) {
        self.fleet.watch(Box::new(snapshot));
    }

    /// All series in the Prometheus text format ([`TEXT_FORMAT`]).
    ///
    /// # Errors
    /// When a collected family is inconsistent.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(32 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Declares and registers in one step.
struct Declare<'a>(&'a Registry);

impl Declare<'_> {
    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let counter = IntCounter::new(name, help)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    /// `drover_sessions`, pulled from whatever is stored in the returned place.
    fn session_count(&self) -> prometheus::Result<Arc<ArcSwapOption<SessionCount>>> {
        let source: Arc<ArcSwapOption<SessionCount>> = Arc::default();
        let pulled = Arc::clone(&source);
        let gauge = PullingGauge::new(
            "drover_sessions",
            "Sessions remembered now.",
            Box::new(move || pulled.load().as_ref().map_or(0.0, |count| count() as f64)),
        )?;
        self.0.register(Box::new(gauge))?;
        Ok(source)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histograms = HistogramVec::new(opts, labels)?;
        self.0.register(Box::new(histograms.clone()))?;
        Ok(histograms)
    }
}

/// `drover_build_info{version} 1`, to join other series with the running version.
fn register_build_info(registry: &Registry) -> prometheus::Result<()> {
    let info = IntGaugeVec::new(
        Opts::new("drover_build_info", "The running version; always 1."),
        &["version"],
    )?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(info))
}

/// CPU, memory, file descriptors and threads of this process, read from `/proc` at every scrape.
#[cfg(target_os = "linux")]
fn register_process(registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(
        prometheus::process_collector::ProcessCollector::for_self(),
    ))
}

#[cfg(not(target_os = "linux"))]
fn register_process(_registry: &Registry) -> prometheus::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.encode().unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_counted_and_timed() {
        let metrics = Metrics::new().unwrap();
        let pool = Configured::name("default");
        metrics.request(
            Dialect::OpenAi,
            pool,
            Outcome::Ok,
            Duration::from_millis(1500),
        );
        metrics.request(Dialect::OpenAi, pool, Outcome::Cut, Duration::from_secs(2));
        let text = text(&metrics);
        assert!(
            text.contains(
                r#"drover_requests_total{dialect="openai",outcome="ok",pool="default"} 1"#
            )
        );
        assert!(
            text.contains(
                r#"drover_requests_total{dialect="openai",outcome="cut",pool="default"} 1"#
            )
        );
        assert!(
            text.contains(r#"drover_request_seconds_sum{dialect="openai",pool="default"} 3.5"#)
        );
    }

    #[test]
    fn tokens_of_no_count_make_no_series() {
        let metrics = Metrics::new().unwrap();
        let pool = Configured::name("p");
        metrics.tokens(pool, TokenKind::Hidden, 0);
        metrics.tokens(pool, TokenKind::Cached, 7);
        let text = text(&metrics);
        assert!(text.contains(r#"drover_tokens_total{kind="cached",pool="p"} 7"#));
        assert!(!text.contains("hidden"));
    }

    #[test]
    fn overhead_goals_are_bucket_edges() {
        let metrics = Metrics::new().unwrap();
        metrics.overhead(Stage::Total, Duration::from_micros(500));
        metrics.overhead(Stage::Total, Duration::from_micros(2999));
        let text = text(&metrics);
        assert!(text.contains(r#"drover_overhead_seconds_bucket{stage="total",le="0.0005"} 1"#));
        assert!(text.contains(r#"drover_overhead_seconds_bucket{stage="total",le="0.003"} 2"#));
    }

    #[test]
    fn backend_gauges_follow_the_snapshot() {
        let metrics = Metrics::new().unwrap();
        assert!(!text(&metrics).contains("drover_backend_state{"));
        metrics.watch_backends(|| {
            vec![BackendSample {
                backend: "gpu0".into(),
                state: "ready",
                states: &["ready", "down"],
                inflight: 3,
            }]
        });
        let text = text(&metrics);
        assert!(text.contains(r#"drover_backend_state{backend="gpu0",state="ready"} 1"#));
        assert!(text.contains(r#"drover_backend_state{backend="gpu0",state="down"} 0"#));
        assert!(text.contains(r#"drover_inflight{backend="gpu0"} 3"#));
    }

    #[test]
    fn every_name_has_the_prefix_and_every_counter_its_suffix() {
        let metrics = Metrics::new().unwrap();
        metrics.attempt(Why::First);
        metrics.upstream_abort(AbortCause::Timeout);
        metrics.upstream_connection(true);
        metrics.client_disconnect();
        metrics.inter_token(Configured::name("p")).observe(0.01);
        metrics.ttft(
            Dialect::OpenAi,
            Configured::name("p"),
            Duration::from_secs(1),
        );
        for line in text(&metrics).lines().filter(|l| l.starts_with("# TYPE ")) {
            let mut words = line.split(' ').skip(2);
            let (name, kind) = (words.next().unwrap(), words.next().unwrap());
            assert!(
                name.starts_with("drover_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "{name} is a {kind}"
            );
        }
    }
}
