//! What a backend runs, as far as is known.

use std::sync::Arc;

use serde::Serialize;

use super::sequential::Count;

/// The name of a profile that speculates in no way.
pub const NONE: &str = "none";

/// What a backend runs: what its configuration says, corrected by what it says itself. A server that
/// was started with a draft profile and without its draft model speculates not at all and says so in
/// `/slots` only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runs {
    /// It does not speculate.
    Plain,
    /// It speculates, by this profile where that is known.
    Profile(Option<Arc<str>>),
    /// Nobody has said.
    Unknown,
}

impl Runs {
    /// `configured` is the backend's `profile`, `active` what `/slots` says.
    pub fn of(configured: Option<&Arc<str>>, active: Option<bool>) -> Self {
        let named = configured.filter(|name| ***name != *NONE);
        match (configured, active) {
            (_, Some(false)) => Self::Plain,
            (_, Some(true)) => Self::Profile(named.cloned()),
            (None, None) => Self::Unknown,
            (Some(_), None) => match named {
                Some(name) => Self::Profile(Some(Arc::clone(name))),
                None => Self::Plain,
            },
        }
    }

    /// What goes by this name.
    pub fn named(name: &str) -> Self {
        match name {
            NONE => Self::Plain,
            "unknown" => Self::Unknown,
            name => Self::Profile(Some(name.into())),
        }
    }

    /// Its name in headers, metrics and the admin API.
    pub fn name(&self) -> &str {
        match self {
            Self::Plain => NONE,
            Self::Profile(Some(name)) => name,
            Self::Profile(None) | Self::Unknown => "unknown",
        }
    }

    /// Whether drafts may be there to count.
    pub fn speculates(&self) -> bool {
        matches!(self, Self::Profile(_))
    }

    /// Whether anything is known.
    pub fn is_known(&self) -> bool {
        *self != Self::Unknown
    }
}

/// Whether a backend does what `speculative.n_max: 0` asks: builds up to 2025 and some forks do, later
/// ones read past it. Only trying tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Honours {
    /// Not tried, or the attempt told nothing.
    #[default]
    Unknown,
    /// It drafts without the field and does not with it.
    Yes,
    /// It drafts all the same.
    No,
}

impl Honours {
    /// From the drafted tokens of the same request without the field and with it.
    pub fn of(without: u64, with: u64) -> Self {
        match (without, with) {
            (_, 1..) => Self::No,
            (1.., 0) => Self::Yes,
            (0, 0) => Self::Unknown,
        }
    }
}

/// What answers have shown of it, without anybody asking for that: those of turns that wanted no speculation,
/// against the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trial {
    /// Answers that had drafts, of those that were free to.
    free: Count,
    /// The same of those that were asked not to.
    off: Count,
}

/// How sure one has to be.
const DOUBT: f64 = 1e-3;

impl Trial {
    /// An answer to a turn that was, or was not, asked to have no drafts.
    pub fn push(&mut self, off: bool, drafted: bool) {
        let count = if off { &mut self.off } else { &mut self.free };
        count.of += 1;
        count.happened += u64::from(drafted);
    }

    /// What follows. A single draft says no; yes takes so many answers without one that chance has no part in
    /// it, given how often there are drafts otherwise.
    pub fn verdict(&self) -> Honours {
        if self.off.happened > 0 {
            return Honours::No;
        }
        let without = Count {
            happened: self.free.of - self.free.happened,
            of: self.free.of,
        };
        let chance = without.upper(DOUBT).powf(self.off.of as f64);
        match self.off.of > 0 && self.free.of > 0 && chance < DOUBT {
            true => Honours::Yes,
            false => Honours::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_prove_it_when_there_are_enough() {
        let mut trial = Trial::default();
        assert_eq!(trial.verdict(), Honours::Unknown);
        (0..40).for_each(|_| trial.push(false, true));
        assert_eq!(trial.verdict(), Honours::Unknown, "nobody asked");
        let needed = (1..100).find(|_| {
            trial.push(true, false);
            trial.verdict() == Honours::Yes
        });
        assert!(needed.is_some_and(|n| (3..10).contains(&n)), "{needed:?}");
        trial.push(true, true);
        assert_eq!(trial.verdict(), Honours::No, "it drafts all the same");
        // An n-gram type that hardly ever drafts: no drafts are no proof.
        let mut trial = Trial::default();
        (0..200).for_each(|n| trial.push(false, n % 20 == 0));
        (0..20).for_each(|_| trial.push(true, false));
        assert_eq!(trial.verdict(), Honours::Unknown);
    }

    #[test]
    fn what_the_server_says_wins() {
        let name: Arc<str> = "ngram-mod".into();
        let none: Arc<str> = NONE.into();
        let runs = |configured, active| Runs::of(configured, active).name().to_owned();
        assert_eq!(runs(Some(&name), None), "ngram-mod");
        assert_eq!(runs(Some(&name), Some(true)), "ngram-mod");
        assert_eq!(runs(Some(&name), Some(false)), "none", "silently off");
        assert_eq!(runs(Some(&none), Some(true)), "unknown", "it does though");
        assert_eq!(runs(Some(&none), None), "none");
        assert_eq!(runs(None, Some(false)), "none");
        assert_eq!(runs(None, None), "unknown");
        assert!(Runs::of(Some(&none), Some(true)).speculates());
        assert!(!Runs::of(None, None).is_known());
    }

    #[test]
    fn only_a_draft_that_went_away_proves_anything_good() {
        assert_eq!(Honours::of(64, 0), Honours::Yes);
        assert_eq!(Honours::of(64, 64), Honours::No);
        assert_eq!(Honours::of(0, 8), Honours::No);
        assert_eq!(Honours::of(0, 0), Honours::Unknown);
    }
}
