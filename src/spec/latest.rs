//! The latest turns by themselves: a collapse after many good turns would drown in the mean of all.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::aggregate::Measured;
use super::observe::Observation;

/// Turns of one block.
const BLOCK: u64 = 32;

/// The latest turns, up to a block of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latest {
    /// What is measured of them.
    pub measured: Measured,
    turns: u64,
    /// Blocks that are complete.
    pub blocks: u32,
}

impl Latest {
    pub(super) fn push(&mut self, seen: &Observation) {
        if self.turns >= BLOCK {
            *self = Self {
                blocks: self.blocks.saturating_add(1),
                ..Self::default()
            };
        }
        self.turns += 1;
        self.measured.push(seen);
    }

    /// α of a test of these turns: every block is a further test, with less and less of it.
    pub fn share(&self, alpha: f64) -> f64 {
        of_block(alpha, self.blocks)
    }
}

/// α of the test of a block that so many complete ones have gone before (what 1/k² sums up to is π²/6).
pub fn of_block(alpha: f64, complete: u32) -> f64 {
    let block = f64::from(complete) + 1.0;
    alpha * 6.0 / (PI * PI * block * block)
}

#[cfg(test)]
mod tests {
    use super::super::observe::tests::{PROSE, answer, place};
    use super::*;

    #[test]
    fn a_block_begins_anew_and_has_its_own_share() {
        let mut latest = Latest::default();
        let mut push = |count: u32, tps: f64| {
            for _ in 0..count {
                latest.push(&answer(&place("b", "m", "b1"), PROSE, 100, tps));
            }
            (
                latest.blocks,
                latest.measured.decode.n(),
                latest.measured.decode.mean().exp(),
            )
        };
        assert_eq!((push(32, 40.0).0, push(0, 1.0).1), (0, 32));
        let (blocks, n, mean) = push(5, 10.0);
        assert_eq!((blocks, n), (1, 5));
        assert!((mean - 10.0).abs() < 0.1, "none of the block before");
        let all: f64 = (0..100_000).map(|block| of_block(0.05, block)).sum();
        assert!(all <= 0.05 && all > 0.0499, "{all}");
        assert!(latest.share(0.05) < of_block(0.05, 0));
    }
}
