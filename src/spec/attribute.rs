//! Which of the things that differ explains most of a change.
//!
//! Something may be slower because other work comes, or because the same work runs slower. The change of
//! the mean is taken apart into both (Kitagawa: "Components of a difference between two rates", 1955):
//! what the mix of strata and positions does at the earlier speeds, and what is left within them. The mix is
//! blamed on class, load and position. What is left is blamed on the dimension whose values it differs between:
//! the part of the variance of the cells' residuals that lies between the groups of that dimension, less what
//! chance would put there (ω², Hays 1963). A residual is what a backend's mean is away from its own earlier one,
//! so that backends which are faster than others are not blamed for that.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::observe::{Position, Stratum};
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

impl Dimension {
    /// Its name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Profile => "profile",
            Self::Flags => "flags",
            Self::Model => "model",
            Self::Backend => "backend",
            Self::Class => "class",
            Self::Load => "load",
            Self::Position => "position",
        }
    }
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
    /// Whether it is part of the change that is to be explained; others tell what else changed, or did not.
    pub focus: bool,
    /// Class and load.
    pub stratum: Stratum,
    /// Position.
    pub position: Position,
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

/// The dimensions that explain the change between the cells before and after, the most likely first. Means are
/// such that less is worse. Empty when there is no change, or nothing to compare.
pub fn attribute(cells: &[Cell]) -> Vec<Blame> {
    let focus = || cells.iter().filter(|cell| cell.focus);
    let before = Side::of(focus(), When::Before);
    let after = Side::of(focus(), When::After);
    if before.all.n() == 0 || after.all.n() == 0 {
        return Vec::new();
    }
    let mix = mix(&before, &after);
    let within = (after.all.mean() - before.all.mean()) - mix.values().sum::<f64>();
    let size = mix.values().map(|part| part.abs()).sum::<f64>() + within.abs();
    if size <= f64::EPSILON {
        return Vec::new();
    }
    let mut blames: Vec<Blame> = Vec::new();
    let found = blame_mix(&before, &after, size)
        .into_iter()
        .chain(blame_residuals(cells, within.abs() / size));
    for blame in found {
        match blames.iter_mut().find(|b| b.dimension == blame.dimension) {
            Some(known) if known.share < blame.share => *known = blame,
            Some(_) => {}
            None => blames.push(blame),
        }
    }
    blames.sort_by(|a, b| {
        b.share
            .total_cmp(&a.share)
            .then(a.dimension.cmp(&b.dimension))
    });
    blames
}

/// Turns of the same kind of work.
type Kind = (Stratum, Position);

/// Turns before or after, by kind of work or by one dimension of it.
struct Side<K = Kind> {
    all: Sample,
    kinds: BTreeMap<K, Sample>,
}

impl Side {
    fn of<'a>(cells: impl Iterator<Item = &'a Cell>, when: When) -> Self {
        let mut side = Self {
            all: Sample::default(),
            kinds: BTreeMap::new(),
        };
        for cell in cells.filter(|cell| cell.when == when) {
            side.all = side.all.merged(&cell.sample);
            let kind = side.kinds.entry(cell.kind()).or_default();
            *kind = kind.merged(&cell.sample);
        }
        side
    }

    fn by(&self, name: Named) -> Side<Arc<str>> {
        let mut kinds: BTreeMap<_, Sample> = BTreeMap::new();
        for (kind, sample) in &self.kinds {
            let of_name = kinds.entry(name(kind)).or_default();
            *of_name = of_name.merged(sample);
        }
        Side {
            all: self.all,
            kinds,
        }
    }
}

impl<K: Ord> Side<K> {
    fn share(&self, kind: &K) -> f64 {
        let n = self.kinds.get(kind).map_or(0, Sample::n);
        n as f64 / self.all.n() as f64
    }
}

impl Cell {
    fn kind(&self) -> Kind {
        (self.stratum, self.position)
    }

    fn label(&self, wanted: Dimension) -> Option<&Arc<str>> {
        let mut labels = self.labels.iter();
        labels.find_map(|(dimension, value)| (*dimension == wanted).then_some(value))
    }
}

/// What the part of each kind of work among all turns does to the mean.
fn mix<K: Ord + Clone>(before: &Side<K>, after: &Side<K>) -> BTreeMap<K, f64> {
    let kinds = before.kinds.keys().chain(after.kinds.keys());
    kinds
        .map(|kind| {
            // A kind that is new is compared with itself: only its coming counts as mix.
            let mean = before.kinds.get(kind).or(after.kinds.get(kind));
            let level = mean.map_or(0.0, Sample::mean) - before.all.mean();
            let moved = after.share(kind) - before.share(kind);
            (kind.clone(), moved * level)
        })
        .collect()
}

/// Class, load and position share the mix by how much of it each of them alone brings.
fn blame_mix(before: &Side, after: &Side, size: f64) -> Vec<Blame> {
    KINDS
        .iter()
        .filter_map(|(dimension, name)| {
            let (before, after) = (before.by(*name), after.by(*name));
            let parts = mix(&before, &after);
            let share = parts.values().map(|part| part.abs()).sum::<f64>() / size;
            let worst = parts.into_iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
            (share > 1e-9).then_some(Blame {
                dimension: *dimension,
                value: worst.0,
                share,
            })
        })
        .collect()
}

