//! Upstream requests: why they were made, where they went, how they ended.

use std::time::Duration;

use super::Metrics;
use super::declare::series;
use crate::fleet::Reason;
use crate::telemetry::labels::{AbortCause, Configured, Hedged, TokenKind, Why};
use crate::turn::Usage;

/// From a slot that is free at the next look to a server that goes on generating unheard.
const IDLE_SECONDS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0, 80.0, 300.0];

series! {
    /// Series of upstream requests.
    Attempts, "Upstream requests" {
        attempts: counters(
            "drover_attempts_total",
            "Upstream requests by the reason they were made.",
            &["why"],
        );
        tokens: counters(
            "drover_attempt_tokens_total",
            "Tokens by the reason of their attempt, delivered or not: how warm the cache was for it.",
            &["why", "kind"],
        );
        aborts: counters(
            "drover_upstream_aborts_total",
            "Upstream requests closed by the gateway before their end.",
            &["cause"],
        );
        idle: histograms(
            "drover_cancel_idle_seconds",
            "Time from a closed upstream request until the backend had no more busy slots than requests \
             of this gateway, as seen by reading its slots every `fleet.health.slots_every`: an upper \
             bound. Long times mean that generation goes on unheard.",
            &["backend"],
            IDLE_SECONDS,
        );
        connections: counters(
            "drover_upstream_connections_total",
            "Connections taken for an attempt: from the keep-alive pool (reused) or opened.",
            &["reused"],
        );
        hedges: counters(
            "drover_hedges_total",
            "Turns whose backend stayed silent for longer than predicted (fleet.hedge), by what came of \
             asking a second one: it answered first (won), the first did (lost), it failed, or none was asked \
             (refused).",
            &["pool", "result"],
        );
        selections: counters(
            "drover_selections_total",
            "Backends chosen for attempts, by pool and why.",
            &["pool", "reason"],
        );
        predictions: counters(
            "drover_cache_prediction_tokens_total",
            "Prompt tokens of answered turns by what selection expected of the backend's cache: \
             found as expected (hit), expected and not found (missing), found unexpectedly (surplus).",
            &["pool", "result"],
        );
    }
}

impl Metrics {
    /// Counts an upstream request.
    pub fn attempt(&self, why: Why) {
        self.attempts
            .attempts
            .with_label_values(&[why.as_str()])
            .inc();
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
                let tokens = self.attempts.tokens.with_label_values(&labels);
                tokens.inc_by(count);
            }
        }
    }

    /// Counts an upstream request that was closed before its end.
    pub fn upstream_abort(&self, cause: AbortCause) {
        self.attempts
            .aborts
            .with_label_values(&[cause.as_str()])
            .inc();
    }

    /// `backend` has come to rest so long after a request to it was closed.
    pub(super) fn cancel_idle(&self, backend: Configured<'_>, took: Duration) {
        self.attempts
            .idle
            .with_label_values(&[backend.as_str()])
            .observe(took.as_secs_f64());
    }

    /// Counts a connection to a backend: `reused` from the pool or newly opened.
    pub fn upstream_connection(&self, reused: bool) {
        let reused = if reused { "true" } else { "false" };
        self.attempts.connections.with_label_values(&[reused]).inc();
    }

    /// Counts a turn for which a second backend was due.
    pub fn hedge(&self, pool: Configured<'_>, result: Hedged) {
        self.attempts
            .hedges
            .with_label_values(&[pool.as_str(), result.as_str()])
            .inc();
    }

    /// Counts a selected backend.
    pub fn selection(&self, pool: Configured<'_>, reason: Reason) {
        self.attempts
            .selections
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
            self.attempts
                .predictions
                .with_label_values(&[pool.as_str(), result])
                .inc_by(tokens);
        }
    }
}
