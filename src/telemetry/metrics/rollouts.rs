//! Rollouts: where each is, and what came of its sides.

use std::collections::BTreeSet;

use prometheus::GaugeVec;

use super::Metrics;
use super::declare::series;
use crate::spec::rollout::{Arm, Estimate, Phase, Shares, Verdict};
use crate::telemetry::labels::Configured;

series! {
    /// Series of rollouts.
    Rollouts, "Rollouts" {
        state: gauges(
            "drover_rollout_state",
            "1 for the state that a rollout is in, 0 for the others.",
            &["rollout", "state"],
        );
        share: gauges(
            "drover_rollout_share_ratio",
            "Share of the sessions that the candidate has, and the control, from 0 to 1.",
            &["rollout", "arm"],
        );
        difference: gauges(
            "drover_rollout_difference_ratio",
            "Difference of candidate and control in this step, relative to the control: 0.05 is 5 % more. The bounds are \
             those that promotion goes by; they hold however often one looks.",
            &["rollout", "metric", "class", "busy", "bound"],
        );
        turns: counters(
            "drover_rollout_turns_total",
            "Turns of the sides of a rollout that were compared.",
            &["rollout", "arm"],
        );
        elsewhere: counters(
            "drover_rollout_elsewhere_total",
            "Turns that ran elsewhere than on their side, which had no room: they were not compared.",
            &["rollout", "arm"],
        );
        verdicts: counters(
            "drover_rollout_verdicts_total",
            "Steps that were judged.",
            &["rollout", "verdict"],
        );
        webhooks: counters(
            "drover_rollout_webhooks_total",
            "Verdicts told to a webhook, by whether it took them.",
            &["rollout", "result"],
        );
    }
}

impl Rollouts {
    /// From 0 on, so that the first one is an increase.
    fn start_at_zero(&self, rollout: &str) {
        for verdict in Verdict::ALL {
            self.verdicts
                .with_label_values(&[rollout, verdict.as_str()]);
        }
        for arm in Arm::ALL.into_iter().filter(|arm| arm.is_compared()) {
            self.turns.with_label_values(&[rollout, arm.as_str()]);
            self.elsewhere.with_label_values(&[rollout, arm.as_str()]);
        }
        for result in ["sent", "failed"] {
            self.webhooks.with_label_values(&[rollout, result]);
        }
    }
}

/// Label values of gauges that are shown.
pub(super) type Shown = BTreeSet<(&'static str, Vec<String>)>;

/// A rollout, as its gauges show it.
#[derive(Clone, Debug)]
pub struct RolloutSample<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it is.
    pub phase: Phase,
    /// Shares of the sessions.
    pub shares: Shares,
    /// What is known of the differences.
    pub estimates: &'a [Estimate],
}

impl Metrics {
    /// Shows these rollouts, and no others.
    pub fn rollouts(&self, all: &[RolloutSample<'_>]) {
        let mut now = Shown::new();
        for sample in all {
            self.show_rollout(sample, &mut now);
            self.rollouts.start_at_zero(sample.name);
        }
        let mut shown = self.rolling.lock();
        for (gauge, labels) in shown.difference(&now) {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            // It may be gone already.
            let _ = self.gauge(gauge).remove_label_values(&labels);
        }
        *shown = now;
    }

    fn show_rollout(&self, sample: &RolloutSample<'_>, now: &mut Shown) {
        let name = sample.name;
        let mut set = |gauge: &'static str, labels: &[&str], value: f64| {
            self.gauge(gauge).with_label_values(labels).set(value);
            now.insert((
                gauge,
                labels.iter().map(|label| (*label).to_owned()).collect(),
            ));
        };
        for phase in Phase::ALL {
            let is_it = f64::from(u8::from(phase == sample.phase));
            set("state", &[name, phase.as_str()], is_it);
        }
        set(
            "share",
            &[name, Arm::Candidate.as_str()],
            sample.shares.candidate,
        );
        set(
            "share",
            &[name, Arm::Control.as_str()],
            sample.shares.control,
        );
        for estimate in sample.estimates {
            let class = estimate.stratum.class.as_str();
            let busy = estimate.stratum.busy.to_string();
            for (bound, value) in [
                ("low", estimate.low),
                ("mean", Some(estimate.difference)),
                ("high", estimate.high),
            ] {
                if let Some(value) = value {
                    set(
                        "difference",
                        &[name, estimate.metric, class, &busy, bound],
                        value,
                    );
                }
            }
        }
    }

    fn gauge(&self, name: &str) -> &GaugeVec {
        match name {
            "state" => &self.rollouts.state,
            "share" => &self.rollouts.share,
            _ => &self.rollouts.difference,
        }
    }

    /// Counts a turn of a side: whether it ran there, and is compared.
    pub fn rollout_turn(&self, rollout: Configured<'_>, arm: Arm, compared: bool) {
        let turns = match compared {
            true => &self.rollouts.turns,
            false => &self.rollouts.elsewhere,
        };
        turns
            .with_label_values(&[rollout.as_str(), arm.as_str()])
            .inc();
    }

    /// Counts a verdict.
    pub fn rollout_verdict(&self, rollout: Configured<'_>, verdict: Verdict) {
        let labels = [rollout.as_str(), verdict.as_str()];
        self.rollouts.verdicts.with_label_values(&labels).inc();
    }

    /// Counts what became of telling a verdict.
    pub fn rollout_webhook(&self, rollout: Configured<'_>, taken: bool) {
        let result = if taken { "sent" } else { "failed" };
        let labels = [rollout.as_str(), result];
        self.rollouts.webhooks.with_label_values(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::text;
    use super::*;
    use crate::spec::{RequestClass, Stratum};

    #[test]
    fn gauges_show_what_is_and_nothing_else() {
        let metrics = Metrics::new().unwrap();
        let estimate = Estimate {
            stratum: Stratum::new(RequestClass::Edit, 2),
            metric: "decode_tps",
            candidate: (40.0, 90),
            control: (20.0, 80),
            difference: 1.0,
            low: Some(0.8),
            high: None,
        };
        let sample = RolloutSample {
            name: "r",
            phase: Phase::Running,
            shares: Shares::of(0.25),
            estimates: &[estimate],
        };
        metrics.rollouts(std::slice::from_ref(&sample));
        let now = text(&metrics);
        for line in [
            r#"drover_rollout_state{rollout="r",state="running"} 1"#,
            r#"drover_rollout_state{rollout="r",state="held"} 0"#,
            r#"drover_rollout_share_ratio{arm="control",rollout="r"} 0.25"#,
            r#"drover_rollout_difference_ratio{bound="low",busy="2",class="edit",metric="decode_tps",rollout="r"} 0.8"#,
            r#"drover_rollout_verdicts_total{rollout="r",verdict="failed"} 0"#,
        ] {
            assert!(now.contains(line), "{line} in {now}");
        }
        assert!(!now.contains(r#"bound="high""#), "unknown");
        metrics.rollouts(&[RolloutSample {
            estimates: &[],
            ..sample
        }]);
        assert!(!text(&metrics).contains("drover_rollout_difference_ratio{"));
        metrics.rollouts(&[]);
        assert!(!text(&metrics).contains("drover_rollout_state{"));
    }
}
