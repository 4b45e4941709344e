//! The backends of a pool as a selection saw them, for people who ask.
//!
//! Kept for every request and read for few: whatever follows from what was seen is worked out on reading.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::backend::BackendId;
use super::select::{Bound, View};

/// Every backend of a pool, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    pub(super) names: Arc<[BackendId]>,
    /// Those that could take the request, in the order of the pool, and where in the pool they stand.
    pub(super) views: Vec<View>,
    pub(super) places: Vec<usize>,
    /// Which of them takes it.
    pub(super) chosen: usize,
    /// Hash of the prompt's stable prefix.
    pub(super) prefix: Option<u64>,
    /// The rest of the pool, in its order, and where in it they stand.
    pub(super) out: Vec<(usize, Out)>,
}

/// A backend that could not be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    pub(super) standing: Standing,
    pub(super) inflight: usize,
    pub(super) others: usize,
    pub(super) slots: Option<u32>,
}

/// A backend as the selection saw it.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// Its name.
    pub backend: BackendId,
    /// What spoke against it, or for it.
    pub standing: Standing,
    /// Requests of this gateway it was working on.
    pub inflight: usize,
    /// Slots that others held.
    pub others: usize,
    /// Requests it works on at the same time.
    pub slots: Option<u32>,
    /// Tokens of the KV cache its slots share, where turns reserve some, and those that were held.
    pub kv_tokens: Option<u64>,
    /// See `kv_tokens`.
    pub kv_held: Option<u64>,
    /// Conversations of the last `warm_for` it holds, at most one a slot.
    pub warm: usize,
    /// Conversations whose next turn it should get: those that have come lately, and are worth a place of their own.
    pub expected: usize,
    /// Slots taken for its share of the load; the lower the better.
    pub load: f64,
    /// Whether one request more is within 1.25 × the mean load.
    pub within_bound: bool,
    /// How much the prefix wants it; the higher the better.
    pub affinity: Option<f64>,
}

/// Whether a backend could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It was.
    Chosen,
    /// It could have been.
    Usable,
    /// All its slots were taken.
    Full,
    /// Its KV cache had no room for it.
    NoRoom,
    /// It has failed this request.
    Tried,
    /// It is not ready, draining, or not resolved.
    Unavailable,
    /// It runs another speculative profile than is asked for.
    OtherProfile,
    /// It is not for the session's side of a rollout.
    OtherArm,
}

impl Candidates {
    /// Each of them with what follows from what was seen.
    pub fn told(&self) -> Vec<Candidate> {
        let bound = Bound::of(&self.views);
        let mut seen = self.places.iter().zip(&self.views).enumerate().peekable();
        let mut out = self.out.iter().peekable();
        let tell = |(at, name): (usize, &BackendId)| match seen.next_if(|(_, (p, _))| **p == at) {
            Some((n, (_, view))) => Some(self.seen(name, n, view, &bound)),
            None => out
                .next_if(|(p, _)| *p == at)
                .map(|(_, out)| out.told(name)),
        };
        self.names.iter().enumerate().filter_map(tell).collect()
    }

    /// Leaves only those that `stay`, in their order; what the others are is told.
    pub(super) fn retain(&mut self, stay: &[bool], standing: Standing) {
        let mut left = Vec::new();
        let all = std::mem::take(&mut self.views).into_iter();
        let all = all.zip(std::mem::take(&mut self.places)).zip(stay);
        for ((view, place), stays) in all {
            if *stays {
                self.views.push(view);
                self.places.push(place);
                continue;
            }
            let out = Out {
                standing,
                inflight: view.inflight - view.others,
                others: view.others,
                slots: view.slots,
            };
            left.push((place, out));
        }
        self.out.append(&mut left);
        self.out.sort_by_key(|(place, _)| *place);
    }

    fn seen(&self, name: &BackendId, n: usize, view: &View, bound: &Bound) -> Candidate {
        Candidate {
            backend: name.clone(),
            standing: match () {
                () if n == self.chosen => Standing::Chosen,
                () if view.is_free() => Standing::Usable,
                () if view.has_slot() => Standing::NoRoom,
                () => Standing::Full,
            },
            inflight: view.inflight - view.others,
            others: view.others,
            slots: view.slots,
            kv_tokens: view.room.map(|room| room.total),
            kv_held: view.room.map(|room| room.held),
            warm: view.warm,
            expected: view.expected,
            load: view.load(),
            within_bound: bound.allows(view),
            affinity: self.prefix.map(|prefix| view.affinity(prefix)),
        }
    }
}

impl Out {
    fn told(self, name: &BackendId) -> Candidate {
        Candidate {
            backend: name.clone(),
            standing: self.standing,
            inflight: self.inflight,
            others: self.others,
            slots: self.slots,
            kv_tokens: None,
            kv_held: None,
            warm: 0,
            expected: 0,
            load: 0.0,
            within_bound: false,
            affinity: None,
        }
    }
}

impl Serialize for Candidates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.told())
    }
}
