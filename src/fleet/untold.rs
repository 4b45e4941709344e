//! What the next scrape of the metrics takes away.

use parking_lot::Mutex;

/// Most that is kept; more than a scrape interval brings.
const KEPT: usize = 256;

/// Kept until it is taken; what comes while it is full is lost.
#[derive(Debug)]
pub(super) struct Untold<T>(Mutex<Vec<T>>);

impl<T> Default for Untold<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Untold<T> {
    pub(super) fn add(&self, one: T) {
        let mut kept = self.0.lock();
        if kept.len() < KEPT {
            kept.push(one);
        }
    }

    pub(super) fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock())
    }
}
