//! The book of the process, for those who write it and those who read it.

use std::collections::HashSet;

use parking_lot::Mutex;
use serde::Serialize;

use super::book::{Book, Key};
use super::log::Lines;
use super::observe::{Aggregate, Drafts, Observation, Place};
use super::regress::{Comparison, Limits, findings};
use super::sequential::Sample;
use super::signature::Finding;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Ledger {
    book: Mutex<Book>,
    lines: Mutex<Lines>,
}

/// What came of the turns of one stratum at one place. Means of rates, times and lengths are geometric.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which.
    #[serde(flatten)]
    pub key: Key,
    /// How many.
    pub turns: u64,
    /// Generated tokens a second.
    pub decode_tokens_per_second: Option<f64>,
    /// Evaluated prompt tokens a second.
    pub prefill_tokens_per_second: Option<f64>,
    /// Seconds to the first content.
    pub ttft_seconds: Option<f64>,
    /// Tokens that a verified draft brings.
    pub accept_length: Option<f64>,
    /// Part of the drafted tokens that was accepted.
    pub acceptance: Option<f64>,
    /// Draft tokens.
    pub drafts: Drafts,
    /// Generated tokens.
    pub generated: u64,
    /// Part of the cache that was expected and found.
    pub cache_found: Option<f64>,
    /// Those that failed.
    pub failed: u64,
    /// Those with an answer that had to be asked for again.
    pub malformed: u64,
    /// Those that loop protection stepped into.
    pub looping: u64,
}

impl Ledger {
    /// Take in one observation.
    pub fn push(&self, seen: &Observation) {
        self.book.lock().push(seen);
    }

    /// Take in lines of the log of the backend at `place`; how many of them are telling ones.
    pub fn read_log<'a>(&self, place: &Place, log: impl Iterator<Item = &'a str>) -> usize {
        let mut lines = self.lines.lock();
        log.filter(|line| lines.push(place, line)).count()
    }

    /// What is worse on a backend since another profile or build runs there than with the one before, and what
    /// its log has told.
    pub fn findings(&self, limits: &Limits) -> Vec<Finding> {
        let book = self.book.lock();
        let mut looked_at = HashSet::new();
        let mut found: Vec<Finding> = self.lines.lock().findings().collect();
        for place in book.places() {
            if !looked_at.insert((&place.pool, &place.backend)) {
                continue;
            }
            let before = book.before(place);
            if let (Some(now), Some(before)) = (book.at(place), before)
                && let Some(then) = book.at(before)
            {
                let pair = Comparison {
                    now: (place, now),
                    before: (before, then),
                };
                found.extend(findings(pair, limits));
            }
        }
        found
    }

    /// Everything, in order.
    pub fn rows(&self) -> Vec<Row> {
        let book = self.book.lock();
        let mut rows: Vec<Row> = book.rows().map(|(key, all)| Row::of(key, all)).collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows
    }
}

impl Row {
    fn of(key: Key, all: &Aggregate) -> Self {
        let mean = |sample: &Sample| (sample.n() > 0).then(|| sample.mean());
        let geometric = |sample: &Sample| mean(sample).map(f64::exp);
        Self {
            key,
            turns: all.turns,
            decode_tokens_per_second: geometric(&all.decode),
            prefill_tokens_per_second: geometric(&all.prefill),
            ttft_seconds: geometric(&all.ttft),
            accept_length: geometric(&all.accept_length),
            acceptance: all.drafts.acceptance(),
            drafts: all.drafts,
            generated: all.generated,
            cache_found: mean(&all.cache_found),
            failed: all.errors().happened,
            malformed: all.malformed,
            looping: all.looping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::observe::tests::{PROSE, answer, place};
    use super::super::signature::Signature;
    use super::*;

    #[test]
    fn a_build_that_made_it_slower_is_found_on_its_backend() {
        let ledger = Ledger::default();
        let (old, new) = (place("b", "none", "b1"), place("b", "none", "b2"));
        let other = place("c", "none", "b1");
        for n in 0..200 {
            let wobble = 1.0 + f64::from(n % 7) * 0.01;
            ledger.push(&answer(&old, PROSE, 100, 40.0 * wobble));
            ledger.push(&answer(&other, PROSE, 100, 10.0 * wobble));
        }
        assert!(ledger.findings(&Limits::default()).is_empty());
        for n in 0..100 {
            let wobble = 1.0 + f64::from(n % 7) * 0.01;
            ledger.push(&answer(&new, PROSE, 100, 20.0 * wobble));
        }
        let found = ledger.findings(&Limits::default());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            found[0].signature,
            Signature::ThroughputCollapseAfterBuildChange
        );
        assert_eq!(
            (&*found[0].place.backend, &*found[0].place.build),
            ("b", "b2")
        );
        let rows = serde_json::to_value(ledger.rows()).unwrap();
        assert_eq!(
            (rows[0]["build"].as_str(), rows[0]["class"].as_str()),
            (Some("b1"), Some("prose"))
        );
        assert!((rows[1]["decode_tokens_per_second"].as_f64().unwrap() - 20.6).abs() < 0.1);
        assert_eq!(rows[1]["accept_length"], serde_json::Value::Null);
    }
}
