//! Requests as clients see them: how many, how long, how many tokens.

use std::time::Duration;

use prometheus::Histogram;

use super::Metrics;
use super::declare::series;
use crate::session::Source;
use crate::telemetry::labels::{Configured, Dialect, Outcome, Stage, TokenKind};

/// Time to the first token. A cached prompt starts after milliseconds; a 100k-token prefill on a
/// loaded GPU takes minutes, and the default `timeouts.first_event` is 10 minutes. Doubling steps
/// between keep a quantile within a factor of two.
pub(super) const TTFT_SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0,
];

/// Gap between two delivered content events. Generation runs at 10 to 300 tokens a second, hence
/// the fine steps from 2 to 100 ms; the long tail shows stalls up to `timeouts.inter_token` (2 min).
pub(super) const INTER_TOKEN_SECONDS: &[f64] = &[
    0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0,
];

/// A whole request, from a rejected one to an hour of generation (`timeouts.total`).
pub(super) const REQUEST_SECONDS: &[f64] = &[
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0,
    1200.0, 3600.0,
];

/// Own time. The goals (0.5 ms for a small chat, 3 ms for 200 KB with 40 tools) are bucket edges,
/// so that the share of turns within them is exact.
const OVERHEAD_SECONDS: &[f64] = &[
    0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.1,
];

series! {
    /// Series of requests.
    Requests, "Requests" {
        requests: counters(
            "drover_requests_total",
            "Requests by client dialect, pool (empty: none resolved) and outcome.",
            &["dialect", "pool", "outcome"],
        );
        request_seconds: histograms(
            "drover_request_seconds",
            "Time from the complete request header to the end of the answer.",
            &["dialect", "pool"],
            REQUEST_SECONDS,
        );
        ttft: histograms(
            "drover_ttft_seconds",
            "Time from the complete request header to the first content event from a backend.",
            &["dialect", "pool"],
            TTFT_SECONDS,
        );
        inter_token: histograms(
            "drover_inter_token_seconds",
            "Gap between two content events of one turn, as received from the backend.",
            &["pool"],
            INTER_TOKEN_SECONDS,
        );
        tokens: counters(
            "drover_tokens_total",
            "Tokens as counted by the backends. Prompt tokens are input (evaluated) plus cached.",
            &["pool", "kind"],
        );
        overhead: histograms(
            "drover_overhead_seconds",
            "Own time of the gateway, by stage; waiting for clients and backends is not in it.",
            &["stage"],
            OVERHEAD_SECONDS,
        );
        client_disconnects: counter(
            "drover_client_disconnects_total",
            "Clients that closed before their answer was complete.",
        );
        client_retries: counter(
            "drover_client_retries_total",
            "Turns that had been answered before: the client has asked again.",
        );
        session_sources: counters(
            "drover_session_source_total",
            "Turns by what told their session: header (hdr), body field (meta), fingerprint (fp).",
            &["source"],
        );
    }
}

impl Metrics {
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
            .requests
            .with_label_values(&[labels[0], labels[1], outcome.as_str()])
            .inc();
        self.requests
            .request_seconds
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
    }

    /// Time to the first content event of a turn.
    pub fn ttft(&self, dialect: Dialect, pool: Configured<'_>, took: Duration) {
        self.requests
            .ttft
            .with_label_values(&[dialect.as_str(), pool.as_str()])
            .observe(took.as_secs_f64());
    }

    /// The pool's histogram of gaps between content events, in seconds.
    pub(super) fn inter_token(&self, pool: Configured<'_>) -> Histogram {
        self.requests
            .inter_token
            .with_label_values(&[pool.as_str()])
    }

    /// Adds `count` tokens of one kind.
    pub fn tokens(&self, pool: Configured<'_>, kind: TokenKind, count: u64) {
        if count > 0 {
            self.requests
                .tokens
                .with_label_values(&[pool.as_str(), kind.as_str()])
                .inc_by(count);
        }
    }

    /// Own time spent in one stage of one turn.
    pub fn overhead(&self, stage: Stage, took: Duration) {
        self.requests
            .overhead
            .with_label_values(&[stage.as_str()])
            .observe(took.as_secs_f64());
    }

    /// Counts a client that closed before its answer was complete.
    pub fn client_disconnect(&self) {
        self.requests.client_disconnects.inc();
    }

    /// Counts a turn that had been answered before.
    pub fn client_retry(&self) {
        self.requests.client_retries.inc();
    }

    /// Counts a turn by what told its session.
    pub fn session_source(&self, source: Source) {
        self.requests
            .session_sources
            .with_label_values(&[source.as_str()])
            .inc();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::text;
    use super::*;

    #[test]
    fn a_request_is_counted_and_timed() {
        let metrics = Metrics::new().unwrap();
        let pool = Configured::name("default");
        let took = Duration::from_millis(1500);
        metrics.request(Dialect::OpenAi, pool, Outcome::Ok, took);
        metrics.request(Dialect::OpenAi, pool, Outcome::Cut, Duration::from_secs(2));
        let text = text(&metrics);
        for line in [
            r#"drover_requests_total{dialect="openai",outcome="ok",pool="default"} 1"#,
            r#"drover_requests_total{dialect="openai",outcome="cut",pool="default"} 1"#,
            r#"drover_request_seconds_sum{dialect="openai",pool="default"} 3.5"#,
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn tokens_of_no_count_make_no_series() {
        let metrics = Metrics::new().unwrap();
        let pool = Configured::name("p");
        metrics.tokens(pool, TokenKind::Hidden, 0);
        metrics.tokens(pool, TokenKind::Cached, 7);
        let text = text(&metrics);
        assert!(text.contains(r#"drover_tokens_total{kind="cached",pool="p"} 7"#));
        assert!(!text.contains("kind=\"hidden\""));
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
}
