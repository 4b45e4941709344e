//! Whether the slots of a backend are still those of the last look: a server that was started anew, or had put its
//! model out of memory, between two checks looks as before, and has lost its caches.
//!
//! llama-server numbers its tasks from the start of its process, and shows for each slot the last one it has had.

use std::collections::HashMap;

/// Tasks do not always begin in the order of their numbers: one that waits for its slot may be overtaken.
const OVERTAKEN: i64 = 32;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// The last task of each slot that has had one.
    last: HashMap<u32, i64>,
    /// Losses that were known then.
    losses: u64,
}

impl Tasks {
    /// Takes in the last task of each slot that has had one. Whether the caches were lost since the last look, beyond
    /// the `losses` that are known.
    pub(super) fn look(&mut self, now: impl Iterator<Item = (u32, i64)>, losses: u64) -> bool {
        let now: HashMap<u32, i64> = now.collect();
        let before = std::mem::replace(&mut self.last, now);
        if std::mem::replace(&mut self.losses, losses) != losses {
            return false;
        }
        let latest = |tasks: &HashMap<u32, i64>| tasks.values().copied().max();
        let begins_anew = latest(&self.last) < latest(&before).map(|task| task - OVERTAKEN);
        let is_empty_again = before.keys().any(|slot| !self.last.contains_key(slot));
        begins_anew || is_empty_again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_go_on_have_lost_nothing() {
        let mut tasks = Tasks::default();
        for now in [
            vec![],
            vec![(0, 5)],
            vec![(0, 5), (1, 90)],
            // A task that had waited.
            vec![(0, 95), (1, 94)],
            vec![(0, 93), (1, 94)],
        ] {
            assert!(!tasks.look(now.clone().into_iter(), 0), "{now:?}");
        }
    }

    #[test]
    fn numbers_that_begin_anew_and_slots_that_are_empty_again_are_a_loss() {
        let before = vec![(0, 95), (1, 94)];
        for now in [vec![], vec![(1, 99)], vec![(0, 3), (1, 4)]] {
            let mut tasks = Tasks::default();
            tasks.look(before.clone().into_iter(), 7);
            assert!(tasks.look(now.clone().into_iter(), 7), "{now:?}");
            assert!(!tasks.look(now.into_iter(), 7), "told once");
            tasks.look(before.clone().into_iter(), 7);
            assert!(!tasks.look(vec![].into_iter(), 8), "known already");
        }
    }
}