/// Names a value.
type Named = fn(&Kind) -> Arc<str>;

/// The dimensions of a kind of work, and the names of their values.
const KINDS: [(Dimension, Named); 3] = [
    (Dimension::Class, |(stratum, _)| {
        stratum.class.as_str().into()
    }),
    (Dimension::Load, |(stratum, _)| {
        stratum.busy.to_string().into()
    }),
    (Dimension::Position, |(_, position)| {
        position.to_string().into()
    }),
];

/// How far a cell's mean is away from what it was before.
#[derive(Clone, Copy)]
struct Residual {
    at: f64,
    /// What it weighs, in turns.
    n: f64,
    variance: f64,
}

/// What was seen of a kind of work on one backend, before and after.
type Sides<'a> = BTreeMap<(Kind, Option<&'a Arc<str>>), [Sample; 2]>;

struct Reference<'a> {
    own: Sides<'a>,
    /// Before, on all backends.
    all: BTreeMap<Kind, Sample>,
}

impl<'a> Reference<'a> {
    fn of(cells: &'a [Cell]) -> Self {
        let mut own = Sides::new();
        let mut all: BTreeMap<_, Sample> = BTreeMap::new();
        for cell in cells {
            let backend = cell.label(Dimension::Backend);
            let sides = own.entry((cell.kind(), backend)).or_default();
            let side = &mut sides[usize::from(cell.when == When::After)];
            *side = side.merged(&cell.sample);
            if cell.when == When::Before {
                let all = all.entry(cell.kind()).or_default();
                *all = all.merged(&cell.sample);
            }
        }
        Self { own, all }
    }

    /// How far a cell's mean is away from what it was on its backend, or on all where it is new there. Both sides weigh
    /// the same: a backend or a class of which more came after the change than before is no worse for that.
    fn residual(&self, cell: &'a Cell) -> Option<Residual> {
        let own = (cell.kind(), cell.label(Dimension::Backend));
        let [before, after] = self.own.get(&own)?;
        let side = if cell.when == When::After {
            after
        } else {
            before
        };
        let (reference, weight) = match before.n().min(after.n()) {
            0 => (self.all.get(&cell.kind())?, 1.0),
            least => (before, least as f64 / side.n() as f64),
        };
        Some(Residual {
            at: cell.sample.mean() - reference.mean(),
            n: cell.sample.n() as f64 * weight,
            variance: cell.sample.variance(),
        })
    }
}

/// Residuals by a dimension's value.
type Groups = BTreeMap<Arc<str>, Vec<Residual>>;

fn blame_residuals(cells: &[Cell], part: f64) -> Vec<Blame> {
    let mut groups: BTreeMap<Dimension, Groups> = BTreeMap::new();
    let mut all = Vec::new();
    let reference = Reference::of(cells);
    for cell in cells {
        let Some(residual) = reference.residual(cell) else {
            continue;
        };
        all.push(residual);
        let own = KINDS.map(|(dimension, name)| (dimension, name(&cell.kind())));
        for (dimension, value) in cell.labels.iter().cloned().chain(own) {
            let values = groups.entry(dimension).or_default();
            values.entry(value).or_default().push(residual);
        }
    }
    let all = Spread::of(&all);
    let found: Vec<(Dimension, Arc<str>, f64)> = groups
        .iter()
        .filter_map(|(dimension, values)| {
            let (value, share) = all.explained_by(values)?;
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

/// Mean, count and sum of squared distances from the mean of all turns.
struct Spread {
    mean: f64,
    n: f64,
    total: f64,
}

impl Spread {
    fn of(all: &[Residual]) -> Self {
        let (mean, n) = mean(all);
        let own = |r: &Residual| (r.n - 1.0).max(0.0) * r.variance + r.n * (r.at - mean).powi(2);
        Self {
            mean,
            n,
            total: all.iter().map(own).sum(),
        }
    }

    /// The value that is worst, and the part of the spread that lies between the values (ω²).
    fn explained_by(&self, values: &Groups) -> Option<(Arc<str>, f64)> {
        if values.len() < 2 || self.total <= 0.0 {
            return None;
        }
        let means = values.iter().map(|(value, group)| (value, mean(group)));
        let between: f64 = means
            .clone()
            .map(|(_, (at, n))| n * (at - self.mean).powi(2))
            .sum();
        let freedom = values.len() as f64 - 1.0;
        let rest = (self.total - between) / (self.n - freedom - 1.0).max(1.0);
        let share = (between - freedom * rest) / (self.total + rest);
        let worst = means.min_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
        (share > 0.0).then(|| (Arc::clone(worst.0), share))
    }
}

fn mean(group: &[Residual]) -> (f64, f64) {
    let n: f64 = group.iter().map(|residual| residual.n).sum();
    let sum: f64 = group.iter().map(|residual| residual.at * residual.n).sum();
    (sum / n.max(1.0), n)
}

#[cfg(test)]
mod tests;
