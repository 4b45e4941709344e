use proptest::prelude::*;
use rstest::rstest;

use super::super::rendezvous::key;
use super::*;

fn view(n: usize, inflight: usize, slots: Option<u32>) -> View {
    View {
        key: key(&format!("gpu{n}")),
        inflight,
        others: 0,
        weight: 1,
        pace: 1.0,
        slots,
        warm: 0,
        expected: 0,
        room: None,
        fits: true,
    }
}

fn views(list: &[(usize, Option<u32>)]) -> Vec<View> {
    let views = list.iter().enumerate();
    views
        .map(|(n, (inflight, slots))| view(n, *inflight, *slots))
        .collect()
}

fn weighted(list: &[(usize, u32)]) -> Vec<View> {
    let views = list.iter().enumerate();
    let view = |(n, &(inflight, weight))| View {
        weight,
        ..view(n, inflight, None)
    };
    views.map(view).collect()
}

fn turn(turn: u64) -> Need {
    Need {
        turn,
        ..Need::default()
    }
}

fn prefix(prefix: u64) -> Need {
    Need {
        prefix: Some(prefix),
        ..Need::default()
    }
}

fn chosen(views: &[View], need: Need) -> Option<usize> {
    choose(views, need).map(|(at, _)| at)
}

#[rstest]
#[case(&[], None)]
#[case(&[(9, 1)], Some(0))]
#[case(&[(1, 1), (0, 1), (2, 1)], Some(1))]
#[case(&[(2, 3), (1, 1)], Some(0))]
#[case(&[(4, 3), (1, 1)], Some(1))]
fn the_least_busy_for_its_weight(#[case] list: &[(usize, u32)], #[case] expected: Option<usize>) {
    for n in 0..7 {
        assert_eq!(chosen(&weighted(list), turn(n)), expected);
    }
}

#[test]
fn equals_take_turns_by_weight() {
    let candidates = weighted(&[(0, 3), (1, 1), (0, 1)]);
    let mut counts = [0; 3];
    for n in 0..40 {
        counts[chosen(&candidates, turn(n)).unwrap()] += 1;
    }
    assert_eq!(counts, [30, 0, 10]);
}

#[test]
fn under_load_places_follow_the_weights() {
    let mut candidates = weighted(&[(0, 1), (0, 2), (0, 5)]);
    for n in 0..80 {
        let at = chosen(&candidates, turn(n)).unwrap();
        candidates[at].inflight += 1;
    }
    let shares: Vec<_> = candidates.iter().map(|v| v.inflight).collect();
    assert_eq!(shares, [10, 20, 50]);
}

#[test]
fn one_without_a_free_slot_comes_last() {
    // By in-flight alone it would be the first.
    let list = views(&[(1, Some(1)), (3, Some(4)), (4, Some(4))]);
    assert_eq!(chosen(&list, turn(0)), Some(1));
    let full = views(&[(1, Some(1)), (4, Some(4))]);
    assert_eq!(
        chosen(&full, turn(0)),
        Some(0),
        "none is free: the least busy"
    );
}

#[test]
fn a_slow_start_takes_few() {
    let mut list = views(&[(0, None), (5, None)]);
    list[0].pace = 0.1;
    assert_eq!(chosen(&list, turn(0)), Some(0), "one to begin with");
    list[0].inflight = 1;
    assert_eq!(chosen(&list, turn(0)), Some(1));
}

#[test]
fn a_prefix_has_a_home_and_a_second_choice() {
    let mut list = views(&[(0, Some(4)); 8]);
    let (home, reason) = choose(&list, prefix(7)).unwrap();
    assert_eq!(reason, Reason::Affinity);
    for n in 0..20 {
        let again = choose(
            &list,
            Need {
                turn: n,
                ..prefix(7)
            },
        );
        assert_eq!(again, Some((home, Reason::Affinity)));
    }
    // Over 1.25 × the mean.
    list[home].inflight = 2;
    let (second, reason) = choose(&list, prefix(7)).unwrap();
    assert_eq!(reason, Reason::Spill);
    assert_ne!(second, home);
    assert_eq!(
        chosen(
            &list,
            Need {
                turn: 9,
                ..prefix(7)
            }
        ),
        Some(second)
    );
    // Without its home the second choice is the first.
    let mut rest = list.clone();
    rest.remove(home);
    let at = chosen(&rest, prefix(7)).unwrap();
    assert_eq!(rest[at].key, list[second].key);
}

