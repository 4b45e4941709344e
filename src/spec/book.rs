//! All that was observed, by place and stratum.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::attribute::{Cell, Dimension, When};
use super::observe::{Observation, Place, Stratum};
use super::regress::Measure;

/// Most rows; of the places that were seen longest ago the rows go first.
const MAX_ROWS: usize = 4096;

/// Most backends of a pool that are looked at to tell what explains a change.
const MAX_WITNESSES: usize = 16;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What.
    #[serde(flatten)]
    pub stratum: Stratum,
}

/// The aggregates of one place.
pub type Strata = BTreeMap<Stratum, Aggregate>;

/// What was observed at one place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Page {
    /// By stratum, as a list: keys of JSON are text.
    #[serde(with = "listed")]
    strata: Strata,
    /// What was there when something changed on another backend of the pool: what came before that, as
    /// opposed to what came after it.
    #[serde(with = "listed")]
    mark: Strata,
    /// When it was last seen, by the book's clock.
    last: u64,
    /// It has changed since it was last kept.
    #[serde(skip)]
    is_new: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Book {
    pages: HashMap<Place, Page>,
    count: usize,
    /// Observations so far: the clock by which pages are old.
    now: u64,
}

impl Book {
    /// Take in one observation.
    pub fn push(&mut self, seen: &Observation) {
        self.now += 1;
        let ran = self.runs_now(&seen.place);
        if ran.is_none_or(|ran| *ran != seen.place) {
            self.something_changed(&seen.place);
        }
        if !self.pages.contains_key(&seen.place) {
            self.make_room();
        }
        let page = self.pages.entry(seen.place.clone()).or_default();
        page.last = self.now;
        page.is_new = true;
        let before = page.strata.len();
        page.strata.entry(seen.stratum).or_default().push(seen);
        self.count += page.strata.len() - before;
    }

    /// The place of the backend of `place` that was seen last.
    fn runs_now(&self, place: &Place) -> Option<&Place> {
        let own = self.pages.iter().filter(|(p, _)| p.is_neighbour(place));
        own.max_by_key(|(_, page)| page.last)
            .map(|(place, _)| place)
    }

    /// Another place has begun on the backend of `place`: what is known of the others of its pool is marked.
    fn something_changed(&mut self, place: &Place) {
        let others = self
            .pages
            .iter_mut()
            .filter(|(other, _)| other.pool == place.pool && !other.is_neighbour(place));
        for (_, page) in others {
            page.mark = page.strata.clone();
        }
    }

    fn make_room(&mut self) {
        while self.count >= MAX_ROWS {
            let oldest = self.pages.iter().min_by_key(|(_, page)| page.last);
            let Some(place) = oldest.map(|(place, _)| place.clone()) else {
                return;
            };
            if let Some(page) = self.pages.remove(&place) {
                self.count -= page.strata.len();
            }
        }
    }

    /// What was seen at one place.
    pub fn at(&self, place: &Place) -> Option<&Strata> {
        self.pages.get(place).map(|page| &page.strata)
    }

    /// Every place, the most recently seen first.
    pub fn places(&self) -> Vec<&Place> {
        let mut places: Vec<_> = self.pages.iter().collect();
        places.sort_by_key(|(_, page)| std::cmp::Reverse(page.last));
        places.into_iter().map(|(place, _)| place).collect()
    }

    /// Every row.
    pub fn rows(&self) -> impl Iterator<Item = (Key, &Aggregate)> {
        self.pages.iter().flat_map(|(place, page)| {
            page.strata.iter().map(|(stratum, all)| {
                let key = Key {
                    place: place.clone(),
                    stratum: *stratum,
                };
                (key, all)
            })
        })
    }

    /// What ran on the backend of `place` before, in its pool, by another profile, build, model or flags: the last
    /// that has at least `least` turns in a stratum that `place` has as well. A build that ran for a few turns
    /// only is no baseline.
    pub fn before(&self, place: &Place, least: u64) -> Option<&Place> {
        let now = self.at(place)?;
        let is_enough = |page: &Page| {
            let mut common = page.strata.iter().filter(|(s, _)| now.contains_key(s));
            common.any(|(_, all)| all.turns >= least)
        };
        let others = self.pages.iter().filter(|(other, page)| {
            other.is_neighbour(place) && *other != place && is_enough(page)
        });
        others
            .max_by_key(|(_, page)| page.last)
            .map(|(place, _)| place)
    }

