//! The counters behind `/metrics`, and their text form.

use std::fmt::Write;

use super::{speculate::Pass, timings::Timings};

/// What a finished or cancelled request adds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passes {
    pub(crate) decodes: u64,
    pub(crate) drafts: u64,
    per_position: Vec<u64>,
}

impl Passes {
    pub(crate) fn add(&mut self, pass: Pass) {
        self.decodes += 1;
        if pass.drafted == 0 {
            return;
        }
        self.drafts += 1;
        let accepted = pass.accepted as usize;
        self.grow(pass.drafted as usize);
        self.per_position[..accepted]
            .iter_mut()
            .for_each(|count| *count += 1);
    }

    fn grow(&mut self, len: usize) {
        if self.per_position.len() < len {
            self.per_position.resize(len, 0);
        }
    }
}

/// All counters of one server since its start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    prompt_tokens: usize,
    cached_tokens: usize,
    prompt_ms: f64,
    predicted: usize,
    predicted_ms: f64,
    most_tokens: usize,
    drafted: u64,
    accepted: u64,
    passes: Passes,
    busy_sum: u64,
    /// Prompt and predicted tokens and milliseconds since the last scrape.
    window: (usize, f64, usize, f64),
}

impl Metrics {
    /// Counts an evaluated prompt.
    pub(crate) fn prompt_done(&mut self, timings: &Timings) {
        self.prompt_tokens += timings.prompt_n;
        self.cached_tokens += timings.cache_n;
        self.prompt_ms += timings.prompt_ms;
        self.window.0 += timings.prompt_n;
        self.window.1 += timings.prompt_ms;
    }

    /// Counts what a request generated, finished or cancelled.
    pub(crate) fn released(&mut self, timings: &Timings, passes: &Passes, busy: usize) {
        self.predicted += timings.predicted_n;
        self.predicted_ms += timings.predicted_ms;
        self.window.2 += timings.predicted_n;
        self.window.3 += timings.predicted_ms;
        self.most_tokens = self
            .most_tokens
            .max(timings.cache_n + timings.prompt_n + timings.predicted_n);
        self.drafted += timings.draft_n;
        self.accepted += timings.draft_n_accepted;
        self.passes.decodes += passes.decodes;
        self.passes.drafts += passes.drafts;
        self.busy_sum += passes.decodes * busy as u64;
        self.passes.grow(passes.per_position.len());
        for (sum, count) in self
            .passes
            .per_position
            .iter_mut()
            .zip(&passes.per_position)
        {
            *sum += count;
        }
    }

