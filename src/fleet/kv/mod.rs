//! One KV cache for all slots of a backend (`--kv-unified`): what running turns hold of it, so that it does not
//! overflow.
//!
//! What llama-server b11434 does, from `tools/server/server-context.cpp`:
//!
//! * A batch that finds no room in the cache is tried again after an idle slot was emptied (`purging slot`,
//!   `try_clear_idle_slots`), one slot for each try, then in halves. So what idle slots hold is no hindrance and
//!   is not counted. (With `--cache-idle-slots`, the default, they are emptied at the start of every task, and
//!   kept in host memory.)
//! * Where a single token finds no room, every slot at work gets `Context size has been exceeded.`, a 500, and is
//!   emptied. One turn too many fails all.
//! * `/props` gives the window of one slot and not the layout. With `--kv-unified` that window is the whole
//!   cache, unless `--kv-unified-per-slot` or the model's training context is less.
//!
//! Therefore a turn goes only where its prompt and the answer that is to be expected fit beside what is held.

pub(super) mod lengths;

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

/// What templates, stop tokens and the last half-full batch take besides, in tokens for each answer.
const MARGIN: u64 = 16;
/// A draft is in the cache until it is refused: the longest one of the built-in profiles.
const DRAFT: u64 = 64;
/// A reservation that proves too small grows by so many tokens at once.
const STEP: u64 = 256;

/// What a turn takes of a cache while it runs, in tokens, as far as can be told before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Its prompt.
    pub prompt: u64,
    /// What it is expected to generate, all its answers together.
    pub output: u64,
}

impl Footprint {
    /// Of `total`, for a backend that drafts or does not. No more than all: llama-server ends an answer that
    /// comes to the end of the window, and refuses a prompt that is longer.
    pub(super) fn within(self, total: u64, drafts: bool) -> u64 {
        let margin = MARGIN + if drafts { DRAFT } else { 0 };
        let sum = self.prompt.saturating_add(self.output);
        sum.saturating_add(margin).min(total)
    }
}

/// The cache that a backend's slots share.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Tokens held by leases.
    held: AtomicU64,
    /// 1 more than the times the backend had loaded its model when it was found out that its slots share one
    /// cache; 0 where that was never found out.
    shared_since: AtomicU64,
    /// When it overflowed last.
    overflowed: Mutex<Option<Instant>>,
}

impl Cache {
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether it was seen to overflow since the backend has loaded its model `loads` times. With another start
    /// it may have got other options.
    pub(super) fn is_shared(&self, loads: u64) -> bool {
        self.shared_since.load(Ordering::Relaxed) == loads + 1
    }

    /// An answer that began at `since` was lost to an overflow. Whether that is news: what it takes down with it
    /// had all begun before, and is one fault.
    pub(super) fn overflowed(&self, since: Instant, loads: u64, now: Instant) -> bool {
        self.shared_since.store(loads + 1, Ordering::Relaxed);
        let mut last = self.overflowed.lock();
        let same = last.is_some_and(|last| since <= last);
        if !same {
            *last = Some(now);
        }
        !same
    }

    /// `from` tokens held become `to`.
    fn change(&self, from: u64, to: u64) {
        if to >= from {
            self.held.fetch_add(to - from, Ordering::Relaxed);
        } else {
            self.held.fetch_sub(from - to, Ordering::Relaxed);
        }
    }
}

/// What one lease holds of its backend's cache.
#[derive(Debug)]
pub(super) struct Reservation {
    total: u64,
    drafts: bool,
    output: u64,
    prompt: AtomicU64,
    held: AtomicU64,
}

impl Reservation {
    pub(super) fn new(cache: &Cache, footprint: Footprint, total: u64, drafts: bool) -> Self {
        let held = footprint.within(total, drafts);
        cache.change(0, held);
        Self {
            total,
            drafts,
            output: footprint.output,
            prompt: AtomicU64::new(footprint.prompt),
            held: AtomicU64::new(held),
        }
    }

