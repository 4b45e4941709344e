use super::*;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn patience() -> Patience {
    Patience {
        stuck_after: secs(60),
        orphan_after: secs(30),
        close_for: secs(10),
        drain_for: secs(100),
        hook_every: secs(600),
        ..Patience::default()
    }
}

fn busy(task: i64, done: u64) -> Look {
    Look {
        busy: vec![Work {
            slot: 1,
            task,
            done,
        }],
        idle: 1,
        own: 1,
        ..Look::default()
    }
}

/// Looks every two seconds from `from` to `to`; what they led to, with the second.
fn watch(
    dog: &mut Watchdog,
    start: Instant,
    seconds: std::ops::Range<u64>,
    look: impl Fn(u64) -> Look,
) -> Vec<(u64, Option<Finding>, Option<Heal>)> {
    let looks = seconds.step_by(2).map(|at| {
        let verdict = dog.look(&look(at), start + secs(at), &patience());
        (at, verdict.found, verdict.heal)
    });
    looks
        .filter(|(_, found, heal)| found.is_some() || heal.is_some())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn work_that_gets_on_is_left_alone_however_slowly() {
    let (mut dog, start) = (Watchdog::default(), Instant::now());
    assert_eq!(watch(&mut dog, start, 0..4000, |at| busy(1, at / 50)), []);
    let new_task = |at: u64| busy(at as i64 / 50, 0);
    assert_eq!(watch(&mut dog, start, 4000..8000, new_task), []);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_slot_is_treated_step_by_step_until_it_is_over() {
    let (mut dog, start) = (Watchdog::default(), Instant::now());
    let told = watch(&mut dog, start, 0..800, |_| busy(1, 7));
    assert_eq!(
        told,
        [
            (60, Some(Finding::Stuck), Some(Heal::Close)),
            (70, None, Some(Heal::Quarantine)),
            (170, None, Some(Heal::Hook)),
            (770, None, Some(Heal::Hook)),
        ]
    );
    let verdict = dog.look(&busy(1, 8), start + secs(801), &patience());
    assert_eq!(verdict.over, Some(secs(741)));
    assert!(!dog.is_healing());
    let told = watch(&mut dog, start, 802..872, |_| busy(1, 8));
    assert_eq!(
        told,
        [(862, Some(Finding::Stuck), Some(Heal::Close))],
        "from the beginning, counted from its last progress"
    );
}

/// Regression: only who was silent at the first closing was closed, and who came after that waited for its deadline.
#[tokio::test(start_paused = true)]
async fn whoever_comes_while_it_is_treated_is_closed_as_well() {
    let (mut dog, start) = (Watchdog::default(), Instant::now());
    watch(&mut dog, start, 0..58, |_| busy(1, 7));
    assert!(!dog.is_healing());
    for at in [60, 80, 400] {
        watch(&mut dog, start, at..at + 2, |_| busy(1, 7));
        assert!(dog.is_healing(), "{at}");
    }
    watch(&mut dog, start, 402..404, |_| busy(2, 1));
    assert!(!dog.is_healing());
}

/// Regression: closing freed the slots, the next requests got stuck in them, and it began from the first step again.
#[tokio::test(start_paused = true)]
async fn slots_that_were_freed_by_closing_do_not_end_it_before_something_gets_on() {
    let (mut dog, start) = (Watchdog::default(), Instant::now());
    let one_after_the_other = |at: u64| busy(at.saturating_sub(60) as i64, 0);
    let told = watch(&mut dog, start, 0..80, one_after_the_other);
    assert_eq!(
        told,
        [
            (60, Some(Finding::Stuck), Some(Heal::Close)),
            (70, None, Some(Heal::Quarantine)),
        ]
    );
    let answered = Look {
        answered: 1,
        ..busy(99, 0)
    };
    let verdict = dog.look(&answered, start + secs(80), &patience());
    assert_eq!(verdict.over, Some(secs(20)));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_where_nobody_is_left() {
    let (mut dog, start) = (Watchdog::default(), Instant::now());
    let alone = |_| Look {
        own: 0,
        ..busy(1, 7)
    };
    let told = watch(&mut dog, start, 0..100, alone);
    let steps: Vec<_> = told.iter().map(|(at, _, heal)| (*at, *heal)).collect();
    let expected = [(60, Heal::Close), (70, Heal::Quarantine), (72, Heal::Hook)];
    assert_eq!(steps, expected.map(|(at, heal)| (at, Some(heal))));
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_beside_an_idle_slot_are_found() {
    let look = |unbegun: usize, idle: usize| Look {
        unbegun,
        idle,
        ..Look::default()
    };
    let (mut dog, start) = (Watchdog::default(), Instant::now());
    assert_eq!(watch(&mut dog, start, 0..500, |_| look(3, 0)), [], "full");
    assert_eq!(watch(&mut dog, start, 500..900, |_| look(0, 2)), []);
    let passing = |at: u64| look(usize::from(!at.is_multiple_of(50)), 1);
    assert_eq!(watch(&mut dog, start, 900..1952, passing), [], "all begin");
    let told = watch(&mut dog, start, 2002..2070, |_| look(1, 1));
    assert_eq!(told, [(2062, Some(Finding::Unbegun), Some(Heal::Close))]);
}

/// Regression: a server that is fast and busy was taken for one that begins nothing.
#[tokio::test(start_paused = true)]
async fn requests_on_their_way_to_a_server_that_answers_are_no_finding() {
    let (mut dog, start) = (Watchdog::default(), Instant::now());
    let look = |at: u64| Look {
        unbegun: 3,
        idle: 1,
        answered: at,
        ..Look::default()
    };
    assert_eq!(watch(&mut dog, start, 0..900, look), []);
    let told = watch(&mut dog, start, 900..1000, |_| look(900));
    assert_eq!(told[0], (960, Some(Finding::Unbegun), Some(Heal::Close)));
}

#[tokio::test(start_paused = true)]
async fn an_orphan_is_told_and_left_to_end() {
    let (mut dog, start) = (Watchdog::default(), Instant::now());
    let orphan = |at: u64| Look {
        closed: Some(start),
        ..busy(1, at)
    };
    let told = watch(&mut dog, start, 0..900, orphan);
    assert_eq!(told, [(30, Some(Finding::Orphan), None)]);
    let verdict = dog.look(&Look::default(), start + secs(900), &patience());
    assert_eq!(verdict.over, Some(secs(870)));
}
