use super::*;

const LATELY: Duration = Duration::from_secs(60);
const PREFIX: Prefix = Prefix {
    hash: 9,
    tokens: 500,
};

fn begun(conversation: u64, prefix: Option<Prefix>) -> Begun {
    Begun {
        conversation,
        prefix,
        tokens: 0,
    }
}

#[test]
fn as_much_is_remembered_as_slots_and_memory_hold() {
    let (mut warmth, now) = (Warmth::default(), Instant::now());
    for n in 0..100 {
        warmth.place(begun(n, None), Some(2), now);
        warmth.fill(n, 1000 + n);
    }
    assert_eq!(warmth.held.len(), 2 * PER_SLOT);
    assert_eq!((warmth.tokens(99), warmth.tokens(91)), (Some(1099), None));
    assert_eq!(warmth.warm(LATELY, Some(2), now), 2);
    assert_eq!(warmth.warm(LATELY, Some(2), now + 2 * LATELY), 0);
}

#[test]
fn the_one_used_longest_ago_is_pushed_out_of_full_slots() {
    let (mut warmth, now) = (Warmth::default(), Instant::now());
    let out = |warmth: &Warmth, after| warmth.pushed_out(LATELY, Some(2), now + after);
    for n in 0..4 {
        assert_eq!(out(&warmth, Duration::ZERO), [0, 0, 500, 501][n as usize]);
        warmth.place(begun(n, None), Some(2), now);
        warmth.fill(n, 500 + n);
    }
    assert_eq!(out(&warmth, 2 * LATELY), 0, "nobody came back");
    warmth.place(begun(9, None), Some(2), now);
    assert_eq!(out(&warmth, Duration::ZERO), 503);
}

#[test]
fn a_conversation_counts_once_and_keeps_what_it_has() {
    let (mut warmth, now) = (Warmth::default(), Instant::now());
    warmth.place(begun(1, Some(PREFIX)), None, now);
    assert_eq!(
        warmth.prefix_tokens(PREFIX),
        None,
        "nothing was answered yet"
    );
    warmth.fill(1, 700);
    warmth.place(begun(1, None), None, now + LATELY);
    assert_eq!(warmth.warm(LATELY, None, now + LATELY), 1);
    assert_eq!(
        (warmth.tokens(1), warmth.prefix_tokens(PREFIX)),
        (Some(700), Some(500))
    );
    assert!(warmth.is_warm(1, LATELY, now + 2 * LATELY));
    warmth.leave(1);
    assert_eq!(
        (warmth.tokens(1), warmth.prefix_tokens(PREFIX)),
        (None, None)
    );
}

/// Titles and the like would hide which backend has how many conversations.
#[test]
fn those_who_come_back_are_expected_and_small_requests_are_not() {
    let (mut warmth, start) = (Warmth::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let long = |conversation| Begun {
        tokens: 300,
        ..begun(conversation, None)
    };
    for n in 0..3 {
        warmth.place(long(n), Some(4), at(0));
        warmth.place(begun(10 + n, None), Some(4), at(0));
        warmth.fill(10 + n, 60);
    }
    assert_eq!(warmth.expected(LATELY, at(50)), 3);
    warmth.place(long(1), Some(4), at(4));
    assert_eq!(warmth.expected(LATELY, at(12)), 3);
    assert_eq!(
        warmth.expected(LATELY, at(13)),
        1,
        "others come back after 4 s"
    );
    assert_eq!(warmth.expected(LATELY, at(17)), 0);
    warmth.place(begun(20, None), Some(4), at(18));
    warmth.fill(20, 400);
    assert_eq!(warmth.expected(LATELY, at(18)), 1, "it has grown");
}

#[test]
fn what_a_backend_lost_it_no_longer_has() {
    let (mut warmth, now) = (Warmth::default(), Instant::now());
    warmth.loaded(1);
    assert!(warmth.may_hold(1), "that was before anything was here");
    warmth.place(begun(1, None), None, now);
    warmth.loaded(2);
    assert!(!warmth.may_hold(1));
    warmth.place(begun(1, None), None, now);
    assert!(warmth.may_hold(1));
}