    /// The Prometheus text. The two rate gauges cover the time since the previous call, as on the
    /// real server, where every scrape resets them.
    pub(crate) fn scrape(&mut self, processing: usize, deferred: usize) -> String {
        let (prompt, prompt_ms, predicted, predicted_ms) = std::mem::take(&mut self.window);
        let rate = |count: usize, ms: f64| {
            if ms > 0.0 {
                count as f64 / ms * 1e3
            } else {
                0.0
            }
        };
        let decodes = self.passes.decodes;
        let busy = if decodes == 0 {
            0.0
        } else {
            self.busy_sum as f64 / decodes as f64
        };
        let mut out = String::with_capacity(4096);
        let mut series = |name: &str, kind: &str, help: &str, value: f64| {
            let value = significant(value);
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "# HELP llamacpp:{name} {help}\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n"
            );
        };
        let mut counter = |name, help, value| series(name, "counter", help, value);
        counter(
            "prompt_tokens_total",
            "Number of prompt tokens processed, excluding cached tokens",
            self.prompt_tokens as f64,
        );
        counter(
            "prompt_tokens_cached_total",
            "Number of prompt tokens reused from the cache",
            self.cached_tokens as f64,
        );
        counter(
            "prompt_seconds_total",
            "Total time spent processing prompts",
            self.prompt_ms / 1e3,
        );
        counter(
            "tokens_predicted_total",
            "Number of generation tokens processed",
            self.predicted as f64,
        );
        counter(
            "tokens_predicted_seconds_total",
            "Total time spent generating tokens",
            self.predicted_ms / 1e3,
        );
        counter(
            "n_decode_total",
            "Total number of llama_decode() calls, excluding speculative decoding and multimodal decoding",
            decodes as f64,
        );
        counter(
            "n_tokens_max",
            "Largest observed sequence length (prompt + generation)",
            self.most_tokens as f64,
        );
        counter(
            "spec_decode_num_draft_tokens_total",
            "Speculative: Total draft tokens generated",
            self.drafted as f64,
        );
        counter(
            "spec_decode_num_accepted_tokens_total",
            "Speculative: Total draft tokens accepted by the target model",
            self.accepted as f64,
        );
        counter(
            "spec_decode_num_drafts_total",
            "Speculative: Total speculative decoding verification steps",
            self.passes.drafts as f64,
        );
        let mut gauge = |name, help, value| series(name, "gauge", help, value);
        gauge(
            "prompt_tokens_seconds",
            "Average prompt throughput in tokens/s",
            rate(prompt, prompt_ms),
        );
        gauge(
            "predicted_tokens_seconds",
            "Average generation throughput in tokens/s",
            rate(predicted, predicted_ms),
        );
        gauge(
            "requests_processing",
            "Number of requests processing",
            processing as f64,
        );
        gauge(
            "requests_deferred",
            "Number of requests deferred",
            deferred as f64,
        );
        gauge(
            "n_busy_slots_per_decode",
            "Average number of busy slots per llama_decode() call",
            busy,
        );
        self.positions(&mut out);
        out
    }

    fn positions(&self, out: &mut String) {
        const NAME: &str = "llamacpp:spec_decode_num_accepted_tokens_per_pos_total";
        if self.passes.per_position.is_empty() {
            return;
        }
        let _ = write!(
            out,
            "# HELP {NAME} Accepted tokens per draft position\n# TYPE {NAME} counter\n"
        );
        for (position, count) in self.passes.per_position.iter().enumerate() {
            let _ = writeln!(out, "{NAME}{{position=\"{position}\"}} {count}");
        }
    }
}

/// Six significant digits for fractions, like a C++ stream; whole numbers in full.
fn significant(value: f64) -> String {
    if value.fract() == 0.0 || value == 0.0 {
        return format!("{value}");
    }
    let digits = (5 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_like_those_of_the_real_server() {
        assert_eq!(significant(2.410_471), "2.41047");
        assert_eq!(significant(18.516_449), "18.5164");
        assert_eq!(significant(127.112_3), "127.112");
        assert_eq!(significant(0.0), "0");
        assert_eq!(significant(20_000_000.0), "20000000");
        assert_eq!(significant(1.003_82), "1.00382");
    }

    #[test]
    fn gauges_are_reset_by_a_scrape_and_positions_count() {
        let mut metrics = Metrics::default();
        assert!(!metrics.scrape(0, 0).contains("per_pos"));
        let mut passes = Passes::default();
        passes.add(Pass {
            drafted: 3,
            accepted: 2,
        });
        passes.add(Pass {
            drafted: 0,
            accepted: 0,
        });
        let timings = Timings {
            predicted_n: 4,
            predicted_ms: 100.0,
            draft_n: 3,
            draft_n_accepted: 2,
            ..Timings::default()
        };
        metrics.released(&timings, &passes, 1);
        let text = metrics.scrape(1, 2);
        for line in [
            "llamacpp:spec_decode_num_drafts_total 1",
            "llamacpp:n_decode_total 2",
            "llamacpp:predicted_tokens_seconds 40",
            "llamacpp:requests_deferred 2",
            "llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position=\"1\"} 1",
            "llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position=\"2\"} 0",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
        }
        assert!(
            metrics
                .scrape(0, 0)
                .contains("llamacpp:predicted_tokens_seconds 0\n")
        );
    }
}
