//! The same turns under the names of OpenTelemetry, for dashboards that know those.
//!
//! Semantic conventions for generative AI, version 1.37 (status: development), in the form of
//! Prometheus: <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/>. The model is
//! the configured pattern that served the request, since names from requests have no bound.

use std::time::Duration;

use prometheus::Histogram;

use super::Metrics;
use super::declare::series;
use crate::telemetry::labels::{Configured, Operation, Outcome};
use crate::turn::Usage;

/// The value of `gen_ai_provider_name`; conventions leave it open for providers they do not name.
const PROVIDER: &str = "llama.cpp";

/// Buckets that the convention advises for durations.
const DURATION_SECONDS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// For the time to the first token.
const FIRST_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// For the time of every further token.
const NEXT_SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
];
/// For numbers of tokens.
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

series! {
    /// Series of the convention.
    GenAi, "OpenTelemetry names" {
        duration: histograms(
            "gen_ai_server_request_duration_seconds",
            "Time of a request, by what became of it (error_type is empty when all is well).",
            &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type"],
            DURATION_SECONDS,
        );
        operation: histograms(
            "gen_ai_client_operation_duration_seconds",
            "The same as gen_ai_server_request_duration_seconds: to agents the gateway is the server, to backends it is \
             the client, and both see one time.",
            &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type"],
            DURATION_SECONDS,
        );
        chunk: histograms(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "The same as gen_ai_server_time_to_first_token_seconds.",
            &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"],
            FIRST_SECONDS,
        );
        first: histograms(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to the first content event of a request that was answered.",
            &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"],
            FIRST_SECONDS,
        );
        next: histograms(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time of a token after the first, of a request that was answered.",
            &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"],
            NEXT_SECONDS,
        );
        next_chunk: histograms(
            "gen_ai_client_operation_time_per_output_chunk_seconds",
            "Gap between two content events of one answer, as received from the backend: the same as \
             drover_inter_token_seconds, by model.",
            &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"],
            NEXT_SECONDS,
        );
        tokens: histograms(
            "gen_ai_client_token_usage",
            "Tokens of a request: its prompt (input, cached ones included) and its answer (output).",
            &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"],
            TOKENS,
        );
    }
}

/// A request that generated, in the words of the convention.
#[derive(Clone, Copy, Debug)]
pub struct GenAiRequest<'a> {
    /// What was asked for.
    pub operation: Operation,
    /// The configured pattern that the model's name matched.
    pub model: Configured<'a>,
    /// How it ended.
    pub outcome: Outcome,
    /// Time to its end.
    pub took: Duration,
    /// Time to its first content event.
    pub ttft: Option<Duration>,
    /// Its tokens.
    pub usage: Usage,
}

/// Where a turn's gaps between two content events are counted: looked up once a turn, observed once an event.
#[derive(Clone, Debug)]
pub struct Gaps {
    pool: Histogram,
    model: Option<Histogram>,
}

impl Gaps {
    /// Counts one of them.
    pub fn observe(&self, gap: Duration) {
        let seconds = gap.as_secs_f64();
        self.pool.observe(seconds);
        if let Some(model) = &self.model {
            model.observe(seconds);
        }
    }
}

impl Metrics {
    /// Where the gaps of a turn in `pool` are counted; `generates` is what it asks for, and the configured pattern of its
    /// model. A request that generates nothing has none.
    #[must_use]
    pub fn gaps(
        &self,
        pool: Configured<'_>,
        generates: Option<(Operation, Configured<'_>)>,
    ) -> Gaps {
        let of = |(operation, model): (Operation, Configured<'_>)| {
            let labels = [operation.as_str(), PROVIDER, model.as_str()];
            self.gen_ai.next_chunk.with_label_values(&labels)
        };
        Gaps {
            pool: self.inter_token(pool),
            model: generates.map(of),
        }
    }

    /// Counts a request under the names of OpenTelemetry.
    pub fn gen_ai(&self, request: GenAiRequest<'_>) {
        let base = [request.operation.as_str(), PROVIDER, request.model.as_str()];
        let with = |last| [base[0], base[1], base[2], last];
        let is_ok = request.outcome == Outcome::Ok;
        let error = if is_ok { "" } else { request.outcome.as_str() };
        let names = &self.gen_ai;
        for duration in [&names.duration, &names.operation] {
            let duration = duration.with_label_values(&with(error));
            duration.observe(request.took.as_secs_f64());
        }
        let usage = request.usage;
        if usage.prompt > 0 {
            for (kind, count) in [("input", usage.prompt), ("output", usage.completion)] {
                let tokens = names.tokens.with_label_values(&with(kind));
                tokens.observe(count as f64);
            }
        }
        let (true, Some(ttft)) = (is_ok, request.ttft) else {
            return;
        };
        for first in [&names.first, &names.chunk] {
            let first = first.with_label_values(&base);
            first.observe(ttft.as_secs_f64());
        }
        if usage.completion > 1 {
            let rest = request.took.saturating_sub(ttft).as_secs_f64();
            let next = names.next.with_label_values(&base);
            next.observe(rest / (usage.completion - 1) as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::text;
    use super::*;

    fn request(outcome: Outcome) -> GenAiRequest<'static> {
        GenAiRequest {
            operation: Operation::Chat,
            model: Configured::name("qwen-*"),
            outcome,
            took: Duration::from_secs(5),
            ttft: Some(Duration::from_secs(1)),
            usage: Usage {
                prompt: 1000,
                completion: 41,
                cached: 900,
            },
        }
    }

    #[test]
    fn an_answer_has_all_and_a_failure_no_pace() {
        let metrics = Metrics::new().unwrap();
        metrics.gen_ai(request(Outcome::Ok));
        metrics.gen_ai(request(Outcome::Timeout));
        let text = text(&metrics);
        let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="llama.cpp",gen_ai_request_model="qwen-*""#;
        for line in [
            format!(r#"gen_ai_server_request_duration_seconds_sum{{error_type="",{labels}}} 5"#),
            format!(
                r#"gen_ai_server_request_duration_seconds_count{{error_type="timeout",{labels}}} 1"#
            ),
            format!(r#"gen_ai_client_operation_duration_seconds_sum{{error_type="",{labels}}} 5"#),
            format!("gen_ai_client_operation_time_to_first_chunk_seconds_sum{{{labels}}} 1"),
            format!("gen_ai_server_time_to_first_token_seconds_sum{{{labels}}} 1"),
            format!("gen_ai_server_time_per_output_token_seconds_sum{{{labels}}} 0.1"),
            format!(r#"gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="input"}} 2000"#),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
    }

    #[test]
    fn a_gap_is_counted_under_both_names() {
        let metrics = Metrics::new().unwrap();
        let pool = Configured::name("p");
        let gap = Duration::from_millis(250);
        metrics.gaps(pool, None).observe(gap);
        let generates = (Operation::Chat, Configured::name("qwen-*"));
        metrics.gaps(pool, Some(generates)).observe(gap);
        let text = text(&metrics);
        let of_pool = r#"drover_inter_token_seconds_sum{pool="p"} 0.5"#;
        assert!(text.contains(of_pool), "{text}");
        let name = "gen_ai_client_operation_time_per_output_chunk_seconds";
        let sums = text
            .lines()
            .filter(|l| l.starts_with(&format!("{name}_sum")));
        let sums: Vec<_> = sums.collect();
        assert_eq!(sums.len(), 1, "{sums:?}");
        assert!(
            sums[0].ends_with(r#"gen_ai_request_model="qwen-*"} 0.25"#),
            "{sums:?}"
        );
    }
}
