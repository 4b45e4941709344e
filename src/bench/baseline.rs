//! An artifact as what others compare with: rollouts of two servers that differ, regression detection where there is no
//! past.
//!
//! ```no_run
//! # use drover::bench::Baseline;
//! let baseline = Baseline::read("bench/reference/spec.json".as_ref())?;
//! for recorded in baseline.all() {
//!     let strata = recorded.strata; // what `spec::compare` takes
//! }
//! # Ok::<(), drover::bench::Unusable>(())
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::artifact::{Artifact, ContestantResult, StopReason, TurnResult, Unusable};
use super::compare::{Metric, Sides};
use crate::config::RequestClass;
use crate::spec::rollout::Ratios;
use crate::spec::sequential::Interval;
use crate::spec::{Drafts, Observation, Place, Recorded, StopKind, Strata, Stratum};
use crate::turn::Timings;

/// What a build is called that is not known.
const UNKNOWN: &str = "unknown";

/// Prompts of both that tell by how much servers differ.
const LEAST_PAIRS: u64 = 8;

/// More prompts than a workload has.
const WORKLOAD: u32 = 1_000_000;

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

    /// Of every profile with its build: what was observed, by class of request, on a backend that did nothing else.
    pub fn all(&self) -> Vec<Recorded> {
        let all = self.artifact.contestants.iter().map(|contestant| Recorded {
            profile: contestant.name.as_str().into(),
            build: contestant.build.as_deref().unwrap_or(UNKNOWN).into(),
            strata: strata(contestant),
        });
        all.collect()
    }

    /// By how much this server differs from `other` with the same profile on both, by class of request: ln of the ratio of
    /// the same prompts, each interval with a chance of at most `alpha` to be wrong (Student's t, of pairs, by
    /// a number of runs that was fixed before). Without a profile the first that both have is taken.
    ///
    /// # Errors
    /// Why they cannot be compared, in words.
    pub fn against(
        &self,
        other: &Self,
        profile: Option<&str>,
        alpha: f64,
    ) -> Result<BTreeMap<RequestClass, Ratios>, String> {
        let prompts = |artifact: &Artifact| artifact.protocol.prompts_sha256.clone();
        if prompts(&self.artifact) != prompts(&other.artifact) {
            return Err("they were measured with other prompts".to_owned());
        }
        let mine = self.artifact.contestants.iter();
        let wanted = mine.filter(|c| profile.is_none_or(|name| c.name == name));
        let mut both = wanted.filter_map(|c| Some((c, other.artifact.contestant(&c.name)?)));
        let (mine, theirs) = both.next().ok_or_else(|| match profile {
            Some(name) => format!("profile {name} was not measured on both"),
            None => "no profile was measured on both".to_owned(),
        })?;
        if mine.build != theirs.build {
            return Err(format!("{} was measured on other builds", mine.name));
        }
        let file = |c: &ContestantResult| c.model.as_ref().and_then(|model| model.sha256.clone());
        if file(mine).zip(file(theirs)).is_some_and(|(a, b)| a != b) {
            return Err(format!("{} was measured with another model", mine.name));
        }
        let (mine, theirs) = (by_class(mine), by_class(theirs));
        let ratios = mine.iter().filter_map(|(class, turns)| {
            let sides = Sides {
                a: theirs.get(class)?,
                b: turns,
                paired: true,
            };
            let of = |metric| {
                let (interval, _, n) = sides.difference(metric, alpha)?;
                (n >= LEAST_PAIRS).then_some(interval)
            };
            let any = |found: Option<Interval>| found.unwrap_or(Interval::ANY);
            Some((
                *class,
                Ratios {
                    decode: of(Metric::DecodeTps)?,
                    prefill: any(of(Metric::PrefillTps)),
                    ttft: any(of(Metric::Ttft)),
                },
            ))
        });
        Ok(ratios.collect())
    }
}

/// Turns by class, with numbers of prompts that are no other workload's too.
fn by_class(contestant: &ContestantResult) -> BTreeMap<RequestClass, Vec<TurnResult>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for (workload, cell) in contestant.cells.iter().enumerate() {
        for turn in &cell.turns {
            let Some(class) = turn.class else { continue };
            let workload = u32::try_from(workload).unwrap_or(u32::MAX);
            all.entry(class).or_default().push(TurnResult {
                prompt: workload
                    .saturating_mul(WORKLOAD)
                    .saturating_add(turn.prompt),
                ..turn.clone()
            });
        }
    }
    all
}

fn strata(contestant: &ContestantResult) -> Strata {
    let mut strata = Strata::new();
    let build = contestant.build.as_deref().unwrap_or(UNKNOWN);
    let place = place(&contestant.name, build);
    let turns = contestant.cells.iter().flat_map(|cell| &cell.turns);
    for seen in turns.filter_map(|turn| observation(&place, turn)) {
        strata.entry(seen.stratum).or_default().push(&seen);
    }
    strata
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
        model: UNKNOWN.into(),
        flags: UNKNOWN.into(),
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
        answer: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::artifact;
    use super::*;

    #[test]
    fn a_baseline_is_what_the_gateway_would_have_observed() {
        let baseline = Baseline::from(artifact(|_, _| 1.0));
        let all = baseline.all();
        let names: Vec<_> = all.iter().map(|r| (&*r.profile, &*r.build)).collect();
        assert_eq!(names, [("none", "b1-abc"), ("ngram-mod", "b1-abc")]);
        let prose = &all[1].strata[&Stratum::new(RequestClass::Prose, 1)];
        assert_eq!(prose.turns, 12);
        assert!((prose.decode.mean().exp() - 40.0).abs() < 4.0, "{prose:?}");
        assert!(prose.accept_length.n() > 0);
    }

    /// Another server with the same profile on it: the difference is the server's, within what is certain.
    #[test]
    fn two_servers_differ_by_what_the_same_profile_does_on_them() {
        let wobble = |n: u32| 1.0 + 0.02 * f64::from(n % 3);
        let slow = Baseline::from(artifact(|_, n| wobble(n)));
        let fast = Baseline::from(artifact(|_, n| 1.5 * wobble(n + 1)));
        let ratios = fast.against(&slow, Some("none"), 0.01).unwrap();
        assert_eq!(ratios.len(), 2);
        let decode = ratios[&RequestClass::Prose].decode;
        let real = 1.5f64.ln();
        assert!(decode.low < real && real < decode.high, "{decode:?}");
        assert!(decode.high - decode.low < 0.1, "{decode:?}");
        assert!(fast.against(&slow, None, 0.01).is_ok());
        let why = fast.against(&slow, Some("draft-simple"), 0.01).unwrap_err();
        assert!(why.contains("draft-simple"), "{why}");
    }

    #[test]
    fn what_was_measured_otherwise_is_not_compared() {
        let one = Baseline::from(artifact(|_, _| 1.0));
        let but = |change: &dyn Fn(&mut Artifact)| {
            let mut other = artifact(|_, _| 1.0);
            change(&mut other);
            one.against(&Baseline::from(other), Some("none"), 0.01)
        };
        assert!(but(&|_| {}).is_ok());
        let prompts = but(&|other| other.protocol.prompts_sha256 = "01".repeat(32));
        assert!(prompts.unwrap_err().contains("prompts"));
        let build = but(&|other| other.contestants[0].build = Some("b2".to_owned()));
        assert!(build.unwrap_err().contains("builds"));
        let model = but(&|other| {
            let model = other.contestants[0].model.as_mut().unwrap();
            model.sha256 = Some("22".repeat(32));
        });
        assert!(model.unwrap_err().contains("model"));
    }
}
