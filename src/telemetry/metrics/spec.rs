//! Speculative decoding: what turns ask for.

use prometheus::HistogramVec;

use super::Metrics;
use super::declare::series;
use crate::fleet::Profiled;
use crate::spec::{Observation, Signature};
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
        tokens: counters(
            "drover_spec_tokens_total",
            "Tokens of answers by what their backend ran and by the class of the request: generated, drafted, \
             accepted, rolled back.",
            &["pool", "profile", "build", "class", "kind"],
        );
        steps: counters(
            "drover_spec_verify_steps_total",
            "Drafts that were verified. Accepted tokens by these, plus 1: the accept length.",
            &["pool", "profile", "build", "class"],
        );
        accept_length: histograms(
            "drover_spec_accept_length",
            "Tokens that a verified draft brought, the model's own included: the mean of an answer.",
            &["pool", "profile", "build", "class"],
            &[1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0],
        );
        decode: histograms(
            "drover_spec_decode_tokens_per_second",
            "Generated tokens a second of an answer of 16 tokens or more, as its backend timed it.",
            &["pool", "profile", "build", "class"],
            &[1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0, 160.0, 240.0, 400.0, 800.0],
        );
        prefill: histograms(
            "drover_spec_prefill_tokens_per_second",
            "Evaluated prompt tokens a second of a prompt of which 64 or more were evaluated, as its backend timed it.",
            &["pool", "profile", "build", "class"],
            &[10.0, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1500.0, 3000.0, 6000.0, 12000.0],
        );
        ttft: histograms(
            "drover_spec_first_token_seconds",
            "From a request to the first content of its answer, where one attempt served it.",
            &["pool", "profile", "build", "class"],
            &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0],
        );
        attempts: counters(
            "drover_spec_attempts_total",
            "Attempts by how they ended.",
            &["pool", "profile", "build", "class", "end"],
        );
        signs: counters(
            "drover_spec_bad_answers_total",
            "Answers with a call that could not be used, or that went round in circles.",
            &["pool", "profile", "build", "class", "sign"],
        );
        answers: counters(
            "drover_spec_answers_total",
            "Answers by the class of the request and by what came out: reported only, nothing is decided by it.",
            &["pool", "class", "answer"],
        );
        changes: counters(
            "drover_backend_changes_total",
            "Changes of what a backend shows of itself: build, model, profile, or a flag. `/api/spec` tells what it was.",
            &["pool", "backend", "what"],
        );
        findings: counters(
            "drover_spec_findings_total",
            "Regressions found: what each means is told with its evidence in /api/spec/findings.",
            &["signature"],
        );
    }
}

/// Builds that have series of their own; a backend that tells a new one each time must not make series without end.
const MOST_BUILDS: usize = 64;

