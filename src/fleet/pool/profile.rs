//! Candidates by the speculative profile that a request asks for.
//!
//! A server runs the profile it was started with: a request gets one by going to such a server. It is served in
//! any case, and what became of its wish is told.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Asked, Pool};
use crate::fleet::backend::Backend;
use crate::fleet::candidates::{Candidates, Standing};
use crate::fleet::decision::{Profiled, Unserved, Weighed};
use crate::fleet::select::View;
use crate::fleet::warmth::Warmth;
use crate::fleet::wish::{SpecWish, Wish};

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
        let weighed = self.weigh(all, &serve, warmth, asked);
        let stays = weighed.as_ref().is_some_and(|weighed| !weighed.moved);
        let unserved = match () {
            () if !any(|_| true) => Some(Unserved::NoBackend),
            () if !any(View::is_free) => Some(Unserved::NoRoom),
            () => stays.then_some(Unserved::Reprefill),
        };
        if unserved.is_none() {
            all.retain(&serve, Standing::OtherProfile);
        }
        let was_weighed = matches!(unserved, None | Some(Unserved::Reprefill));
        Some(Profiled {
            asked: wish.choice.asked.name().into(),
            cause: wish.choice.cause,
            unserved,
            weighed: weighed.filter(|_| was_weighed).map(Box::new),
        })
    }

    /// What leaving the backend that has its cache would cost it, where that does not run what is asked for.
    fn weigh(
        &self,
        all: &Candidates,
        serve: &[bool],
        warmth: &[Warmth],
        asked: Asked<'_>,
    ) -> Option<Weighed> {
        let (home, spec) = (asked.prefer?, asked.wish.spec.as_ref()?);
        let n = (all.places.iter()).position(|at| self.backends[*at].id() == home)?;
        if serve[n] {
            return None;
        }
        let at = all.places[n];
        let tokens = asked.wish.predicted(&warmth[at]);
        let seconds = seconds(&self.backends[at], tokens, spec);
        let at_most = spec.reprefill_max.map(|most| most.as_secs_f64());
        let is_dear = at_most.is_some_and(|most| seconds > most);
        Some(Weighed {
            home: home.clone(),
            tokens,
            seconds,
            at_most,
            moved: !(is_dear && all.views[n].is_free()),
        })
    }

    /// Whether a conversation that has its cache on `backend` would go on there.
    pub(in crate::fleet) fn keeps(&self, backend: &Backend, wish: &Wish) -> bool {
        let Some(spec) = &wish.spec else {
            return self.keeps_arm(backend, wish);
        };
        let at = self.backends.iter().position(|b| b.id() == backend.id());
        let dear = |at: usize| is_dear(backend, &self.state.lock().warmth[at], wish);
        // Given up for one that could take it now: behind a full one it would wait for neither cache nor profile.
        let room = |b: &Arc<Backend>| b.is_free() && self.welcomes(b) && serves(b, spec);
        serves(backend, spec) || !self.backends.iter().any(room) || at.is_some_and(dear)
    }
}

fn serves(backend: &Backend, wish: &SpecWish) -> bool {
    let asked = &wish.choice.asked;
    asked.is_served_by(&backend.runs(), backend.honours())
}

/// Whether reading anew what `backend` has in its cache takes longer than the profile is worth.
fn is_dear(backend: &Backend, warmth: &Warmth, wish: &Wish) -> bool {
    wish.spec.as_ref().is_some_and(|spec| {
        let seconds = seconds(backend, wish.predicted(warmth), spec);
        spec.reprefill_max
            .is_some_and(|most| seconds > most.as_secs_f64())
    })
}

/// How long it takes to read so many tokens, at the speed of the backend that has read them.
fn seconds(backend: &Backend, tokens: u64, spec: &SpecWish) -> f64 {
    backend
        .pace()
        .reading(tokens, f64::from(spec.reprefill_rate))
}