/// New conversations took the first idle slot: some servers had twice as many as others, for good.
#[rstest]
#[case::least_busy(4)]
#[case::of_two(LARGE)]
fn conversations_begin_where_fewer_are(#[case] count: usize) {
    let mut list: Vec<View> = (0..count).map(|n| view(n, 1, Some(4))).collect();
    list.iter_mut().for_each(|view| view.expected = 4);
    (list[1].expected, list[1].inflight) = (8, 0);
    let chosen = |list: &[View]| {
        let need = |turn| Need {
            turn,
            ..Need::default()
        };
        let turns = (0..50).map(|turn| choose(list, need(turn)).unwrap().0);
        turns.collect::<Vec<_>>()
    };
    assert!(!chosen(&list).contains(&1));
    list.iter_mut().for_each(|view| view.inflight = 4);
    list[1].inflight = 3;
    assert!(chosen(&list).iter().all(|at| *at == 1), "the only slot");
}

#[test]
fn a_home_with_more_warm_conversations_than_others_spills() {
    let mut list = views(&[(0, Some(2)); 4]);
    let home = chosen(&list, prefix(7)).unwrap();
    list[home].warm = 2;
    assert_ne!(chosen(&list, prefix(7)), Some(home));
    list[home].warm = 1;
    assert_ne!(chosen(&list, prefix(7)), Some(home), "others hold none");
    list.iter_mut().for_each(|view| view.warm = 1);
    assert_eq!(chosen(&list, prefix(7)), Some(home), "all hold one");
    list.iter_mut().for_each(|view| view.warm = 2);
    assert_eq!(chosen(&list, prefix(7)), Some(home), "all are full");
}

#[test]
fn a_side_call_leaves_the_main_conversation_alone() {
    let spare = |at| Need {
        spare: Some(at),
        ..Need::default()
    };
    let list = views(&[(0, Some(2)), (1, Some(2))]);
    assert_eq!(chosen(&list, spare(0)), Some(1));
    let busy = views(&[(0, Some(2)), (2, Some(2))]);
    assert_eq!(
        chosen(&busy, spare(0)),
        Some(0),
        "no other has an idle slot"
    );
    let home = chosen(&list, prefix(7)).unwrap();
    let need = Need {
        spare: Some(home),
        ..prefix(7)
    };
    assert_eq!(choose(&list, need), Some((1 - home, Reason::Spill)));
    let own = Need {
        sticky: Some(0),
        ..spare(0)
    };
    assert_eq!(
        choose(&list, own),
        Some((0, Reason::Sticky)),
        "its own cache is there"
    );
}

#[test]
fn two_choices_keep_a_large_pool_even() {
    let mut list = views(&[(0, None); 64]);
    for n in 0..640 {
        let (at, reason) = choose(&list, turn(n)).unwrap();
        assert_eq!(reason, Reason::TwoChoices);
        list[at].inflight += 1;
    }
    let most = list.iter().map(|v| v.inflight).max().unwrap();
    assert!(most <= 14, "{most} where the mean is 10");
}

proptest! {
    /// Whatever the state, a choice is made, it has a free slot if any has one (the sticky one apart),
    /// and one made by prefix is within its bound.
    #[test]
    fn choices_are_sound(
        states in prop::collection::vec((0usize..9, prop::option::of(1u32..5), 1u32..4, 0usize..6, 1u8..=10), 1..40),
        sticky in prop::option::of(0usize..40),
        wanted in prop::option::of(any::<u64>()),
        spare in prop::option::of(0usize..40),
        turn: u64,
    ) {
        let list: Vec<View> = states.iter().enumerate().map(|(n, (inflight, slots, weight, warm, pace))| View {
            weight: *weight, warm: *warm, pace: f64::from(*pace) / 10.0, ..view(n, *inflight, *slots)
        }).collect();
        let within = |at: &usize| *at < list.len();
        let need = Need { sticky: sticky.filter(within), prefix: wanted, spare: spare.filter(within), turn };
        let (at, reason) = choose(&list, need).unwrap();
        if reason != Reason::Sticky {
            prop_assert!(list[at].is_free() || !list.iter().any(View::is_free));
            let others = list.iter().enumerate().any(|(n, v)| Some(n) != need.spare && v.is_free());
            prop_assert!(need.spare != Some(at) || !others);
        }
        if matches!(reason, Reason::Affinity | Reason::Spill) {
            prop_assert!(Bound::of(&list).allows(&list[at]));
        }
    }
}
