//! Weighted rendezvous hashing: every backend scores every key, the highest score wins.
//!
//! When a backend comes or goes only its own keys move, and each key has a whole order of backends, so
//! that the second choice is as stable as the first. Weights by the logarithmic method (Schindelhauer
//! and Schomaker 2005): each backend gets keys in proportion to its weight.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Ours, and never changed: gateways side by side must agree.
const SEED: u64 = 0x6472_6f76_6572_0002;

/// The key of a backend.
pub(super) fn key(name: &str) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), SEED)
}

/// Scrambles a number (the finaliser of `SplitMix64`).
pub(super) fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// How much `backend` of `weight` (above 0) is wanted for `key`; only the order of scores means
/// anything.
pub(super) fn score(key: u64, backend: u64, weight: f64) -> f64 {
    // 53 bits, all that a float holds, strictly between 0 and 1.
    let unit = ((mix(key ^ mix(backend)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -weight / unit.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(key: u64, backends: &[(u64, f64)]) -> u64 {
        let scores = backends
            .iter()
            .map(|(b, weight)| (*b, score(key, *b, *weight)));
        scores.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
    }

    fn backends(count: u64) -> Vec<(u64, f64)> {
        (0..count).map(|n| (key(&format!("gpu{n}")), 1.0)).collect()
    }

    #[test]
    fn keys_spread_by_weight() {
        let mut all = backends(3);
        all[2].1 = 2.0;
        let mut counts = [0i32; 3];
        for n in 0..40_000 {
            let won = best(mix(n), &all);
            counts[all.iter().position(|(b, _)| *b == won).unwrap()] += 1;
        }
        for (count, expected) in counts.into_iter().zip([10_000, 10_000, 20_000]) {
            assert!((count - expected).abs() < 500, "{counts:?}");
        }
    }

    #[test]
    fn only_the_keys_of_the_one_that_goes_move() {
        let all = backends(8);
        let gone = all[3].0;
        let rest: Vec<_> = all.iter().copied().filter(|(b, _)| *b != gone).collect();
        let mut moved = 0;
        for n in 0..10_000 {
            let (before, after) = (best(mix(n), &all), best(mix(n), &rest));
            assert!(before == after || before == gone);
            moved += usize::from(before != after);
        }
        assert!((1000..1500).contains(&moved), "{moved}: an eighth");
    }
}
