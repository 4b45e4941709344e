//! Speculative decoding: what turns ask for.

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
        if let Some(rate) = seen.decode_rate() {
            series.decode.with_label_values(&labels).observe(rate);
        }
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
    use crate::spec::{Drafts, Place, RequestClass, StopKind, Stratum};
    use crate::turn::Timings;

    fn seen(build: &str) -> Observation {
        Observation {
            place: Place {
                pool: "p".into(),
                backend: "b".into(),
                profile: "ngram-mod".into(),
                build: build.into(),
            },
            stratum: Stratum::new(RequestClass::Edit, 1),
            timings: Some(Timings {
                predicted_n: 100,
                predicted_ms: 2000.0,
                ..Timings::default()
            }),
            drafts: Drafts {
                drafted: 90,
                accepted: 60,
                steps: 20,
            },
            ttft: None,
            stop: StopKind::End,
            expected_cached: None,
            malformed: false,
            looping: false,
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
