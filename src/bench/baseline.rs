//! An artifact as what others compare with: a rollout that has no control backend, regression detection after a
//! restart.
//!
//! ```no_run
//! # use drover::bench::Baseline;
//! let baseline = Baseline::read("bench/reference/spec.json".as_ref())?;
//! for (profile, build) in baseline.recorded() {
//!     let strata = baseline.strata(profile, build); // what `spec::compare` takes
//! }
//! # Ok::<(), drover::bench::Unusable>(())
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::artifact::{Artifact, ContestantResult, StopReason, TurnResult, Unusable};
use crate::spec::{Drafts, Observation, Place, StopKind, Strata, Stratum};
use crate::turn::Timings;

/// What a build is called that is not known.
const UNKNOWN: &str = "unknown";

/// A recorded benchmark.
#[derive(Clone, Debug)]
pub struct Baseline {
    artifact: Artifact,
}

impl Baseline {
    /// Reads an artifact.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn read(path: &Path) -> Result<Self, Unusable> {
        Artifact::read(path).map(Self::from)
    }

    /// Name of the artifact, for evidence.
    pub fn id(&self) -> &str {
        &self.artifact.id
    }

    /// Profiles with the builds they were measured on.
    pub fn recorded(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.artifact.contestants.iter();
        all.map(|c| (c.name.as_str(), c.build.as_deref().unwrap_or(UNKNOWN)))
    }

    /// What was observed of a profile on a build, by class of request, on a backend that did nothing else: the form in
    /// which the gateway keeps its own observations. Empty where it was not measured.
    pub fn strata(&self, profile: &str, build: &str) -> Strata {
        let mut strata = Strata::new();
        let is_it = |c: &&ContestantResult| {
            c.name == profile && c.build.as_deref().unwrap_or(UNKNOWN) == build
        };
        let contestants = self.artifact.contestants.iter().filter(is_it);
        let turns = contestants.flat_map(|c| c.cells.iter().flat_map(|cell| &cell.turns));
        let place = place(profile, build);
        for seen in turns.filter_map(|turn| observation(&place, turn)) {
            strata.entry(seen.stratum).or_default().push(&seen);
        }
        strata
    }
}

impl From<Artifact> for Baseline {
    fn from(artifact: Artifact) -> Self {
        Self { artifact }
    }
}

fn place(profile: &str, build: &str) -> Place {
    let bench: Arc<str> = "bench".into();
    Place {
        pool: Arc::clone(&bench),
        backend: bench,
        profile: profile.into(),
        build: build.into(),
    }
}

/// A turn as the gateway would have noted it; none where its class is not known.
fn observation(place: &Place, turn: &TurnResult) -> Option<Observation> {
    let drafts = turn.drafts;
    Some(Observation {
        place: place.clone(),
        // One at a time: one busy slot.
        stratum: Stratum::new(turn.class?, 1),
        timings: Some(Timings {
            cache_n: 0,
            prompt_n: turn.prompt_tokens,
            prompt_ms: turn.prompt_ms,
            predicted_n: turn.generated_tokens,
            predicted_ms: turn.generated_ms,
            draft_n: (drafts.drafted > 0).then_some(drafts.drafted),
            draft_n_accepted: (drafts.drafted > 0).then_some(drafts.accepted),
        }),
        drafts: Drafts {
            drafted: drafts.drafted,
            accepted: drafts.accepted,
            steps: drafts.verify_steps,
        },
        ttft: turn
            .ttft_ms
            .map(|ms| Duration::from_secs_f64(ms.max(0.0) / 1e3)),
        stop: match turn.stop {
            StopReason::End | StopReason::ToolCalls => StopKind::End,
            StopReason::Length => StopKind::Length,
            StopReason::StopSequence => StopKind::Sequence,
            StopReason::Failed => StopKind::Failed,
        },
        expected_cached: None,
        malformed: turn.malformed,
        looping: false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::artifact;
    use super::*;
    use crate::config::RequestClass;

    #[test]
    fn a_baseline_is_what_the_gateway_would_have_observed() {
        let baseline = Baseline::from(artifact(|_, _| 1.0));
        let recorded: Vec<_> = baseline.recorded().collect();
        assert_eq!(recorded, [("none", "b1-abc"), ("ngram-mod", "b1-abc")]);
        let strata = baseline.strata("ngram-mod", "b1-abc");
        let prose = &strata[&Stratum::new(RequestClass::Prose, 1)];
        assert_eq!(prose.turns, 12);
        assert!((prose.decode.mean().exp() - 40.0).abs() < 4.0, "{prose:?}");
        assert!(prose.accept_length.n() > 0);
        assert!(baseline.strata("ngram-mod", "b2").is_empty());
    }
}
