//! Which side a session is on.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::Subject;
use crate::spec::Runs;

/// Where the turns of a session go while a pool has a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// To the candidate.
    Candidate,
    /// To the control backend, to be compared with the candidate.
    Control,
    /// Elsewhere: it takes no part.
    Outside,
    /// To the baseline, whatever the load: the candidate was rolled back.
    Baseline,
    /// To the candidate, which was promoted.
    Promoted,
}

impl Arm {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Candidate,
        Self::Control,
        Self::Outside,
        Self::Baseline,
        Self::Promoted,
    ];

    /// Its name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Control => "control",
            Self::Outside => "outside",
            Self::Baseline => "baseline",
            Self::Promoted => "promoted",
        }
    }

    /// Whether its turns are compared.
    pub const fn is_compared(self) -> bool {
        matches!(self, Self::Candidate | Self::Control)
    }
}

/// Shares of the sessions, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Shares {
    /// The candidate's.
    pub candidate: f64,
    /// The control's.
    pub control: f64,
}

impl Shares {
    /// Equal ones, as long as both fit in; beyond half the control has what is left.
    pub fn of(candidate: f64) -> Self {
        let candidate = candidate.clamp(0.0, 1.0);
        Self {
            candidate,
            control: candidate.min(1.0 - candidate),
        }
    }

    /// The side of a session at `position`. A larger share only adds sessions to the candidate's, and up
    /// to half of all to the control's: they grow from the two ends.
    pub fn arm(self, position: f64) -> Arm {
        if position < self.candidate {
            Arm::Candidate
        } else if position >= 1.0 - self.control {
            Arm::Control
        } else {
            Arm::Outside
        }
    }
}

/// Where a session stands among all of them, from 0 to 1: evenly spread, the same at every turn and after every
/// restart, and another one in every run of every rollout.
pub(super) fn position(rollout: &str, run: u32, session: &str) -> f64 {
    let hash = xxh3_64(format!("{rollout}\n{run}\n{session}").as_bytes());
    // As many bits as a double holds.
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// What becomes of the sessions of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Mode {
    /// Nothing: the rollout has not begun.
    Off,
    /// They are shared out.
    Trial(Shares),
    /// The candidate has them.
    Promoted,
    /// The baseline has them.
    Baseline,
}

/// What requests need to know of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// Its name.
    pub rollout: Arc<str>,
    /// Its pool.
    pub pool: Arc<str>,
    /// How often it was started.
    pub run: u32,
    /// The step it is at.
    pub step: usize,
    /// Whether its backends have exchanged their profiles in this step.
    pub crossed: bool,
    /// The two that do, in a rollout with a crossover: only their turns are compared.
    pub pair: Option<[Arc<str>; 2]>,
    /// What is tried.
    pub candidate: Subject,
    /// What was there before.
    pub baseline: Subject,
    /// Name of the control backend.
    pub control: Arc<str>,
    /// What becomes of sessions.
    pub mode: Mode,
}

/// A session's side in a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Assigned {
    /// The side.
    pub arm: Arm,
    /// In which rollout, as that was when the turn began.
    pub routing: Arc<Routing>,
}

/// What a backend is.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Its name.
    pub backend: &'a str,
    /// What it runs.
    pub runs: &'a Runs,
    /// Its build.
    pub build: Option<&'a str>,
}

impl Site<'_> {
    /// Whether a backend is known to run this profile.
    pub fn runs_profile(&self, name: &str) -> bool {
        self.runs.is_known() && self.runs.name() == name
    }
}

impl Routing {
    /// The side of `session`; none while the rollout has not begun.
    pub fn arm(&self, session: &str) -> Option<Arm> {
        match self.mode {
            Mode::Off => None,
            Mode::Promoted => Some(Arm::Promoted),
            Mode::Baseline => Some(Arm::Baseline),
            Mode::Trial(shares) => Some(shares.arm(position(&self.rollout, self.run, session))),
        }
    }

    /// Whether a backend is the candidate's.
    pub fn is_candidate(&self, site: Site<'_>) -> bool {
        fits(&self.candidate, site)
    }

    /// Whether a backend is the baseline's.
    pub fn is_baseline(&self, site: Site<'_>) -> bool {
        fits(&self.baseline, site) && !self.is_candidate(site)
    }

