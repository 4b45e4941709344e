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
mod tests {
    use super::*;
    use crate::config::RequestClass;

    /// `n` turns around `mean` with a spread of 0.1.
    fn sample(mean: f64, n: u64) -> Sample {
        let mut sample = Sample::default();
        for at in 0..n {
            sample.push(mean + 0.1 * (f64::from((at % 5) as u8) - 2.0));
        }
        sample
    }

    fn cell(
        when: When,
        class: RequestClass,
        labels: [(Dimension, &str); 3],
        sample: Sample,
    ) -> Cell {
        Cell {
            when,
            stratum: Stratum { class, busy: 1 },
            labels: labels
                .map(|(dimension, value)| (dimension, value.into()))
                .to_vec(),
            sample,
        }
    }

    fn labels<'a>(backend: &'a str, profile: &'a str, build: &'a str) -> [(Dimension, &'a str); 3] {
        [
            (Dimension::Backend, backend),
            (Dimension::Profile, profile),
            (Dimension::Build, build),
        ]
    }

    const BOTH: [(RequestClass, f64); 2] = [(RequestClass::Prose, 3.0), (RequestClass::Edit, 4.5)];

    #[test]
    fn a_bad_build_on_one_of_two_backends_is_blamed_first() {
        let mut cells = Vec::new();
        for (class, level) in BOTH {
            for backend in ["g0", "g1"] {
                let before = labels(backend, "m", "b1");
                cells.push(cell(When::Before, class, before, sample(level, 100)));
            }
            cells.push(cell(
                When::After,
                class,
                labels("g0", "m", "b1"),
                sample(level, 100),
            ));
            cells.push(cell(
                When::After,
                class,
                labels("g1", "m", "b2"),
                sample(level - 0.4, 100),
            ));
        }
        let blames = attribute(&cells);
        assert_eq!(
            (blames[0].dimension, &*blames[0].value),
            (Dimension::Build, "b2")
        );
        let backend = blames
            .iter()
            .find(|b| b.dimension == Dimension::Backend)
            .unwrap();
        assert!(backend.share < blames[0].share, "{blames:?}");
    }

    #[test]
    fn a_bad_profile_is_blamed_and_not_the_build_that_came_everywhere() {
        let mut cells = Vec::new();
        for (class, level) in BOTH {
            for (backend, later, fall) in [("g0", "m", 0.0), ("g1", "aggressive", 0.4)] {
                let before = labels(backend, "m", "b1");
                cells.push(cell(When::Before, class, before, sample(level, 100)));
                let after = labels(backend, later, "b2");
                cells.push(cell(When::After, class, after, sample(level - fall, 100)));
            }
        }
        let blames = attribute(&cells);
        assert_eq!(
            (blames[0].dimension, &*blames[0].value),
            (Dimension::Profile, "aggressive")
        );
    }

    #[test]
    fn other_work_is_blamed_on_the_mix() {
        let at = |when, prose, edit| {
            [
                cell(
                    when,
                    RequestClass::Prose,
                    labels("g0", "m", "b1"),
                    sample(3.0, prose),
                ),
                cell(
                    when,
                    RequestClass::Edit,
                    labels("g0", "m", "b1"),
                    sample(4.5, edit),
                ),
            ]
        };
        let cells = [at(When::Before, 50, 250), at(When::After, 250, 50)].concat();
        let blames = attribute(&cells);
        assert_eq!(blames[0].dimension, Dimension::Class);
        assert!(blames[0].share > 0.9, "{blames:?}");
    }

    #[test]
    fn no_change_has_no_cause() {
        let same = |when| {
            cell(
                when,
                RequestClass::Prose,
                labels("g0", "m", "b1"),
                sample(3.0, 100),
            )
        };
        assert_eq!(attribute(&[same(When::Before), same(When::After)]), []);
        assert_eq!(attribute(&[same(When::Before)]), []);
    }
}
