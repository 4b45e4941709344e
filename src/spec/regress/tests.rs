use super::*;
use crate::spec::book::Book;
use crate::spec::observe::Observation;
use crate::spec::observe::tests::{PROSE, answer, place};
use crate::spec::sequential::Interval;

/// Two hundred answers at each of two builds; `change` is done to those of the later one.
fn signs(change: impl Fn(u64, &mut Observation)) -> Vec<Signature> {
    let mut book = Book::default();
    let (old, new) = (place("b", "m", "b1"), place("b", "m", "b2"));
    for (place, later) in [(&old, false), (&new, true)] {
        for n in 0..200 {
            let tps = 40.0 * (1.0 + 0.05 * f64::from((n % 9) as u8) - 0.2);
            let mut seen = answer(place, PROSE, 100, tps);
            seen.drafts = Drafts {
                drafted: 60 + n % 5,
                accepted: 40 + n % 3,
                steps: 15,
            };
            if later {
                change(n, &mut seen);
            }
            book.push(&seen);
        }
    }
    let pair = Comparison {
        now: (&new, book.at(&new).unwrap()),
        before: (&old, book.at(&old).unwrap()),
    };
    findings(pair, &Limits::default())
        .iter()
        .map(|f| f.signature)
        .collect()
}

#[test]
fn nothing_that_is_the_same_is_a_finding() {
    assert_eq!(signs(|_, _| {}), []);
}

#[test]
fn each_change_has_its_sign() {
    let timings = |seen: &mut Observation| seen.timings.unwrap();
    let slower = |_, seen: &mut Observation| {
        let mut now = timings(seen);
        now.predicted_ms *= 1.3;
        seen.timings = Some(now);
    };
    assert_eq!(
        signs(slower),
        [Signature::ThroughputCollapseAfterBuildChange]
    );
    let prefill = |_, seen: &mut Observation| {
        let mut now = timings(seen);
        now.prompt_ms *= 1.5;
        seen.timings = Some(now);
    };
    assert_eq!(signs(prefill), [Signature::PrefillRegression]);
    let reread = |n: u64, seen: &mut Observation| {
        let mut now = timings(seen);
        now.cache_n = 100 + n % 7;
        seen.timings = Some(now);
    };
    assert_eq!(signs(reread), [Signature::CacheReprefill]);
    // Fewer accepted tokens a step at the same speed; with long drafts they are rolled back too.
    let collapse = |_, seen: &mut Observation| seen.drafts.accepted = 22;
    assert_eq!(signs(collapse), [Signature::AcceptanceCollapse]);
    let spike = |n, seen: &mut Observation| {
        seen.drafts.drafted = 200 + n % 5;
    };
    assert_eq!(signs(spike), [Signature::RollbackSpike]);
}

#[test]
fn longer_drafts_that_are_accepted_are_no_spike() {
    let longer = |n: u64, seen: &mut Observation| {
        let drafts = &mut seen.drafts;
        (drafts.drafted, drafts.accepted, drafts.steps) = (160 + n % 5, 80, 30);
    };
    assert_eq!(signs(longer), []);
}

#[test]
fn garbage_is_told_by_calls_and_acceptance_together() {
    let malformed = |n: u64, seen: &mut Observation| seen.malformed = n.is_multiple_of(4);
    assert_eq!(signs(malformed), [], "acceptance is as ever");
    let garbled = |n: u64, seen: &mut Observation| {
        malformed(n, seen);
        seen.drafts.accepted = seen.drafts.drafted;
    };
    assert!(signs(garbled).contains(&Signature::GarbledOutput));
}

#[test]
fn evidence_is_in_words_for_people() {
    let change = Change {
        stratum: Some(PROSE),
        metric: Metric::DecodeRate,
        latest: false,
        interval: Interval {
            low: -0.3,
            high: -0.1,
        },
        before: (40f64.ln(), 100),
        now: (32f64.ln(), 50),
    };
    assert_eq!(
        change.evidence(),
        "prose, 1 busy: 32.0 now, 40.0 before, a change of -25.9 % to -9.5 % (100 turns before, 50 now)"
    );
}

/// A thousand good turns of a build, and then it goes bad: its latest turns tell, long before the mean of all does.
#[test]
fn what_turns_bad_after_many_good_turns_is_found_in_the_latest() {
    let mut book = Book::default();
    let (old, new) = (place("b", "m", "b1"), place("b", "m", "b2"));
    let mut turns = |place: &Place, count: u32, tps: f64| {
        for n in 0..count {
            book.push(&answer(
                place,
                PROSE,
                100,
                tps * (0.9 + 0.025 * f64::from(n % 9)),
            ));
        }
    };
    turns(&old, 400, 40.0);
    turns(&new, 1024, 40.0);
    turns(&new, 24, 20.0);
    let pair = Comparison {
        now: (&new, book.at(&new).unwrap()),
        before: (&old, book.at(&old).unwrap()),
    };
    let limits = Limits::default();
    let whole = compare(pair, &limits).into_iter().find(|change| {
        change.metric == Metric::DecodeRate && !change.latest && change.stratum.is_some()
    });
    assert!(
        !whole.unwrap().interval.is_below(0.97f64.ln()),
        "all of them hide it"
    );
    let found = findings(pair, &limits);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0].signature,
        Signature::ThroughputCollapseAfterBuildChange
    );
    assert!(
        found[0].evidence.contains("the latest 24 now"),
        "{}",
        found[0].evidence
    );
}

/// A loss that no class and load shows by itself is found in all of them together, and told as such.
#[test]
fn a_small_loss_everywhere_is_found_in_all_strata_together() {
    use crate::config::RequestClass::{Code, Edit, Prose, ToolLoop};
    let mut book = Book::default();
    let (old, new) = (place("b", "m", "b1"), place("b", "m", "b2"));
    for (level, class) in (1u8..).zip([Code, Edit, Prose, ToolLoop]) {
        for n in 0..60 {
            let tps = 20.0 * f64::from(level) * (0.7 + 0.075 * f64::from(n % 9));
            let stratum = Stratum::new(class, 1);
            book.push(&answer(&old, stratum, 100, tps));
            book.push(&answer(&new, stratum, 100, tps * 0.88));
        }
    }
    let pair = Comparison {
        now: (&new, book.at(&new).unwrap()),
        before: (&old, book.at(&old).unwrap()),
    };
    let found = super::signs(pair, &Limits::default());
    let told: Vec<_> = found
        .iter()
        .map(|sign| (sign.signature, sign.stratum))
        .collect();
    assert_eq!(
        told,
        [(Signature::ThroughputCollapseAfterBuildChange, None)]
    );
    assert!(
        found[0].evidence.starts_with("all classes and loads"),
        "{}",
        found[0].evidence
    );
}
