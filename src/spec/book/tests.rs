use super::super::attribute::attribute;
use super::super::observe::tests::{PROSE, answer, place};
use super::super::regress::Metric;
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
    assert_eq!(book.before(&new, 2), Some(&old));
    assert_eq!(book.before(&new, 3), None, "too few to compare with");
    assert_eq!(book.before(&place("c", "none", "b1"), 1), None);
}

/// A build that was there for a moment is not what the next one is compared with.
#[test]
fn the_baseline_is_the_last_one_with_enough_turns() {
    let mut book = Book::default();
    for (build, turns) in [("b1", 40), ("b2", 3), ("b3", 30)] {
        (0..turns).for_each(|_| book.push(&answer(&place("b", "none", build), PROSE, 100, 20.0)));
    }
    let now = place("b", "none", "b3");
    assert_eq!(book.before(&now, 20), Some(&place("b", "none", "b1")));
    assert_eq!(book.before(&now, 3), Some(&place("b", "none", "b2")));
}

#[test]
fn what_is_kept_comes_back_as_older_than_what_came_meanwhile() {
    let mut book = Book::default();
    let (old, new) = (place("b", "none", "b1"), place("b", "none", "b2"));
    (0..9).for_each(|_| book.push(&answer(&old, PROSE, 100, 20.0)));
    let kept = book.take_new();
    assert!(book.take_new().is_empty(), "kept already");
    let text = serde_json::to_string(&kept).unwrap();
    let mut next = Book::default();
    next.push(&answer(&new, PROSE, 100, 20.0));
    next.restore(serde_json::from_str(&text).unwrap());
    assert_eq!(next.places(), [&new, &old]);
    assert_eq!(next.at(&old), book.at(&old));
    next.push(&answer(&new, PROSE, 100, 20.0));
    assert_eq!(next.before(&new, 5), Some(&old));
}

/// The other backend of the pool tells whether the build or something else is to blame.
#[test]
fn a_neighbour_that_did_not_change_is_a_witness() {
    let mut book = Book::default();
    let at = |backend, build| place(backend, "none", build);
    let mut turns = |place: &Place, tps: f64| {
        for n in 0..50 {
            let wobble = 1.0 + f64::from(n % 5) * 0.01;
            book.push(&answer(place, PROSE, 100, tps * wobble));
        }
    };
    turns(&at("b", "b1"), 40.0);
    turns(&at("c", "b1"), 10.0);
    turns(&at("b", "b2"), 20.0);
    turns(&at("c", "b1"), 10.0);
    let (now, before) = (at("b", "b2"), at("b", "b1"));
    let then = (&before, book.at(&before).unwrap());
    let measure = Measure::Of(Metric::DecodeRate);
    let cells = book.cells(&now, then, Some(PROSE), measure, 20);
    let seen: Vec<u64> = cells.iter().map(|cell| cell.sample.n()).collect();
    assert_eq!(seen, [50, 50, 50, 50], "{cells:?}");
    let blames = attribute(&cells);
    assert_eq!(
        (blames[0].dimension, &*blames[0].value),
        (Dimension::Build, "b2"),
        "{blames:?}"
    );
    assert!(
        blames[1..].iter().all(|b| b.share < blames[0].share),
        "{blames:?}"
    );
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
