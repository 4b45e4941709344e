//! Which of the things that differ explains most of a change.
//!
//! A pool may be slower because other work comes, or because the same work runs slower. The change of
//! the mean is taken apart into both (Kitagawa: "Components of a difference between two rates", 1955):
//! what the mix of strata does at the earlier speeds, and what is left within strata. The mix is blamed
//! on class and load. What is left is blamed on the dimension whose values it differs between: the part
//! of the variance of the cells' residuals that lies between the groups of that dimension, less what
//! chance would put there (ω², Hays 1963).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::observe::Stratum;
use super::sequential::Sample;

/// What turns can differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// The llama.cpp build.
    Build,
    /// The speculative profile.
    Profile,
    /// The server's flags, as a hash or a name.
    Flags,
    /// The model file.
    Model,
    /// The backend.
    Backend,
    /// The class of requests.
    Class,
    /// Busy slots.
    Load,
    /// Position in the context, in groups.
    Position,
}

/// Before the change, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum When {
    /// Before.
    Before,
    /// After.
    After,
}

/// Turns that are alike in every dimension.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Before or after.
    pub when: When,
    /// Class and load.
    pub stratum: Stratum,
    /// The other dimensions, as far as they are known.
    pub labels: Vec<(Dimension, Arc<str>)>,
    /// The metric.
    pub sample: Sample,
}

/// How much of a change a dimension explains.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Blame {
    /// Which.
    pub dimension: Dimension,
    /// The value it is worst with.
    pub value: Arc<str>,
    /// The part of the change that it explains, from 0 to 1. Dimensions that change together explain
    /// the same part, each of them.
    pub share: f64,
}

/// The dimensions that explain the change between the cells before and after, the most likely first.
/// Empty when there is no change, or nothing to compare.
pub fn attribute(cells: &[Cell]) -> Vec<Blame> {
    let before = Side::of(cells, When::Before);
    let after = Side::of(cells, When::After);
    if before.all.n() == 0 || after.all.n() == 0 {
        return Vec::new();
    }
    let mix = mix(&before, &after);
    let within = (after.all.mean() - before.all.mean()) - mix.values().sum::<f64>();
    let size = mix.values().map(|part| part.abs()).sum::<f64>() + within.abs();
    if size <= f64::EPSILON {
        return Vec::new();
    }
    let mut blames = blame_mix(&mix, size);
    blames.extend(blame_residuals(cells, &before, within.abs() / size));
    blames.sort_by(|a, b| {
        b.share
            .total_cmp(&a.share)
            .then(a.dimension.cmp(&b.dimension))
    });
    blames
}

struct Side {
    all: Sample,
    strata: BTreeMap<Stratum, Sample>,
}

impl Side {
    fn of(cells: &[Cell], when: When) -> Self {
        let mut side = Self {
            all: Sample::default(),
            strata: BTreeMap::new(),
        };
        for cell in cells.iter().filter(|cell| cell.when == when) {
            side.all = side.all.merged(&cell.sample);
            let stratum = side.strata.entry(cell.stratum).or_default();
            *stratum = stratum.merged(&cell.sample);
        }
        side
    }

    fn share(&self, stratum: &Stratum) -> f64 {
        let n = self.strata.get(stratum).map_or(0, Sample::n);
        n as f64 / self.all.n() as f64
    }
}

/// What each stratum's part of the turns does to the mean.
fn mix(before: &Side, after: &Side) -> BTreeMap<Stratum, f64> {
    let strata = before.strata.keys().chain(after.strata.keys());
    strata
        .map(|stratum| {
            // A stratum that is new is compared with itself: only its coming counts as mix.
            let mean = before.strata.get(stratum).or(after.strata.get(stratum));
            let level = mean.map_or(0.0, Sample::mean) - before.all.mean();
            let moved = after.share(stratum) - before.share(stratum);
            (*stratum, moved * level)
        })
        .collect()
}

