//! Who takes the next request: a pure decision over what is known of the candidates.
//!
//! In this order: the backend that has the conversation's KV cache and a free slot; the
//! backend that the prompt's stable prefix hashes to, while its load is within the bound, else the
//! next one in the order of that hash; else the least busy one. A backend without a free slot comes
//! after those that have one, and one with more than its part of the conversations after those that have less: where a
//! conversation begins, its later turns meet the others'. Whether a conversation waits for a slot of its own backend is
//! decided before ([`super::admission`]).

mod bound;

pub(super) use bound::Bound;

use super::kv::Room;
use super::rendezvous::{mix, score};

/// From this many candidates on two of them are compared instead of all. Several gateways in front
/// of a large pool would otherwise all see the same least busy backend, and meet there.
pub(super) const LARGE: usize = 17;

/// A backend that could take the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Hash of its name.
    pub(super) key: u64,
    /// Slots taken: by requests of this gateway, and by others.
    pub(super) inflight: usize,
    /// Those of them that others hold.
    pub(super) others: usize,
    /// Configured share of the load.
    pub(super) weight: u32,
    /// Part of that share it gets now, above 0 and up to 1: less while it starts slowly.
    pub(super) pace: f64,
    /// Requests it works on at the same time, where that is known.
    pub(super) slots: Option<u32>,
    /// Conversations it holds that were used lately; more than its slots count as its slots.
    /// llama-server gives prompts that begin alike the same slot, even beside an empty one: warm
    /// conversations are spread like requests.
    pub(super) warm: usize,
    /// Conversations whose next turn it should get.
    pub(super) expected: usize,
    /// Its KV cache, where turns reserve room in it.
    pub(super) room: Option<Room>,
    /// Whether that has room for the request.
    pub(super) fits: bool,
}

impl View {
    /// In-flight requests for its share.
    pub(super) fn load(&self) -> f64 {
        self.inflight as f64 / self.share()
    }

    /// How much the prefix wants it.
    pub(super) fn affinity(&self, prefix: u64) -> f64 {
        score(prefix, self.key, self.share())
    }

    fn share(&self) -> f64 {
        f64::from(self.weight) * self.pace
    }

    /// Whether a request would be worked on at once.
    pub(super) fn is_free(&self) -> bool {
        self.fits && self.has_slot()
    }

    /// Whether a slot is idle, as far as is known.
    pub(super) fn has_slot(&self) -> bool {
        self.slots
            .is_none_or(|slots| self.inflight < slots as usize)
    }

    /// Whether a new conversation pushes no warm one out.
    fn has_room(&self) -> bool {
        self.slots.is_none_or(|slots| self.warm < slots as usize)
    }
}

/// What the request wants, as positions among the candidates.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Need {
    /// Who has the conversation's KV cache, and a free slot.
    pub(super) sticky: Option<usize>,
    /// Hash of the prompt's stable prefix.
    pub(super) prefix: Option<u64>,
    /// Who had better be left to the main conversation.
    pub(super) spare: Option<usize>,
    /// Of requests in a row a different one for each.
    pub(super) turn: u64,
}

/// Why a backend was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It has the conversation's KV cache.
    Sticky,
    /// The prompt's stable prefix hashes to it.
    Affinity,
    /// The prefix hashes to another, which is over its bound, full, or spared: it is the next.
    Spill,
    /// The less busy one of two candidates.
    TwoChoices,
    /// The least busy one.
    LeastBusy,
}

impl Reason {
    /// Its name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sticky => "sticky",
            Self::Affinity => "affinity",
            Self::Spill => "spill",
            Self::TwoChoices => "two_choices",
            Self::LeastBusy => "least_busy",
        }
    }
}

/// The candidate to take; none when there are none.
pub(super) fn choose(views: &[View], need: Need) -> Option<(usize, Reason)> {
    if let Some(at) = need.sticky.filter(|at| *at < views.len()) {
        return Some((at, Reason::Sticky));
    }
    let eligible = Eligible::of(views, need.spare).uncrowded(views);
    if let Some(prefix) = need.prefix
        && let Some(found) = by_prefix(views, &eligible, prefix)
    {
        return Some(found);
    }
    if eligible.count(views) >= LARGE {
        let at = of_two(views, &eligible, need.turn)?;
        return Some((at, Reason::TwoChoices));
    }
    least_busy(views, &eligible, need.turn).map(|at| (at, Reason::LeastBusy))
}

