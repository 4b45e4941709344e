//! All that was observed, by place and stratum.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::observe::{Aggregate, Observation, Place, Stratum};

/// Most rows; of the places that were seen longest ago the rows go first.
const MAX_ROWS: usize = 4096;

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

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Book {
    rows: HashMap<Place, (u64, Strata)>,
    count: usize,
    /// Observations so far: the clock by which rows are old.
    now: u64,
}

impl Book {
    /// Take in one observation.
    pub fn push(&mut self, seen: &Observation) {
        self.now += 1;
        if !self.rows.contains_key(&seen.place) {
            self.make_room();
        }
        let (last, strata) = self.rows.entry(seen.place.clone()).or_default();
        *last = self.now;
        let before = strata.len();
        strata.entry(seen.stratum).or_default().push(seen);
        self.count += strata.len() - before;
    }

    fn make_room(&mut self) {
        while self.count >= MAX_ROWS {
            let oldest = self.rows.iter().min_by_key(|(_, (last, _))| *last);
            let Some(place) = oldest.map(|(place, _)| place.clone()) else {
                return;
            };
            if let Some((_, strata)) = self.rows.remove(&place) {
                self.count -= strata.len();
            }
        }
    }

    /// What was seen at one place.
    pub fn at(&self, place: &Place) -> Option<&Strata> {
        self.rows.get(place).map(|(_, strata)| strata)
    }

    /// Every place, the most recently seen first.
    pub fn places(&self) -> Vec<&Place> {
        let mut places: Vec<_> = self.rows.iter().collect();
        places.sort_by_key(|(_, (last, _))| std::cmp::Reverse(*last));
        places.into_iter().map(|(place, _)| place).collect()
    }

    /// Every row.
    pub fn rows(&self) -> impl Iterator<Item = (Key, &Aggregate)> {
        self.rows.iter().flat_map(|(place, (_, strata))| {
            strata.iter().map(|(stratum, all)| {
                let key = Key {
                    place: place.clone(),
                    stratum: *stratum,
                };
                (key, all)
            })
        })
    }

    /// What ran on the backend of `place` before, in its pool: another profile or another build.
    pub fn before(&self, place: &Place) -> Option<&Place> {
        self.places().into_iter().find(|other| {
            (&other.pool, &other.backend) == (&place.pool, &place.backend) && *other != place
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::observe::tests::{PROSE, answer, place};
    use super::*;
    use crate::config::RequestClass;

    #[test]
    fn rows_are_by_place_and_stratum() {
        let mut book = Book::default();
        let (old, new) = (place("b", "none", "b1"), place("b", "none", "b2"));
        for place in [&old, &old, &new] {
            book.push(&answer(place, PROSE, 100, 20.0));
        }
        book.push(&answer(
            &new,
            Stratum::new(RequestClass::Code, 4),
            100,
            20.0,
        ));
        assert_eq!(book.rows().count(), 3);
        assert_eq!(book.at(&old).unwrap()[&PROSE].turns, 2);
        assert_eq!(book.places(), [&new, &old]);
        assert_eq!(book.before(&new), Some(&old));
        assert_eq!(book.before(&place("c", "none", "b1")), None);
    }

    #[test]
    fn the_book_is_bounded_and_keeps_what_is_fresh() {
        let mut book = Book::default();
        for n in 0..=MAX_ROWS {
            book.push(&answer(
                &place(&n.to_string(), "none", "b1"),
                PROSE,
                100,
                20.0,
            ));
        }
        assert_eq!(book.rows().count(), MAX_ROWS);
        assert!(book.at(&place("0", "none", "b1")).is_none());
        assert!(
            book.at(&place(&MAX_ROWS.to_string(), "none", "b1"))
                .is_some()
        );
    }
}