/// Class and load share the mix by how much each of them alone moves.
fn blame_mix(mix: &BTreeMap<Stratum, f64>, size: f64) -> Vec<Blame> {
    let by = |dimension, name: fn(&Stratum) -> Arc<str>| {
        let mut parts: BTreeMap<Arc<str>, f64> = BTreeMap::new();
        for (stratum, part) in mix {
            *parts.entry(name(stratum)).or_default() += part;
        }
        let share = parts.values().map(|part| part.abs()).sum::<f64>() / size;
        let worst = parts.into_iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
        (share > 1e-9).then_some(Blame {
            dimension,
            value: worst.0,
            share,
        })
    };
    let class = by(Dimension::Class, |stratum| stratum.class.as_str().into());
    let load = by(Dimension::Load, |stratum| stratum.busy.to_string().into());
    class.into_iter().chain(load).collect()
}

/// Mean, variance and count of the cells of one value, each cell's mean less that of its stratum.
fn residual(cell: &Cell, before: &Side) -> Option<(f64, Sample)> {
    let stratum = before.strata.get(&cell.stratum)?;
    Some((cell.sample.mean() - stratum.mean(), cell.sample))
}

/// Residuals by a dimension's value.
type Groups = BTreeMap<Arc<str>, Vec<(f64, Sample)>>;

fn blame_residuals(cells: &[Cell], before: &Side, part: f64) -> Vec<Blame> {
    let mut groups: BTreeMap<Dimension, Groups> = BTreeMap::new();
    let mut all = Vec::new();
    for cell in cells {
        let Some(residual) = residual(cell, before) else {
            continue;
        };
        all.push(residual);
        let class: Arc<str> = cell.stratum.class.as_str().into();
        let load: Arc<str> = cell.stratum.busy.to_string().into();
        let own = [(Dimension::Class, class), (Dimension::Load, load)];
        for (dimension, value) in cell.labels.iter().cloned().chain(own) {
            let values = groups.entry(dimension).or_default();
            values.entry(value).or_default().push(residual);
        }
    }
    let (mean, n) = mean(&all);
    let spread = |group: &[(f64, Sample)]| -> f64 {
        let own = |(at, sample): &(f64, Sample)| {
            let within = sample.variance() * sample.n().saturating_sub(1) as f64;
            within + sample.n() as f64 * (at - mean).powi(2)
        };
        group.iter().map(own).sum()
    };
    let total = spread(&all);
    let explained = |values: &Groups| -> Option<(Arc<str>, f64)> {
        if values.len() < 2 || total <= 0.0 {
            return None;
        }
        let means = values
            .iter()
            .map(|(value, group)| (value, self::mean(group)));
        let between: f64 = means
            .clone()
            .map(|(_, (at, n))| n * (at - mean).powi(2))
            .sum();
        let freedom = values.len() as f64 - 1.0;
        let rest = (total - between) / (n - freedom - 1.0).max(1.0);
        let share = (between - freedom * rest) / (total + rest);
        let worst = means.min_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
        (share > 0.0).then(|| (Arc::clone(worst.0), share))
    };
    let found: Vec<(Dimension, Arc<str>, f64)> = groups
        .iter()
        .filter_map(|(dimension, values)| {
            let (value, share) = explained(values)?;
            Some((*dimension, value, share))
        })
        .collect();
    let most = found.iter().map(|(_, _, share)| *share).fold(0.0, f64::max);
    let blame = |(dimension, value, share): (Dimension, Arc<str>, f64)| Blame {
        dimension,
        value,
        share: part * share / most,
    };
    found.into_iter().map(blame).collect()
}

fn mean(group: &[(f64, Sample)]) -> (f64, f64) {
    let n: f64 = group.iter().map(|(_, sample)| sample.n() as f64).sum();
    let sum: f64 = group
        .iter()
        .map(|(at, sample)| at * sample.n() as f64)
        .sum();
    (sum / n.max(1.0), n)
}

#[cfg(test)]
mod tests;
