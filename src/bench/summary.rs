//! From turns to what they add up to.

use statrs::statistics::{Data, OrderStatistics};

use super::artifact::{Counters, Percentiles, StopReason, Summary, TurnResult};

/// Fewest tokens that tell a speed: of fewer the first step's latency is what is measured.
const LEAST: u64 = 16;

impl TurnResult {
    /// Generated tokens a second; none of few tokens.
    pub fn decode_tps(&self) -> Option<f64> {
        rate(self.generated_tokens, self.generated_ms)
    }

    /// Evaluated prompt tokens a second; none of few tokens.
    pub fn prefill_tps(&self) -> Option<f64> {
        rate(self.prompt_tokens, self.prompt_ms)
    }

    /// Whether it was answered.
    pub fn is_answered(&self) -> bool {
        self.stop != StopReason::Failed
    }
}

fn rate(tokens: u64, ms: f64) -> Option<f64> {
    (tokens >= LEAST && ms > 0.0).then(|| tokens as f64 * 1000.0 / ms)
}

impl Counters {
    /// Part of the drafted tokens that was accepted.
    pub fn acceptance(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }

    /// Tokens a verified draft brings, the one that the model adds itself included.
    pub fn accept_length(&self) -> Option<f64> {
        (self.verify_steps > 0).then(|| self.accepted as f64 / self.verify_steps as f64 + 1.0)
    }

    pub(super) fn add(&mut self, more: Self) {
        self.drafted += more.drafted;
        self.accepted += more.accepted;
        self.verify_steps += more.verify_steps;
    }

    /// What was counted since `before`; a counter that fell was reset.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            drafted: self.drafted.saturating_sub(before.drafted),
            accepted: self.accepted.saturating_sub(before.accepted),
            verify_steps: self.verify_steps.saturating_sub(before.verify_steps),
        }
    }
}

impl Percentiles {
    /// Of finite numbers; none of none.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        if values.is_empty() {
            return None;
        }
        let mut data = Data::new(values);
        Some(Self {
            p5: data.quantile(0.05),
            p50: data.quantile(0.5),
            p95: data.quantile(0.95),
        })
    }
}

impl Summary {
    /// What `turns` add up to. Times and speeds are of those that were answered.
    pub fn of(turns: &[TurnResult]) -> Self {
        let answered = || turns.iter().filter(|turn| turn.is_answered());
        let mut drafts = Counters::default();
        answered().for_each(|turn| drafts.add(turn.drafts));
        let mut summary = Self {
            turns: turns.len() as u64,
            latency_ms: Percentiles::of(answered().map(|turn| turn.latency_ms)),
            ttft_ms: Percentiles::of(answered().filter_map(|turn| turn.ttft_ms)),
            decode_tps: Percentiles::of(answered().filter_map(TurnResult::decode_tps)),
            prefill_tps: Percentiles::of(answered().filter_map(TurnResult::prefill_tps)),
            drafts,
            acceptance: drafts.acceptance(),
            accept_length: drafts.accept_length(),
            rolled_back: drafts.drafted.saturating_sub(drafts.accepted),
            generated_tokens: answered().map(|turn| turn.generated_tokens).sum(),
            malformed_rate: None,
            stops: std::collections::BTreeMap::new(),
            classes: std::collections::BTreeMap::new(),
        };
        for turn in turns {
            *summary.stops.entry(turn.stop).or_default() += 1;
            if let Some(class) = turn.class {
                *summary.classes.entry(class).or_default() += 1;
            }
        }
        let malformed = turns.iter().filter(|turn| turn.malformed).count();
        if !turns.is_empty() {
            summary.malformed_rate = Some(malformed as f64 / turns.len() as f64);
        }
        summary
    }
}
