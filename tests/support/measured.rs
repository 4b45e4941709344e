//! Answers with the timings that a test wants to see.

use serde_json::json;

use super::script::{DONE, Reply, chunk, finish, role, text};

/// What a backend says that it measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) cached: u64,
    pub(crate) prompt: u64,
    pub(crate) prompt_ms: f64,
    pub(crate) generated: u64,
    pub(crate) generated_ms: f64,
    /// Drafts, and tokens of each: proposed and accepted.
    pub(crate) steps: u64,
    pub(crate) drafted: u64,
    pub(crate) accepted: u64,
}

impl Measured {
    /// 64 tokens at about 40 a second, 3 of 4 drafted tokens accepted; number `n` is a little off.
    pub(crate) fn usual(n: u64) -> Self {
        let wobble = 1.0 + 0.02 * (n % 5) as f64;
        Self {
            cached: 900,
            prompt: 100,
            prompt_ms: 100.0 * wobble,
            generated: 64,
            generated_ms: 1600.0 * wobble,
            steps: 16,
            drafted: 4,
            accepted: if n.is_multiple_of(2) { 3 } else { 2 },
        }
    }

    /// The answer that tells it, in every chunk as with `timings_per_token`.
    pub(crate) fn reply(self) -> Reply {
        let told = (1..=self.steps.max(1)).fold(Reply::stream().event(&role()), |reply, step| {
            reply.event(&self.piece(step.min(self.steps)))
        });
        told.event(&finish("stop"))
            .event(&chunk(json!([]), self.timings(self.steps)))
            .piece(DONE)
            .end()
    }

    fn piece(self, step: u64) -> serde_json::Value {
        let mut piece = text("so ");
        piece["timings"] = self.timings(step)["timings"].clone();
        piece
    }

    pub(crate) fn timings(self, step: u64) -> serde_json::Value {
        let mut timings = json!({
            "cache_n": self.cached, "prompt_n": self.prompt, "prompt_ms": self.prompt_ms,
            "predicted_n": self.generated, "predicted_ms": self.generated_ms,
        });
        if self.drafted * step > 0 {
            timings["draft_n"] = json!(self.drafted * step);
            timings["draft_n_accepted"] = json!(self.accepted * step);
        }
        let usage = json!({
            "prompt_tokens": self.cached + self.prompt, "completion_tokens": self.generated,
            "total_tokens": self.cached + self.prompt + self.generated,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        });
        json!({"timings": timings, "usage": usage})
    }
}
