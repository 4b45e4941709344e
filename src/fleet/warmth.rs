//! What a backend probably has in its KV cache: a model of its slots, fed with what was sent to it.
//!
//! llama-server keeps the prompt of a slot until another request takes the slot, least recently used
//! first, and keeps some more in host memory (`--cache-ram`). It tells nothing of this; what it found
//! is known only afterwards, from the usage of the answer.

use std::time::Duration;

use tokio::time::Instant;

use super::admission::Mean;

/// Conversations remembered for each slot: those in the slots, and as many again beside them, in host
/// memory.
const PER_SLOT: usize = 4;
/// Tokens of a conversation that is worth a place of its own: less is read anew sooner than anybody waits. Titles and
/// other small requests that never come back have fewer.
const WORTH_A_PLACE: u64 = 256;
/// Multiple of the mean time between two turns of a conversation after which it is thought to have ended. Of exponential
/// times one in twenty is longer.
const AWAY: f64 = 3.0;
/// Slots of a backend that does not say, and the most that count.
const UNKNOWN_SLOTS: u32 = 4;
const MOST_SLOTS: u32 = 64;

/// Slots to reckon with.
fn reckoned(slots: Option<u32>) -> usize {
    slots.unwrap_or(UNKNOWN_SLOTS).clamp(1, MOST_SLOTS) as usize
}

/// Beginning of a prompt that does not change from turn to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Hash of it.
    pub hash: u64,
    /// Its length in tokens, estimated.
    pub tokens: u64,
}

/// A turn that begins somewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) conversation: u64,
    pub(super) prefix: Option<Prefix>,
    /// Of its prompt, estimated.
    pub(super) tokens: u64,
}

/// One conversation in a cache.
#[derive(Clone, Copy, Debug)]
struct Held {
    conversation: u64,
    prefix: Option<Prefix>,
    /// Of its prompt and last answer; 0 while its first turn is under way.
    tokens: u64,
    /// Of the prompt of its last turn, estimated when that began.
    estimated: u64,
    at: Instant,
}

impl Held {
    fn is_worth_a_place(&self) -> bool {
        self.tokens.max(self.estimated) >= WORTH_A_PLACE
    }
}

/// The conversations of one backend, the most recently used last.
#[derive(Clone, Debug, Default)]
pub(super) struct Warmth {
    held: Vec<Held>,
    /// How often the backend had lost its caches.
    losses: u64,
    /// Conversations were lost with one of them.
    lost: bool,
    /// Seconds from one turn of a conversation to its next.
    returns: Mean,
    /// None after a change.
    counted: Option<Counted>,
}

/// How many are expected, as long as nothing changes.
#[derive(Clone, Copy, Debug)]
struct Counted {
    expected: usize,
    until: Instant,
}

impl Warmth {
    /// A turn begins here.
    pub(super) fn place(&mut self, begun: Begun, slots: Option<u32>, now: Instant) {
        self.counted = None;
        let known = self.take(begun.conversation);
        if let Some(known) = known {
            let away = now.saturating_duration_since(known.at);
            self.returns.add(away.as_secs_f64());
        }
        let room = reckoned(slots) * PER_SLOT;
        let over = (self.held.len() + 1).saturating_sub(room);
        self.held.drain(..over);
        self.held.push(Held {
            conversation: begun.conversation,
            prefix: begun.prefix.or(known.and_then(|held| held.prefix)),
            tokens: known.map_or(0, |held| held.tokens),
            estimated: begun.tokens,
            at: now,
        });
    }

    /// Its turn was answered: `tokens` of prompt and answer are in the cache.
    pub(super) fn fill(&mut self, conversation: u64, tokens: u64) {
        self.counted = None;
        if let Some(held) = self.find(conversation) {
            held.tokens = tokens;
        }
    }

    /// It goes on elsewhere.
    pub(super) fn leave(&mut self, conversation: u64) {
        self.counted = None;
        self.take(conversation);
    }