    /// Whether a turn of `arm` that ran there is one to compare.
    pub fn counts(&self, arm: Arm, site: Site<'_>) -> bool {
        let is_one = |pair: &[Arc<str>; 2]| pair.iter().any(|name| **name == *site.backend);
        if !self.pair.as_ref().is_none_or(is_one) {
            return false;
        }
        match arm {
            Arm::Candidate => self.is_candidate(site),
            Arm::Control => *self.control == *site.backend && !self.is_candidate(site),
            Arm::Outside | Arm::Baseline | Arm::Promoted => false,
        }
    }
}

/// Whether `subject` is what a backend is.
pub(super) fn fits(subject: &Subject, site: Site<'_>) -> bool {
    match subject {
        Subject::Profile(name) => site.runs_profile(name),
        Subject::Backend(name) => site.backend == name,
        // `b11434` stands for `b11434-5bd8dd5` too.
        Subject::Build(name) => site.build.is_some_and(|build| {
            let rest = build.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever is the candidate's stays it when the share grows, and whoever is the control's stays that as long as
        /// there is room.
        #[test]
        fn a_larger_share_only_adds(session in "[a-f0-9]{20}", small in 0.0..1.0f64, more in 0.0..1.0f64) {
            let at = position("r", 1, &session);
            let (before, after) = (Shares::of(small), Shares::of(small + more * (1.0 - small)));
            match before.arm(at) {
                Arm::Candidate => prop_assert_eq!(after.arm(at), Arm::Candidate),
                Arm::Control if after.candidate <= 0.5 => prop_assert_eq!(after.arm(at), Arm::Control),
                _ => {}
            }
            prop_assert!(after.candidate > 0.5 || after.candidate == after.control);
            prop_assert!(after.candidate + after.control <= 1.0);
        }

        #[test]
        fn a_session_has_one_place(session in "[a-f0-9]{20}", run in 0u32..9) {
            let at = position("r", run, &session);
            prop_assert_eq!(at, position("r", run, &session));
            prop_assert!((0.0..1.0).contains(&at));
        }
    }

    #[test]
    fn shares_are_what_they_say() {
        for share in [0.05, 0.25, 0.5, 0.8, 1.0] {
            let shares = Shares::of(share);
            let count = |arm: Arm| {
                let sessions = (0..20_000).map(|n| position("canary", 3, &format!("{n:020x}")));
                sessions.filter(|at| shares.arm(*at) == arm).count() as f64 / 20_000.0
            };
            let (candidate, control) = (count(Arm::Candidate), count(Arm::Control));
            assert!((candidate - share).abs() < 0.01, "{share}: {candidate}");
            assert!(
                (control - share.min(1.0 - share)).abs() < 0.01,
                "{share}: {control}"
            );
        }
    }

    #[test]
    fn another_run_has_other_sessions() {
        let shares = Shares::of(0.1);
        let of = |run| {
            (0..2000)
                .filter(move |n| shares.arm(position("r", run, &n.to_string())) == Arm::Candidate)
        };
        let both = of(1).filter(|n| of(2).any(|m| m == *n)).count();
        assert!(both < 60, "{both} of {}", of(1).count());
    }

    #[test]
    fn a_subject_is_told_by_what_a_backend_says() {
        let (fast, plain) = (Runs::Profile(Some("fast".into())), Runs::Plain);
        let at = |runs, build| Site {
            backend: "gpu0",
            runs,
            build,
        };
        let profile = Subject::Profile("fast".into());
        assert!(fits(&profile, at(&fast, None)) && !fits(&profile, at(&plain, None)));
        assert!(fits(&Subject::Profile("none".into()), at(&plain, None)));
        let unknown = Subject::Profile("unknown".into());
        assert!(!fits(&unknown, at(&Runs::Unknown, None)));
        let build = Subject::Build("b114".into());
        assert!(
            fits(&build, at(&plain, Some("b114-abc"))) && fits(&build, at(&plain, Some("b114")))
        );
        assert!(!fits(&build, at(&plain, Some("b1140"))) && !fits(&build, at(&plain, None)));
        assert!(fits(&Subject::Backend("gpu0".into()), at(&plain, None)));
    }
}