impl Spec {
    /// From 0 on, so that the first one is an increase.
    pub(super) fn start_at_zero(&self) {
        for signature in Signature::ALL {
            self.findings.with_label_values(&[signature.as_str()]);
        }
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

    /// Counts what came of an answer.
    pub fn spec_seen(&self, seen: &Observation) {
        let (place, class) = (&seen.place, seen.stratum.class.as_str());
        let build = self.known_build(&place.build);
        let labels = [&*place.pool, &*place.profile, build, class];
        let series = &self.spec;
        let generated = seen.timings.map_or(0, |timings| timings.predicted_n);
        let drafts = &seen.drafts;
        for (kind, count) in [
            ("generated", generated),
            ("drafted", drafts.drafted),
            ("accepted", drafts.accepted),
            ("rolled_back", drafts.rolled_back()),
        ] {
            let [pool, profile, build, class] = labels;
            if count > 0 {
                let labels = [pool, profile, build, class, kind];
                series.tokens.with_label_values(&labels).inc_by(count);
            }
        }
        if drafts.steps > 0 {
            series.steps.with_label_values(&labels).inc_by(drafts.steps);
        }
        if let Some(length) = drafts.accept_length() {
            series
                .accept_length
                .with_label_values(&labels)
                .observe(length);
        }
        let observe = |histograms: &HistogramVec, value: Option<f64>| {
            if let Some(value) = value {
                histograms.with_label_values(&labels).observe(value);
            }
        };
        observe(&series.decode, seen.decode_rate());
        observe(&series.prefill, seen.prefill_rate());
        observe(&series.ttft, seen.ttft.map(|time| time.as_secs_f64()));
        self.spec_ended(seen, labels);
    }

    fn spec_ended(&self, seen: &Observation, [pool, profile, build, class]: [&str; 4]) {
        let series = &self.spec;
        let end = [pool, profile, build, class, seen.stop.as_str()];
        series.attempts.with_label_values(&end).inc();
        let signs = [("malformed", seen.malformed), ("looping", seen.looping)];
        for (sign, _) in signs.iter().filter(|(_, there)| *there) {
            let labels = [pool, profile, build, class, sign];
            series.signs.with_label_values(&labels).inc();
        }
        if let Some(answer) = seen.answer {
            let labels = [pool, class, answer.as_str()];
            series.answers.with_label_values(&labels).inc();
        }
    }

    /// Counts a change of what a backend shows.
    pub fn spec_changed(&self, pool: &str, backend: &str, what: &str) {
        let labels = [pool, backend, what];
        self.spec.changes.with_label_values(&labels).inc();
    }

    /// Counts a regression that was found.
    pub fn spec_finding(&self, signature: Signature) {
        let findings = &self.spec.findings;
        findings.with_label_values(&[signature.as_str()]).inc();
    }

    /// `build`, or `other` when there are too many.
    fn known_build<'a>(&self, build: &'a str) -> &'a str {
        let mut builds = self.builds.lock();
        if builds.contains(build) {
            return build;
        }
        if builds.len() >= MOST_BUILDS {
            return "other";
        }
        builds.insert(build.to_owned());
        build
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::text;
    use super::*;
    use std::time::Duration;

    use crate::spec::{AnswerClass, Drafts, Place, RequestClass, StopKind, Stratum};
    use crate::turn::Timings;

    fn seen(build: &str) -> Observation {
        Observation {
            place: Place::new("p", "b", "ngram-mod", build),
            stratum: Stratum::new(RequestClass::Edit, 1),
            timings: Some(Timings {
                predicted_n: 100,
                predicted_ms: 2000.0,
                prompt_n: 300,
                prompt_ms: 1000.0,
                ..Timings::default()
            }),
            drafts: Drafts {
                drafted: 90,
                accepted: 60,
                steps: 20,
            },
            ttft: Some(Duration::from_millis(300)),
            stop: StopKind::End,
            expected_cached: None,
            malformed: true,
            looping: false,
            answer: Some(AnswerClass::ToolCall),
        }
    }

    #[test]
    fn what_came_of_an_answer_is_counted_by_what_ran() {
        let metrics = Metrics::new().unwrap();
        metrics.spec_seen(&seen("b1"));
        let text = text(&metrics);
        let at = r#"build="b1",class="edit""#;
        let of = r#"pool="p",profile="ngram-mod""#;
        for line in [
            format!(r#"drover_spec_tokens_total{{{at},kind="rolled_back",{of}}} 30"#),
            format!(r#"drover_spec_tokens_total{{{at},kind="generated",{of}}} 100"#),
            format!("drover_spec_verify_steps_total{{{at},{of}}} 20"),
            format!("drover_spec_accept_length_sum{{{at},{of}}} 4"),
            format!("drover_spec_decode_tokens_per_second_sum{{{at},{of}}} 50"),
            format!("drover_spec_prefill_tokens_per_second_sum{{{at},{of}}} 300"),
            format!("drover_spec_first_token_seconds_sum{{{at},{of}}} 0.3"),
            format!(r#"drover_spec_attempts_total{{{at},end="end",{of}}} 1"#),
            format!(r#"drover_spec_bad_answers_total{{{at},{of},sign="malformed"}} 1"#),
            r#"drover_spec_answers_total{answer="tool_call",class="edit",pool="p"} 1"#.to_owned(),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
    }

    #[test]
    fn builds_without_end_make_no_series_without_end() {
        let metrics = Metrics::new().unwrap();
        for n in 0..1000 {
            metrics.spec_seen(&seen(&format!("b{n}")));
        }
        let series = text(&metrics);
        let lines = series
            .lines()
            .filter(|l| l.starts_with("drover_spec_verify_steps_total{"));
        assert_eq!(lines.count(), MOST_BUILDS + 1);
        assert!(series.contains(r#"build="other""#));
    }
}
