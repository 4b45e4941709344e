//! Looking for the settings of a profile.
//!
//! Candidates are measured in groups, each beside a control that does not speculate, so that what else the machine
//! does strikes both: a candidate's score is the median, over prompts, of ln(its decode speed / the control's). With
//! successive halving (Jamieson, Talwalkar: "Non-stochastic best arm identification and hyperparameter
//! optimization", 2016) many are measured briefly and few at length. The best of many is partly the luckiest: what is
//! told of the winners is measured once more, with prompts that nobody has seen.

mod grid;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::artifact::{Artifact, Workload};
use super::compare::{Metric, Sides};
use super::contestant::{Contestant, plain};
use super::stage::StageError;
use crate::config::{RequestClass, SpecProfile, SpecType};
use crate::spec::sequential::Interval;

pub use grid::Grid;

/// Name of the control.
pub const CONTROL: &str = "none";
/// Chance that any of the intervals told of the winners misses.
const ALPHA: f64 = 0.05;

/// How candidates are weeded out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// All of them at length.
    Grid,
    /// All briefly, then half of them twice as long, and so on.
    Halving,
}

/// What may be spent.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// No group is begun after this time.
    pub until: Instant,
    /// Most turns, warm-up included.
    pub turns: u64,
}

/// How to look.
#[derive(Clone, Debug)]
pub struct Search {
    /// Who could win.
    pub candidates: Vec<Contestant>,
    /// On what.
    pub workloads: Vec<Workload>,
    /// How they are weeded out.
    pub method: Method,
    /// Turns of each candidate and workload in the first rung.
    pub runs: u32,
    /// Turns of each winner and workload at the end.
    pub confirm: u32,
    /// Turns that warm up a group, of each candidate and workload.
    pub warmup: u32,
    /// Servers that run at a time, the control among them; 2 or more.
    pub at_once: usize,
    /// What may be spent.
    pub budget: Budget,
}

/// One group to measure: the control and some candidates.
#[derive(Debug)]
pub struct Group<'a> {
    /// Who, the control first.
    pub contestants: Vec<Contestant>,
    /// Turns of each on each workload.
    pub runs: u32,
    /// Number of the first prompt.
    pub first: u32,
    /// On what.
    pub workloads: &'a [Workload],
}

/// What was found for a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Winner {
    /// Its settings.
    pub profile: SpecProfile,
    /// ln of its decode speed over the control's, with fresh prompts: where it is, its estimate, and of how many
    /// prompts. None where the budget did not reach.
    pub evidence: Option<(Interval, f64, u64)>,
    /// Median of the same while it was looked for, which flatters it.
    pub score: f64,
    /// Classes that the gateway counted the turns in.
    pub classes: BTreeSet<RequestClass>,
    /// Accept length, where drafts were verified.
    pub accept_length: Option<f64>,
}

impl Winner {
    /// Whether it is faster than no speculation beyond doubt.
    pub fn is_faster(&self) -> bool {
        self.evidence
            .is_some_and(|(interval, ..)| interval.is_above(0.0))
    }
}

/// What came of the search.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The best for each workload.
    pub winners: BTreeMap<Workload, Winner>,
    /// Score and prompts of every candidate that was measured, by workload and name.
    pub scores: BTreeMap<Workload, BTreeMap<String, (f64, usize)>>,
    /// Turns that were spent.
    pub turns: u64,
    /// Whether the budget ended it before it was through.
    pub cut_short: bool,
}

/// ln ratios by workload and candidate.
type Ratios = BTreeMap<Workload, BTreeMap<String, Vec<f64>>>;

/// Looks for the best candidate of each workload; `measure` measures one group.
///
/// # Errors
/// Those of `measure`, and [`StageError::Usage`] when the budget does not reach for one group.
pub fn search(
    search: &Search,
    measure: &mut dyn FnMut(Group<'_>) -> Result<Artifact, StageError>,
) -> Result<Found, StageError> {
    let mut run = Run {
        search,
        measure,
        ratios: Ratios::new(),
        found: Found::default(),
        first: 0,
    };
    let mut left: Vec<Contestant> = search.candidates.clone();
    let mut runs = search.runs;
    while run.rung(&left, runs)? {
        let keep = match search.method {
            Method::Grid => 1,
            Method::Halving => left.len().div_ceil(2),
        };
        left = run.best(&left, keep);
        if keep <= 1 {
            break;
        }
        runs *= 2;
    }
    if run.ratios.is_empty() {
        return Err(StageError::Usage(
            "the budget does not reach for a single group".to_owned(),
        ));
    }
    run.confirm()?;
    Ok(run.found)
}

struct Run<'a> {
    search: &'a Search,
    measure: &'a mut dyn FnMut(Group<'_>) -> Result<Artifact, StageError>,
    ratios: Ratios,
    found: Found,
    first: u32,
}