    /// Conversations used within `lately`, counted up to the number of slots.
    pub(super) fn warm(&self, lately: Duration, slots: Option<u32>, now: Instant) -> usize {
        let recent = self.held.iter().rev().take(reckoned(slots));
        let warm = |held: &&Held| now.saturating_duration_since(held.at) <= lately;
        recent.take_while(warm).count()
    }

    /// Conversations whose next turn should come here: they were here within `lately`, and not longer ago than most stay away.
    /// Counted anew only when something has changed: a selection asks this of each backend.
    pub(super) fn expected(&mut self, lately: Duration, now: Instant) -> usize {
        if let Some(counted) = self.counted.filter(|counted| now <= counted.until) {
            return counted.expected;
        }
        let away = self.returns.get().map(|mean| AWAY * mean);
        let away = away.and_then(|away| Duration::try_from_secs_f64(away).ok());
        let away = away.map_or(lately, |away| away.min(lately));
        let here = |held: &&Held| now.saturating_duration_since(held.at) <= away;
        let recent = self.held.iter().rev().take_while(here);
        let (mut expected, mut first) = (0, now);
        for held in recent.filter(|held| held.is_worth_a_place()) {
            (expected, first) = (expected + 1, held.at);
        }
        let until = first + away;
        self.counted = Some(Counted { expected, until });
        expected
    }

    /// Tokens of the conversation that a new one would push out of its slot: the one used longest ago of those in the slots.
    /// None that counts where a slot is empty, or nobody has come back within `lately`.
    pub(super) fn pushed_out(&self, lately: Duration, slots: Option<u32>, now: Instant) -> u64 {
        let count = reckoned(slots);
        if self.warm(lately, slots, now) < count {
            return 0;
        }
        // One whose first turn is under way is not the next to go.
        let mut settled = self
            .held
            .iter()
            .rev()
            .take(count)
            .rev()
            .map(|held| held.tokens);
        settled.find(|tokens| *tokens > 0).unwrap_or(0)
    }

    /// Whether `conversation` was used within `lately`.
    pub(super) fn is_warm(&self, conversation: u64, lately: Duration, now: Instant) -> bool {
        let mut held = self.held.iter();
        held.any(|held| {
            held.conversation == conversation && now.saturating_duration_since(held.at) <= lately
        })
    }

    /// Whether `conversation`, which was here once, may still be in the cache: the backend has not begun anew since.
    pub(super) fn may_hold(&self, conversation: u64) -> bool {
        !self.lost || self.held.iter().any(|h| h.conversation == conversation)
    }

    /// Tokens of `conversation` in the cache.
    pub(super) fn tokens(&self, conversation: u64) -> Option<u64> {
        let held = self.held.iter().find(|h| h.conversation == conversation)?;
        (held.tokens > 0).then_some(held.tokens)
    }

    /// Tokens of `prefix` in the cache, left by whatever conversation.
    pub(super) fn prefix_tokens(&self, prefix: Prefix) -> Option<u64> {
        let same =
            |held: &Held| held.tokens > 0 && held.prefix.is_some_and(|p| p.hash == prefix.hash);
        self.held.iter().any(same).then_some(prefix.tokens)
    }

    /// The backend has lost its caches so often; each time it begins with nothing.
    pub(super) fn loaded(&mut self, losses: u64) {
        if self.losses != losses {
            self.losses = losses;
            self.lost |= !self.held.is_empty();
            self.held.clear();
            self.counted = None;
        }
    }

    fn find(&mut self, conversation: u64) -> Option<&mut Held> {
        self.held
            .iter_mut()
            .find(|h| h.conversation == conversation)
    }

    fn take(&mut self, conversation: u64) -> Option<Held> {
        let at = self
            .held
            .iter()
            .rposition(|h| h.conversation == conversation)?;
        Some(self.held.remove(at))
    }
}

#[cfg(test)]
#[path = "warmth_tests.rs"]
mod tests;
