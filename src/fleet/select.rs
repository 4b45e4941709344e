//! Who takes the next request.

use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::backend::Backend;

/// A place on a backend for one request. Dropping it gives the place back, however the request ended.
#[derive(Debug)]
pub struct Lease(Arc<Backend>);

impl Lease {
    pub(super) fn new(backend: Arc<Backend>) -> Self {
        backend.enter();
        Self(backend)
    }
}

impl Deref for Lease {
    type Target = Arc<Backend>;

    fn deref(&self) -> &Arc<Backend> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Why no backend of a pool can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// None answers its checks.
    #[error("no backend is up")]
    AllDown {
        /// When to ask again: one of them may be back by then.
        retry_after: Duration,
    },
    /// None is up, but some are loading their model.
    #[error("the model is loading")]
    Loading {
        /// When to ask again.
        retry_after: Duration,
    },
    /// Those that are up get no new requests.
    #[error("every backend is draining")]
    Draining,
    /// Every backend that could serve was tried already.
    #[error("no other backend is left to try")]
    NoneLeft,
}

/// How busy a candidate is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) inflight: usize,
    pub(super) weight: NonZeroU32,
    /// Requests it works on at the same time, where that is known.
    pub(super) slots: Option<u32>,
}

impl Load {
    /// Whether `self` has less to do for its weight than `other`: in-flight / weight, by cross product.
    fn cmp(self, other: Self) -> std::cmp::Ordering {
        let product = |a: Self, b: Self| a.inflight as u128 * u128::from(b.weight.get());
        product(self, other).cmp(&product(other, self))
    }
}

/// The index of the candidate with the least in-flight for its weight. Among equals the turns go round
/// by weight: of `turn`s in a row each gets its share. `None` when there are no candidates.
pub(super) fn pick(loads: &[Load], turn: u64) -> Option<usize> {
    let least = loads.iter().copied().min_by(|a, b| a.cmp(*b))?;
    let equal = |load: &Load| load.cmp(least).is_eq();
    let weight = |load: &Load| u64::from(load.weight.get());
    let total: u64 = loads.iter().filter(|l| equal(l)).map(weight).sum();
    let mut place = turn % total;
    loads.iter().position(|load| {
        equal(load)
            && match place.checked_sub(weight(load)) {
                Some(rest) => {
                    place = rest;
                    false
                }
                None => true,
            }
    })
}

/// Whether a conversation stays with the candidate that has its KV cache: unless it would have to wait
/// for a slot there while another is idle. Reading a long prompt anew costs more than a short wait
/// behind others.
pub(super) fn stays(loads: &[Load], preferred: usize) -> bool {
    let Some(load) = loads.get(preferred) else {
        return false;
    };
    let would_wait = load
        .slots
        .is_some_and(|slots| load.inflight >= slots as usize);
    !(would_wait && loads.iter().any(|other| other.inflight == 0))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn loads(list: &[(usize, u32)]) -> Vec<Load> {
        let load = |&(inflight, weight)| Load {
            inflight,
            weight: NonZeroU32::new(weight).unwrap(),
            slots: None,
        };
        list.iter().map(load).collect()
    }

    #[rstest]
    #[case(&[], None)]
    #[case(&[(9, 1)], Some(0))]
    #[case(&[(1, 1), (0, 1), (2, 1)], Some(1))]
    #[case(&[(2, 3), (1, 1)], Some(0))]
    #[case(&[(4, 3), (1, 1)], Some(1))]
    #[case(&[(usize::MAX, 1), (usize::MAX - 1, 1)], Some(1))]
    fn the_least_busy_for_its_weight(#[case] list: &[(usize, u32)], #[case] chosen: Option<usize>) {
        for turn in 0..7 {
            assert_eq!(pick(&loads(list), turn), chosen);
        }
    }

    #[rstest]
    #[case(&[(0, Some(1)), (0, Some(1))], true)]
    #[case(&[(1, Some(2)), (0, Some(2))], true)]
    #[case(&[(2, Some(2)), (0, Some(2))], false)]
    #[case(&[(2, Some(2)), (1, Some(2)), (0, None)], false)]
    #[case(&[(9, Some(2)), (1, Some(2))], true)]
    #[case(&[(9, None), (0, None)], true)]
    #[case(&[(9, Some(1))], true)]
    #[case(&[], false)]
    fn a_conversation_stays_unless_it_would_wait_while_another_idles(
        #[case] list: &[(usize, Option<u32>)],
        #[case] expected: bool,
    ) {
        let load = |&(inflight, slots)| Load {
            inflight,
            weight: NonZeroU32::MIN,
            slots,
        };
        let loads: Vec<Load> = list.iter().map(load).collect();
        assert_eq!(stays(&loads, 0), expected);
    }

    #[test]
    fn equals_take_turns_by_weight() {
        let candidates = loads(&[(0, 3), (1, 1), (0, 1)]);
        let mut counts = [0; 3];
        for turn in 0..40 {
            counts[pick(&candidates, turn).unwrap()] += 1;
        }
        assert_eq!(counts, [30, 0, 10]);
    }

    #[test]
    fn under_load_places_follow_the_weights() {
        let mut candidates = loads(&[(0, 1), (0, 2), (0, 5)]);
        for turn in 0..80 {
            let n = pick(&candidates, turn).unwrap();
            candidates[n].inflight += 1;
        }
        let shares: Vec<_> = candidates.iter().map(|l| l.inflight).collect();
        assert_eq!(shares, [10, 20, 50]);
    }
}
