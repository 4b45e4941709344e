//! What was done and spent in a session, and in each of its conversations.

use crate::turn::Usage;

/// What was done and spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Turns answered. A client's retry of the last turn is none.
    pub(super) turns: u32,
    /// Answered retries of the last turn.
    pub(super) retries: u32,
    /// Tokens of all answers, those to retries included, since they were spent.
    pub(super) tokens: Usage,
}

/// Counters in less space, which end at 4 billion.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Small {
    pub(super) turns: u32,
    retries: u32,
    prompt: u32,
    cached: u32,
    completion: u32,
}

impl Counters {
    pub(super) fn add(&mut self, is_retry: bool, usage: Usage) {
        match is_retry {
            true => self.retries = self.retries.saturating_add(1),
            false => self.turns = self.turns.saturating_add(1),
        }
        self.tokens.prompt += usage.prompt;
        self.tokens.cached += usage.cached;
        self.tokens.completion += usage.completion;
    }
}

impl Small {
    pub(super) fn add(&mut self, is_retry: bool, usage: Usage) {
        let add = |sum: &mut u32, more: u64| {
            *sum = sum.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        };
        match is_retry {
            true => add(&mut self.retries, 1),
            false => add(&mut self.turns, 1),
        }
        add(&mut self.prompt, usage.prompt);
        add(&mut self.cached, usage.cached);
        add(&mut self.completion, usage.completion);
    }
}

impl From<Small> for Counters {
    fn from(small: Small) -> Self {
        Self {
            turns: small.turns,
            retries: small.retries,
            tokens: Usage {
                prompt: small.prompt.into(),
                cached: small.cached.into(),
                completion: small.completion.into(),
            },
        }
    }
}
