//! Candidates by the side of a rollout that a session is on.
//!
//! A session is served in any case: on its own side while that has room, else where there is some. After a rollback
//! the candidate gets nothing as long as any other backend is up, busy or not.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Asked, Pool};
use crate::fleet::backend::Backend;
use crate::fleet::candidates::{Candidates, Standing};
use crate::fleet::decision::Armed;
use crate::fleet::wish::Wish;
use crate::spec::rollout::{Arm, Assigned};

/// How much a side wants a backend: 0 is its own.
type Rank = u8;

const LAST: Rank = 2;

impl Pool {
    /// Leaves only the candidates that the session's side wants most, of those that have room.
    pub(super) fn by_arm(&self, all: &mut Candidates, asked: Asked<'_>) -> Option<Armed> {
        let assigned = asked.wish.rollout.as_ref()?;
        let at = |place: &usize| rank(assigned, &self.backends[*place]);
        let ranks: SmallVec<[Rank; 64]> = all.places.iter().map(at).collect();
        // Rather busy than with the candidate.
        let rather = |most: Rank| is_strict(assigned) && most + 1 == LAST;
        let serves = |most: &Rank| {
            let mut both = ranks.iter().zip(&all.views);
            both.any(|(rank, view)| rank <= most && (rather(*most) || view.is_free()))
        };
        let most = (0..=LAST).find(serves);
        if let Some(most) = most.filter(|most| *most < LAST) {
            let stay: SmallVec<[bool; 64]> = ranks.iter().map(|rank| *rank <= most).collect();
            all.retain(&stay, Standing::OtherArm);
        }
        Some(Armed {
            rollout: assigned.routing.rollout.as_ref().into(),
            arm: assigned.arm,
            served: most == Some(0),
        })
    }

    /// Whether a conversation that has its cache on `backend` would go on there.
    pub(super) fn keeps_arm(&self, backend: &Backend, wish: &Wish) -> bool {
        let Some(assigned) = &wish.rollout else {
            return true;
        };
        let own = |b: &Backend| rank(assigned, b) == 0;
        own(backend) || !self.backends.iter().any(|b| b.available() && own(b))
    }

    /// Whether a request that waits may take a place there.
    pub(in crate::fleet) fn may_wait_for(&self, asked: Asked<'_>, backend: &Backend) -> bool {
        let assigned = asked.wish.rollout.as_ref();
        let strict = assigned.filter(|assigned| is_strict(assigned));
        strict.is_none_or(|assigned| {
            let spared = |b: &Backend| rank(assigned, b) < LAST;
            let other = |b: &Arc<Backend>| spared(b) && self.is_open_to(asked, b);
            spared(backend) || !self.backends.iter().any(other)
        })
    }
}

fn is_strict(assigned: &Assigned) -> bool {
    assigned.arm == Arm::Baseline
}

fn rank(assigned: &Assigned, backend: &Backend) -> Rank {
    let routing = &assigned.routing;
    let is_candidate = backend.at_site(|site| routing.is_candidate(site));
    let is_control = *routing.control == *backend.id().as_str();
    match assigned.arm {
        Arm::Candidate | Arm::Promoted if is_candidate => 0,
        Arm::Candidate | Arm::Promoted => LAST,
        _ if is_candidate => LAST,
        Arm::Control => u8::from(!is_control),
        Arm::Outside => u8::from(is_control),
        Arm::Baseline => u8::from(!backend.at_site(|site| routing.is_baseline(site))),
    }
}