    /// The backend has told the prompt's length, where it has, and has generated so many tokens: what was
    /// expected is put right. Whether less is held than before.
    pub(super) fn correct(&self, cache: &Cache, prompt: Option<u64>, generated: u64) -> bool {
        if let Some(prompt) = prompt {
            self.prompt.store(prompt, Ordering::Relaxed);
        }
        let output = match generated <= self.output {
            true => self.output,
            false => (generated + 1).next_multiple_of(STEP),
        };
        let prompt = self.prompt.load(Ordering::Relaxed);
        let now = Footprint { prompt, output }.within(self.total, self.drafts);
        let before = self.held.swap(now, Ordering::Relaxed);
        cache.change(before, now);
        now < before
    }

    pub(super) fn end(&self, cache: &Cache) {
        cache.change(self.held.swap(0, Ordering::Relaxed), 0);
    }
}

/// Room in a backend's cache, for a turn that looks for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) held: u64,
    pub(super) total: u64,
    pub(super) drafts: bool,
}

impl Room {
    /// Whether it fits. A turn of which nothing is known does.
    pub(super) fn fits(&self, footprint: Option<Footprint>) -> bool {
        let takes = footprint.map_or(0, |footprint| footprint.within(self.total, self.drafts));
        self.held.saturating_add(takes) <= self.total
    }

    pub(super) fn left(&self) -> u64 {
        self.total.saturating_sub(self.held)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TURN: Footprint = Footprint {
        prompt: 500,
        output: 200,
    };

    fn room(cache: &Cache) -> Room {
        Room {
            held: cache.held(),
            total: 1500,
            drafts: false,
        }
    }

    #[test]
    fn turns_fit_until_the_cache_is_full() {
        let cache = Cache::default();
        assert!(room(&cache).fits(Some(TURN)));
        let one = Reservation::new(&cache, TURN, 1500, false);
        let two = Reservation::new(&cache, TURN, 1500, false);
        assert_eq!((cache.held(), room(&cache).left()), (1432, 68));
        assert!(!room(&cache).fits(Some(TURN)) && room(&cache).fits(None));
        one.end(&cache);
        one.end(&cache);
        assert_eq!(cache.held(), 716, "given back once");
        two.end(&cache);
        assert_eq!(cache.held(), 0);
    }

    #[test]
    fn a_turn_larger_than_the_cache_takes_all_of_it() {
        let cache = Cache::default();
        let large = Footprint {
            prompt: 1400,
            output: 32_000,
        };
        assert!(room(&cache).fits(Some(large)));
        let one = Reservation::new(&cache, large, 1500, true);
        assert_eq!(cache.held(), 1500);
        one.end(&cache);
    }

    #[test]
    fn what_the_backend_tells_puts_the_estimate_right() {
        let cache = Cache::default();
        let one = Reservation::new(&cache, TURN, 4000, false);
        assert!(one.correct(&cache, Some(300), 0), "a shorter prompt");
        assert_eq!(cache.held(), 300 + 200 + MARGIN);
        assert!(!one.correct(&cache, None, 200));
        assert_eq!(cache.held(), 300 + 200 + MARGIN);
        assert!(!one.correct(&cache, None, 201), "a longer answer");
        assert_eq!(cache.held(), 300 + 256 + MARGIN);
        one.correct(&cache, Some(300), 256);
        assert_eq!(cache.held(), 300 + 512 + MARGIN);
        one.correct(&cache, Some(300), 9000);
        assert_eq!(cache.held(), 4000, "never more than there is");
        one.end(&cache);
        assert_eq!(cache.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_overflow_is_one_fault_however_many_it_takes_down() {
        let cache = Cache::default();
        let began = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        let now = Instant::now();
        assert!(!cache.is_shared(0));
        assert!(cache.overflowed(began, 0, now));
        for later in 1..4 {
            let told = now + Duration::from_millis(later);
            assert!(!cache.overflowed(began + Duration::from_secs(1), 0, told));
        }
        assert!(cache.is_shared(0) && !cache.is_shared(1));
        let after = now + Duration::from_secs(1);
        assert!(cache.overflowed(after, 0, after + Duration::from_secs(1)));
    }
}