    /// What tells what a change of `measure` between two places comes from: what was seen at both of them, and what
    /// was seen meanwhile on the other backends of the pool. In focus is `stratum` at both places, or all of them.
    pub fn cells(
        &self,
        now: &Place,
        before: (&Place, &Strata),
        stratum: Option<Stratum>,
        measure: Measure,
        least: u64,
    ) -> Vec<Cell> {
        let mut cells = Vec::new();
        let mut add = |when, place: &Place, strata: &Strata, focus: bool| {
            for (at, all) in strata {
                let focus = focus && stratum.is_none_or(|stratum| *at == stratum);
                cells.extend(split(when, place, (*at, all), focus, measure));
            }
        };
        add(When::Before, before.0, before.1, true);
        add(
            When::After,
            now,
            self.at(now).unwrap_or(&Strata::new()),
            true,
        );
        for place in self.witnesses(now) {
            let Some(page) = self.pages.get(place) else {
                continue;
            };
            match self
                .before(place, least)
                .and_then(|then| Some((then, self.at(then)?)))
            {
                Some((then, strata)) => {
                    add(When::Before, then, strata, false);
                    add(When::After, place, &page.strata, false);
                }
                None if page.mark.is_empty() => {}
                None => {
                    add(When::Before, place, &page.mark, false);
                    add(When::After, place, &page.since_mark(), false);
                }
            }
        }
        cells
    }

    /// What runs on the other backends of the pool of `place`.
    fn witnesses(&self, place: &Place) -> Vec<&Place> {
        let mut found: Vec<&Place> = Vec::new();
        for other in self.places() {
            let is_new = !found.iter().any(|known| known.is_neighbour(other));
            if other.pool == place.pool && !other.is_neighbour(place) && is_new {
                found.push(other);
            }
            if found.len() == MAX_WITNESSES {
                break;
            }
        }
        found
    }

    /// The pages that have changed since this was last asked, to be kept.
    pub fn take_new(&mut self) -> Vec<(Place, Page)> {
        let new = self.pages.iter_mut().filter(|(_, page)| page.is_new);
        new.map(|(place, page)| {
            page.is_new = false;
            (place.clone(), page.clone())
        })
        .collect()
    }

    /// Take back pages that were kept. Whatever was observed meanwhile is newer than all of them; at a place that
    /// is among them it is a few turns of very many, and left out.
    pub fn restore(&mut self, kept: Vec<(Place, Page)>) {
        let base = kept.iter().map(|(_, page)| page.last).max().unwrap_or(0);
        self.now += base;
        self.pages.values_mut().for_each(|page| page.last += base);
        for (place, mut page) in kept {
            if let Some(newer) = self.pages.remove(&place) {
                self.count -= newer.strata.len();
                page.last = newer.last;
            }
            if self.count + page.strata.len() <= MAX_ROWS {
                self.count += page.strata.len();
                self.pages.insert(place, page);
            }
        }
    }
}

impl Page {
    fn since_mark(&self) -> Strata {
        let since = |(stratum, all): (&Stratum, &Aggregate)| {
            let all = match self.mark.get(stratum) {
                Some(mark) => all.since(mark),
                None => all.clone(),
            };
            (*stratum, all)
        };
        self.strata.iter().map(since).collect()
    }
}

/// A row by position.
fn split(
    when: When,
    place: &Place,
    (stratum, all): (Stratum, &Aggregate),
    focus: bool,
    measure: Measure,
) -> Vec<Cell> {
    let labels = [
        (Dimension::Build, &place.build),
        (Dimension::Profile, &place.profile),
        (Dimension::Flags, &place.flags),
        (Dimension::Model, &place.model),
        (Dimension::Backend, &place.backend),
    ];
    let labels = labels.map(|(dimension, value)| (dimension, value.clone()));
    let samples = measure.samples(all).into_iter();
    let cells = samples.filter(|(_, sample)| sample.n() > 0);
    let cell = |(position, sample)| Cell {
        when,
        focus,
        stratum,
        position,
        labels: labels.to_vec(),
        sample,
    };
    cells.map(cell).collect()
}

/// Strata as a list of pairs.
mod listed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Aggregate, Strata, Stratum};

    pub(super) fn serialize<S: Serializer>(strata: &Strata, s: S) -> Result<S::Ok, S::Error> {
        strata.iter().collect::<Vec<_>>().serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Strata, D::Error> {
        let pairs = Vec::<(Stratum, Aggregate)>::deserialize(d)?;
        Ok(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
