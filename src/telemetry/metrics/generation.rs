//! What backends say of their own work in `timings`: decoding, and drafts of speculative decoding.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts};

use super::Metrics;
use super::declare::series;
use crate::telemetry::BackendSample;
use crate::telemetry::labels::Configured;
use crate::turn::Timings;

series! {
    /// Series of generation.
    Generation, "Generation" {
        tokens: counters(
            "drover_decode_tokens_total",
            "Tokens after the first of an answer, of turns whose last attempt brought its timings. \
             By drover_decode_seconds_total: the speed of one answer.",
            &["pool", "backend"],
        );
        seconds: float_counters(
            "drover_decode_seconds_total",
            "Time the backends spent on drover_decode_tokens_total.",
            &["pool", "backend"],
        );
        drafted: counters(
            "drover_spec_drafted_tokens_total",
            "Tokens that speculative decoding proposed, in the last attempts of turns.",
            &["pool", "backend"],
        );
        accepted: counters(
            "drover_spec_accepted_tokens_total",
            "Those of drover_spec_drafted_tokens_total that the model agreed with.",
            &["pool", "backend"],
        );
        drafts: counters(
            "drover_spec_drafts_total",
            "Drafts of drover_spec_drafted_tokens_total that were verified, where the stream tells them apart.",
            &["pool", "backend"],
        );
        rolled_back: counters(
            "drover_spec_rolled_back_tokens_total",
            "Those of drover_spec_drafted_tokens_total that were thrown away.",
            &["pool", "backend"],
        );
    }
}

/// What became of drafts, under the names of vLLM.
const DRAFTS: [(&str, &str); 3] = [
    (
        "vllm:spec_decode_num_drafts_total",
        "Drafts that were verified.",
    ),
    (
        "vllm:spec_decode_num_draft_tokens_total",
        "Tokens that were drafted.",
    ),
    (
        "vllm:spec_decode_num_accepted_tokens_total",
        "Those of them that were accepted.",
    ),
];

impl Generation {
    /// What became of `backend`'s drafts under the names of vLLM, which dashboards of model servers know: by the server's
    /// own count since its start, or, where it shows none, by what this gateway has seen. All are of one source, so that
    /// one may be divided by another.
    pub(super) fn aliases(&self, backend: &BackendSample) -> prometheus::Result<Vec<MetricFamily>> {
        let labels = [&*backend.pool, &*backend.backend];
        let seen = |of: &IntCounterVec| of.with_label_values(&labels).get();
        let counts = match &backend.drafts {
            Some(own) => [own.drafts, own.drafted, own.accepted],
            None => [&self.drafts, &self.drafted, &self.accepted].map(seen),
        };
        let mut families = Vec::new();
        for ((name, help), count) in DRAFTS.into_iter().zip(counts) {
            let alias = IntCounterVec::new(Opts::new(name, help), &["model_name"])?;
            alias.with_label_values(&[&*backend.model]).inc_by(count);
            families.extend(alias.collect());
        }
        let positions = backend.drafts.iter().flat_map(|own| &own.at_position);
        let by_position = IntCounterVec::new(
            Opts::new(
                "vllm:spec_decode_num_accepted_tokens_per_pos_total",
                "Accepted tokens by their position in the draft.",
            ),
            &["model_name", "position"],
        )?;
        for (position, count) in positions.enumerate() {
            let labels = [&*backend.model, &position.to_string()];
            by_position.with_label_values(&labels).inc_by(*count);
        }
        // A family without a series is no valid exposition.
        let by_position = by_position.collect().into_iter();
        families.extend(by_position.filter(|family| !family.get_metric().is_empty()));
        Ok(families)
    }
}

impl Metrics {
    /// Counts what `backend` has said of an answer. `steps` are its drafts that were verified, where that is known.
    pub fn generated(
        &self,
        pool: Configured<'_>,
        backend: Configured<'_>,
        timings: &Timings,
        steps: Option<u64>,
    ) {
        let series = &self.generation;
        let labels = [pool.as_str(), backend.as_str()];
        // The first token falls out of the prompt: its time is the prompt's.
        let tokens = timings.predicted_n.saturating_sub(1);
        let seconds = timings.predicted_ms / 1000.0;
        if tokens > 0 && seconds.is_finite() && seconds > 0.0 {
            series.tokens.with_label_values(&labels).inc_by(tokens);
            series.seconds.with_label_values(&labels).inc_by(seconds);
        }
        let drafted = timings.draft_n.unwrap_or(0);
        if drafted == 0 {
            return;
        }
        let accepted = timings.draft_n_accepted.unwrap_or(0).min(drafted);
        for (counters, count) in [
            (&series.drafts, steps.unwrap_or(0)),
            (&series.drafted, drafted),
            (&series.accepted, accepted),
            (&series.rolled_back, drafted - accepted),
        ] {
            counters.with_label_values(&labels).inc_by(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::text;
    use super::*;

    fn counted(timings: &Timings) -> String {
        let metrics = Metrics::new().unwrap();
        let (pool, backend) = (Configured::name("p"), Configured::name("b"));
        metrics.generated(pool, backend, timings, Some(25));
        text(&metrics)
    }

    #[test]
    fn drafts_are_accepted_or_rolled_back() {
        let text = counted(&Timings {
            predicted_n: 101,
            predicted_ms: 2500.0,
            draft_n: Some(80),
            draft_n_accepted: Some(60),
            ..Timings::default()
        });
        for line in [
            r#"drover_decode_tokens_total{backend="b",pool="p"} 100"#,
            r#"drover_decode_seconds_total{backend="b",pool="p"} 2.5"#,
            r#"drover_spec_drafts_total{backend="b",pool="p"} 25"#,
            r#"drover_spec_drafted_tokens_total{backend="b",pool="p"} 80"#,
            r#"drover_spec_accepted_tokens_total{backend="b",pool="p"} 60"#,
            r#"drover_spec_rolled_back_tokens_total{backend="b",pool="p"} 20"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn without_drafts_there_is_no_acceptance_to_show() {
        let text = counted(&Timings {
            predicted_n: 2,
            predicted_ms: 10.0,
            ..Timings::default()
        });
        assert!(text.contains("drover_decode_tokens_total{"));
        for name in ["drafts", "drafted", "accepted", "rolled_back"] {
            assert!(!text.contains(&format!("drover_spec_{name}")), "{text}");
        }
    }

    /// A backend's numbers are not to be trusted: no counter may run backwards or become infinite.
    #[test]
    fn nonsense_is_not_counted() {
        for ms in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            let text = counted(&Timings {
                predicted_n: 9,
                predicted_ms: ms,
                draft_n: Some(1),
                draft_n_accepted: Some(7),
                ..Timings::default()
            });
            assert!(!text.contains("drover_decode_"), "{ms}: {text}");
            assert!(text.contains(r#"drover_spec_accepted_tokens_total{backend="b",pool="p"} 1"#));
        }
    }
}
