//! How much of a load a backend may have: little more than the mean.

use super::View;

/// A backend stays within its bound up to this multiple of the mean load (consistent hashing with
/// bounded loads, Mirrokni et al. 2016).
const BOUND: f64 = 1.25;

/// How many requests each candidate may have, the new one included.
pub(in crate::fleet) struct Bound {
    /// For a whole unit of capacity.
    per_unit: f64,
    by_slots: bool,
}

impl Bound {
    /// Of requests in flight.
    pub(in crate::fleet) fn of(views: &[View]) -> Self {
        Self::over(views, |view| view.inflight)
    }

    /// Capacity is counted in slots where all are known, else in shares.
    pub(super) fn over(views: &[View], load: impl Fn(&View) -> usize) -> Self {
        let by_slots = views.iter().all(|view| view.slots.is_some());
        let total: usize = views.iter().map(load).sum();
        let mut bound = Self {
            per_unit: 0.0,
            by_slots,
        };
        let capacity: f64 = views.iter().map(|view| bound.capacity(view)).sum();
        bound.per_unit = BOUND * (total + 1) as f64 / capacity.max(f64::MIN_POSITIVE);
        bound
    }

    fn capacity(&self, view: &View) -> f64 {
        match view.slots {
            Some(slots) if self.by_slots => f64::from(slots) * view.pace,
            _ => view.share(),
        }
    }

    /// Whether one request more is within the candidate's bound. One always is.
    pub(in crate::fleet) fn allows(&self, view: &View) -> bool {
        self.has_place(view, view.inflight)
    }

    pub(super) fn has_place(&self, view: &View, taken: usize) -> bool {
        let most = (self.per_unit * self.capacity(view)).ceil().max(1.0);
        taken as f64 + 1.0 <= most
    }
}
