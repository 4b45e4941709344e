//! The `timings` and `usage` objects of answers.

use serde::Serialize;

use super::answer::{put, write_json};

/// The `timings` object. Milliseconds are those of the simulated clock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Timings {
    pub(crate) cache_n: usize,
    pub(crate) prompt_n: usize,
    pub(crate) prompt_ms: f64,
    pub(crate) predicted_n: usize,
    pub(crate) predicted_ms: f64,
    pub(crate) draft_n: u64,
    pub(crate) draft_n_accepted: u64,
}

#[derive(Serialize)]
struct TimingsJson {
    cache_n: usize,
    prompt_n: usize,
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    predicted_n: usize,
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    draft_n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    draft_n_accepted: Option<u64>,
}

impl Timings {
    /// Appends `"timings":{…}`. The rates after the prompt use one step less than tokens.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        let micros = |ms: f64| (ms * 1e3).round() / 1e3;
        let (prompt_ms, predicted_ms) = (micros(self.prompt_ms), micros(self.predicted_ms));
        let steps = self.predicted_n.saturating_sub(1) as f64;
        let drafted = self.draft_n > 0;
        let json = TimingsJson {
            cache_n: self.cache_n,
            prompt_n: self.prompt_n,
            prompt_ms,
            prompt_per_token_ms: ratio(prompt_ms, self.prompt_n as f64),
            prompt_per_second: ratio(self.prompt_n as f64 * 1e3, prompt_ms),
            predicted_n: self.predicted_n,
            predicted_ms,
            predicted_per_token_ms: ratio(predicted_ms, steps),
            predicted_per_second: ratio(steps * 1e3, predicted_ms),
            draft_n: drafted.then_some(self.draft_n),
            draft_n_accepted: drafted.then_some(self.draft_n_accepted),
        };
        out.extend_from_slice(b"\"timings\":");
        write_json(out, &json);
    }

    /// Appends `"usage":{…}`.
    pub(crate) fn write_usage(&self, out: &mut Vec<u8>) {
        let prompt = self.cache_n + self.prompt_n;
        put(
            out,
            format_args!(
                "\"usage\":{{\"completion_tokens\":{},\"prompt_tokens\":{prompt},\"total_tokens\":{},\"prompt_tokens_details\":{{\"cached_tokens\":{}}}}}",
                self.predicted_n,
                prompt + self.predicted_n,
                self.cache_n
            ),
        );
    }
}