impl Run<'_> {
    /// Measures candidates in groups; false when the budget ended it.
    fn rung(&mut self, candidates: &[Contestant], runs: u32) -> Result<bool, StageError> {
        for group in candidates.chunks(self.search.at_once.saturating_sub(1).max(1)) {
            let Some(artifact) = self.group(group, runs)? else {
                return Ok(false);
            };
            for workload in &self.search.workloads {
                for candidate in group {
                    let ratios = ratios(&artifact, *workload, &candidate.name);
                    let all = self.ratios.entry(*workload).or_default();
                    all.entry(candidate.name.clone())
                        .or_default()
                        .extend(ratios);
                }
            }
        }
        self.first += runs;
        self.score();
        Ok(true)
    }

    /// Measures one group, if the budget allows.
    fn group(&mut self, group: &[Contestant], runs: u32) -> Result<Option<Artifact>, StageError> {
        let search = self.search;
        let each = u64::from(runs + search.warmup) * search.workloads.len() as u64;
        let turns = (group.len() as u64 + 1) * each;
        let spent = self.found.turns + turns > search.budget.turns;
        if spent || Instant::now() >= search.budget.until {
            self.found.cut_short = true;
            return Ok(None);
        }
        let control = Contestant {
            name: CONTROL.to_owned(),
            types: Some(CONTROL.to_owned()),
            profile: Some(plain(SpecType::None)),
        };
        let artifact = (self.measure)(Group {
            contestants: std::iter::once(control)
                .chain(group.iter().cloned())
                .collect(),
            runs,
            first: self.first,
            workloads: &search.workloads,
        })?;
        self.found.turns += turns;
        Ok(Some(artifact))
    }

    fn score(&mut self) {
        for (workload, candidates) in &self.ratios {
            let scores = candidates.iter().filter(|(_, ratios)| !ratios.is_empty());
            let scores =
                scores.map(|(name, ratios)| (name.clone(), (median(ratios), ratios.len())));
            self.found.scores.insert(*workload, scores.collect());
        }
    }

    /// Those of `candidates` that are among the best `keep` of some workload.
    fn best(&self, candidates: &[Contestant], keep: usize) -> Vec<Contestant> {
        let mut names = BTreeSet::new();
        for scores in self.found.scores.values() {
            names.extend(best_of(scores, candidates, keep));
        }
        let is_best = |candidate: &&Contestant| names.contains(candidate.name.as_str());
        candidates.iter().filter(is_best).cloned().collect()
    }

    /// Measures the winners once more.
    fn confirm(&mut self) -> Result<(), StageError> {
        self.score();
        let all = &self.search.candidates;
        for (workload, scores) in &self.found.scores {
            let winner = best_of(scores, all, 1).into_iter().next();
            let candidate = winner.and_then(|name| all.iter().find(|c| c.name == name));
            if let Some(candidate) = candidate
                && let Some(profile) = &candidate.profile
            {
                let winner = Winner {
                    profile: profile.clone(),
                    evidence: None,
                    score: scores[&candidate.name].0,
                    classes: BTreeSet::new(),
                    accept_length: None,
                };
                self.found.winners.insert(*workload, winner);
            }
        }
        let winners = self.best(all, 1);
        let share = ALPHA / self.search.workloads.len().max(1) as f64;
        for group in winners.chunks(self.search.at_once.saturating_sub(1).max(1)) {
            let Some(artifact) = self.group(group, self.search.confirm)? else {
                return Ok(());
            };
            for candidate in group {
                for (workload, winner) in &mut self.found.winners {
                    if candidate.profile.as_ref() == Some(&winner.profile) {
                        winner.confirmed(&artifact, *workload, &candidate.name, share);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Winner {
    fn confirmed(&mut self, artifact: &Artifact, workload: Workload, name: &str, alpha: f64) {
        let cell = |name| artifact.contestant(name)?.cell(workload);
        let (Some(control), Some(own)) = (cell(CONTROL), cell(name)) else {
            return;
        };
        let sides = Sides {
            a: &control.turns,
            b: &own.turns,
            paired: true,
        };
        self.evidence = sides.difference(Metric::DecodeTps, alpha);
        self.classes = own.summary.classes.keys().copied().collect();
        self.accept_length = own.summary.accept_length;
    }
}

/// Names of the best `keep` of `candidates`, the best first.
fn best_of<'a>(
    scores: &'a BTreeMap<String, (f64, usize)>,
    candidates: &[Contestant],
    keep: usize,
) -> Vec<&'a str> {
    let is_one = |name: &str| candidates.iter().any(|c| c.name == name);
    let mut all: Vec<_> = scores.iter().filter(|(name, _)| is_one(name)).collect();
    all.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    all.into_iter()
        .take(keep)
        .map(|(name, _)| name.as_str())
        .collect()
}

/// ln(decode speed of `name` / that of the control) of each prompt that both answered.
fn ratios(artifact: &Artifact, workload: Workload, name: &str) -> Vec<f64> {
    let speeds = |name: &str| -> BTreeMap<u32, f64> {
        let cell = artifact.contestant(name).and_then(|c| c.cell(workload));
        let turns = cell.map(|cell| cell.turns.as_slice()).unwrap_or_default();
        let answered = turns.iter().filter(|turn| turn.is_answered());
        answered
            .filter_map(|turn| Some((turn.prompt, turn.decode_tps()?)))
            .collect()
    };
    let control = speeds(CONTROL);
    let both = speeds(name).into_iter();
    both.filter_map(|(prompt, speed)| Some((speed / control.get(&prompt)?).ln()))
        .collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len() / 2, sorted.len() % 2) {
        (_, _) if sorted.is_empty() => f64::NEG_INFINITY,
        (half, 1) => sorted[half],
        (half, _) => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

#[cfg(test)]
mod tests;
