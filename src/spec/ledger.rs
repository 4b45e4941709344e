//! The book of the process, for those who write it and those who read it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::aggregate::Aggregate;
use super::answer::AnswerClass;
use super::attribute::attribute;
use super::book::{Book, Key, Page, Strata};
use super::log::Lines;
use super::observe::{Drafts, Observation, Place, StopKind};
use super::recorded::{Recorded, Records};
use super::regress::{Comparison, Limits, Measure, Sign, lost_caches, signs};
use super::sequential::Sample;
use super::signature::Finding;
use super::timeline::{Event, Shown, Timeline};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Ledger {
    book: Mutex<Book>,
    lines: Mutex<Lines>,
    timeline: Mutex<Timeline>,
    records: Mutex<Records>,
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
    /// How they ended.
    pub stops: BTreeMap<StopKind, u64>,
    /// What came out.
    pub answers: BTreeMap<AnswerClass, u64>,
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

    /// Take in lines of the log of the backend at `place`, which come `now`; how many of them are telling ones.
    pub fn read_log<'a>(
        &self,
        place: &Place,
        log: impl Iterator<Item = &'a str>,
        now: Duration,
    ) -> usize {
        let mut lines = self.lines.lock();
        log.filter(|line| lines.push(place, line, now)).count()
    }

    /// Forget lines of logs that have not come again for long; `now` by the same clock.
    pub fn expire(&self, now: Duration) {
        self.lines.lock().expire(now);
    }

    /// Look at what a backend shows of itself; see [`Timeline::look`].
    pub fn look(&self, at: u64, pool: &str, backend: &str, shown: &Shown) -> Option<Event> {
        self.timeline.lock().look(at, pool, backend, shown)
    }

    /// What changed on backends, the latest first.
    pub fn events(&self) -> Vec<Event> {
        self.timeline.lock().events().cloned().collect()
    }

    /// Benchmarks by the name of the backend that they were measured on, for work that it has no past in.
    pub fn record(&self, all: Vec<(Arc<str>, Vec<Recorded>)>) {
        *self.records.lock() = Records::new(all);
    }

    /// What is worse on a backend since another profile or build runs there than with the one before, and what
    /// its log has told.
    pub fn findings(&self, limits: &Limits) -> Vec<Finding> {
        let mut found: Vec<Finding> = self.lines.lock().findings().collect();
        let (book, records) = (self.book.lock(), self.records.lock());
        let mut looked_at = HashSet::new();
        for place in book.places() {
            if looked_at.insert((&place.pool, &place.backend)) {
                found.extend(worse(&book, &records, place, limits));
            }
        }
        found
    }

    /// Of a profile that drafts in every answer: answers and generated tokens at `place`, if there are enough of
    /// them to tell and none had a draft.
    pub fn drafts_nothing(&self, place: &Place) -> Option<(u64, u64)> {
        const LEAST: (u64, u64) = (10, 500);
        let book = self.book.lock();
        let all = book.at(place)?.values();
        let (turns, generated, drafted) = all.fold((0, 0, 0), |(turns, tokens, drafted), all| {
            (
                turns + all.turns,
                tokens + all.generated,
                drafted + all.drafts.drafted,
            )
        });
        let is_telling = drafted == 0 && turns >= LEAST.0 && generated >= LEAST.1;
        is_telling.then_some((turns, generated))
    }

    /// What has changed since this was last asked, to be kept.
    pub fn take_new(&self) -> Kept {
        let mut timeline = self.timeline.lock();
        Kept {
            pages: self.book.lock().take_new(),
            timeline: timeline.take_new().then(|| timeline.clone()),
        }
    }

    /// Take back what was kept before this process began.
    pub fn restore(&self, kept: Kept) {
        self.book.lock().restore(kept.pages);
        if let Some(timeline) = kept.timeline {
            *self.timeline.lock() = timeline;
        }
    }

    /// Everything, in order.
    pub fn rows(&self) -> Vec<Row> {
        let book = self.book.lock();
        let mut rows: Vec<Row> = book.rows().map(|(key, all)| Row::of(key, all)).collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows
    }
}

/// What outlives the process.
#[derive(Debug, Default)]
pub struct Kept {
    /// What was observed.
    pub pages: Vec<(Place, Page)>,
    /// What happened.
    pub timeline: Option<Timeline>,
}

/// What is worse at `now` than before, with what explains it.
fn worse(book: &Book, records: &Records, now: &Place, limits: &Limits) -> Vec<Finding> {
    let Some(strata) = book.at(now) else {
        return Vec::new();
    };
    let seen = book.before(now, limits.baseline);
    let seen = seen.and_then(|place| Some((place, book.at(place)?)));
    let recorded = records.before(now, seen.map(|(_, strata)| strata));
    let recorded = recorded.as_ref().map(|(place, strata)| (place, strata));
    let mut known = HashSet::new();
    let mut found = Vec::new();
    for before in [seen, recorded].into_iter().flatten() {
        let now = (now, strata);
        for sign in signs(Comparison { now, before }, limits) {
            known.insert((sign.signature, sign.stratum));
            found.push(finding(book, now.0, Some(before), sign, limits));
        }
    }
    for lost in lost_caches(strata, limits) {
        if !known.contains(&(lost.signature, lost.stratum)) {
            found.push(finding(book, now, seen.or(recorded), lost, limits));
        }
    }
    found
}

fn finding(
    book: &Book,
    now: &Place,
    before: Option<(&Place, &Strata)>,
    sign: Sign,
    limits: &Limits,
) -> Finding {
    let cells = before.map(|before| {
        let (stratum, measure) = (sign.stratum, sign.measure);
        book.cells(now, before, stratum, measure, limits.baseline)
    });
    Finding {
        before: before
            .filter(|_| sign.measure != Measure::CacheLost)
            .map(|(place, _)| place.clone()),
        blames: attribute(&cells.unwrap_or_default()),
        ..Finding::new(sign.signature, now, sign.evidence)
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
            stops: all.stops.clone(),
            answers: all.answers.clone(),
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