/// Which candidates come first.
struct Eligible {
    /// Only those with a free slot: there are some.
    free: bool,
    /// Not this one: others have idle slots.
    spared: Option<usize>,
    /// Only those where one conversation more is within this: there are some.
    crowd: Option<Bound>,
}

impl Eligible {
    fn of(views: &[View], spare: Option<usize>) -> Self {
        let free = views.iter().any(View::is_free);
        let others = |spare: &usize| {
            let mut views = views.iter().enumerate();
            views.any(|(at, view)| at != *spare && view.is_free())
        };
        Self {
            free,
            spared: spare.filter(others),
            crowd: None,
        }
    }

    /// Of them those where the conversations are within their bound, if there are such.
    fn uncrowded(self, views: &[View]) -> Self {
        let crowd = Bound::over(views, |view| view.expected);
        let has_place = |(_, view): (usize, &View)| crowd.has_place(view, view.expected);
        let any = self.iter(views).any(has_place);
        Self {
            crowd: any.then_some(crowd),
            ..self
        }
    }

    fn has(&self, at: usize, view: &View) -> bool {
        let crowd = self.crowd.as_ref();
        (!self.free || view.is_free())
            && self.spared != Some(at)
            && crowd.is_none_or(|crowd| crowd.has_place(view, view.expected))
    }

    fn iter<'a>(&'a self, views: &'a [View]) -> impl Iterator<Item = (usize, &'a View)> {
        let all = views.iter().enumerate();
        all.filter(|(at, view)| self.has(*at, view))
    }

    fn count(&self, views: &[View]) -> usize {
        self.iter(views).count()
    }
}

/// The first in the order of the prefix's hash whose requests are within their bound; of those where
/// another conversation is within the same bound and pushes no warm one out, if there are such.
fn by_prefix(views: &[View], eligible: &Eligible, prefix: u64) -> Option<(usize, Reason)> {
    let bound = Bound::of(views);
    let warm = Bound::over(views, |view| view.warm);
    let (mut home, mut roomy, mut any) = (Top::NONE, Top::NONE, Top::NONE);
    for (at, view) in views.iter().enumerate() {
        let place = Top {
            at: Some(at),
            score: view.affinity(prefix),
        };
        home = home.max(place);
        if eligible.has(at, view) && bound.allows(view) {
            any = any.max(place);
            if view.has_room() && warm.has_place(view, view.warm) {
                roomy = roomy.max(place);
            }
        }
    }
    let chosen = roomy.at.or(any.at)?;
    let reason = match home.at == Some(chosen) {
        true => Reason::Affinity,
        false => Reason::Spill,
    };
    Some((chosen, reason))
}

/// The best place so far.
#[derive(Clone, Copy)]
struct Top {
    at: Option<usize>,
    score: f64,
}

impl Top {
    const NONE: Self = Self {
        at: None,
        score: f64::NEG_INFINITY,
    };

    fn max(self, other: Self) -> Self {
        if other.score > self.score {
            other
        } else {
            self
        }
    }
}

/// The less busy one of two that the turn picks.
fn of_two(views: &[View], eligible: &Eligible, turn: u64) -> Option<usize> {
    let all: smallvec::SmallVec<[usize; 64]> = eligible.iter(views).map(|(at, _)| at).collect();
    let count = all.len() as u64;
    let (first, second) = (mix(turn), mix(!turn));
    let one = *all.get((first % count) as usize)?;
    // Among the others, so that there are two.
    let step = 1 + second % (count - 1).max(1);
    let other = *all.get(((first + step) % count) as usize)?;
    Some(match views[other].load() < views[one].load() {
        true => other,
        false => one,
    })
}

/// The candidate with the least in-flight for its share. Among equals the turns go round by weight: of
/// `turn`s in a row each gets its part.
fn least_busy(views: &[View], eligible: &Eligible, turn: u64) -> Option<usize> {
    let loads = eligible.iter(views).map(|(_, view)| view.load());
    let least = loads.min_by(f64::total_cmp)?;
    let equals = || eligible.iter(views).filter(|(_, v)| v.load() <= least);
    let total: u64 = equals().map(|(_, view)| u64::from(view.weight)).sum();
    let mut place = turn % total.max(1);
    for (at, view) in equals() {
        match place.checked_sub(u64::from(view.weight)) {
            Some(rest) => place = rest,
            None => return Some(at),
        }
    }
    None
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
