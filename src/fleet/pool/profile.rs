//! Candidates by the speculative profile that a request asks for.
//!
//! A server runs the profile it was started with: a request gets one by going to such a server. It is served in
//! any case, and what became of its wish is told.

use std::time::Duration;

use smallvec::SmallVec;

use super::{Asked, Pool};
use crate::fleet::backend::Backend;
use crate::fleet::candidates::{Candidates, Standing};
use crate::fleet::decision::{Profiled, Unserved};
use crate::fleet::select::View;
use crate::fleet::warmth::Warmth;
use crate::fleet::wish::{SpecWish, Wish};
use crate::spec::Honours;

impl Pool {
    /// Leaves only the candidates that run what is asked for, where one of them has room and reading the prompt
    /// anew there is worth it.
    pub(super) fn by_profile(
        &self,
        all: &mut Candidates,
        warmth: &[Warmth],
        asked: Asked<'_>,
    ) -> Option<Profiled> {
        let wish = asked.wish.spec.as_ref()?;
        let serve: SmallVec<[bool; 64]> = all
            .places
            .iter()
            .map(|at| serves(&self.backends[*at], wish))
            .collect();
        let any = |good: fn(&View) -> bool| {
            let mut both = serve.iter().zip(&all.views);
            both.any(|(serves, view)| *serves && good(view))
        };
        let stays_home = || {
            let home = asked.prefer?;
            let n = (all.places.iter()).position(|at| self.backends[*at].id() == home)?;
            let (at, is_free) = (all.places[n], all.views[n].is_free());
            let backend = &self.backends[at];
            let stays = !serve[n] && is_free && is_dear(backend, &warmth[at], asked.wish);
            stays.then_some(Unserved::Reprefill)
        };
        let unserved = match () {
            () if !any(|_| true) => Some(Unserved::NoBackend),
            () if !any(View::is_free) => Some(Unserved::NoRoom),
            () => stays_home(),
        };
        if unserved.is_none() {
            all.retain(&serve, Standing::OtherProfile);
        }
        Some(Profiled {
            asked: wish.choice.asked.name().into(),
            cause: wish.choice.cause,
            unserved,
        })
    }

    /// Whether a conversation that has its cache on `backend` would go on there.
    pub(in crate::fleet) fn keeps(&self, backend: &Backend, wish: &Wish) -> bool {
        let Some(spec) = &wish.spec else {
            return self.keeps_arm(backend, wish);
        };
        let at = self.backends.iter().position(|b| b.id() == backend.id());
        let dear = |at: usize| is_dear(backend, &self.state.lock().warmth[at], wish);
        serves(backend, spec)
            || !self
                .backends
                .iter()
                .any(|b| b.available() && serves(b, spec))
            || at.is_some_and(dear)
    }
}

fn serves(backend: &Backend, wish: &SpecWish) -> bool {
    let asked = &wish.choice.asked;
    asked.is_served_by(&backend.runs(), Honours::Unknown)
}

/// Whether reading anew what `backend` has in its cache takes longer than the profile is worth.
fn is_dear(backend: &Backend, warmth: &Warmth, wish: &Wish) -> bool {
    let spec = wish.spec.as_ref();
    let most = spec.and_then(|spec| Some((spec.reprefill_max?, spec.reprefill_rate)));
    most.is_some_and(|(most, rate)| {
        let seconds = backend
            .pace()
            .reading(wish.predicted(warmth), f64::from(rate));
        Duration::try_from_secs_f64(seconds).is_ok_and(|time| time > most)
    })
}
