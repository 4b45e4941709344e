use super::*;

const PATIENCE: Patience = Patience {
    after: NonZeroU32::MIN.saturating_add(2),
    first: Duration::from_secs(1),
    longest: Duration::from_secs(10),
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn fails(breaker: &mut Breaker, ticket: Ticket, now: Duration) -> Option<Changed> {
    breaker.failed(ticket, now, PATIENCE, 1.0)
}

/// Ejected at 0 for a second.
fn ejected() -> Breaker {
    let mut breaker = Breaker::default();
    let ticket = breaker.enter(at(0));
    (0..2).for_each(|_| assert_eq!(fails(&mut breaker, ticket, at(0)), None));
    assert_eq!(
        fails(&mut breaker, ticket, at(0)),
        Some(Changed::Ejected(at(1)))
    );
    breaker
}

#[test]
fn failures_in_a_row_eject_and_others_do_not() {
    let mut breaker = Breaker::default();
    let ticket = breaker.enter(at(0));
    for _ in 0..5 {
        assert_eq!(fails(&mut breaker, ticket, at(0)), None);
        assert_eq!(breaker.begun(ticket, at(0)), None);
        assert_eq!(fails(&mut breaker, ticket, at(0)), None);
        assert_eq!(breaker.succeeded(ticket, at(0)), None);
    }
    let mut breaker = ejected();
    // Those that were under way change nothing.
    assert_eq!(fails(&mut breaker, ticket, at(0)), None);
    assert_eq!(breaker.succeeded(ticket, at(0)), None);
    assert!(!breaker.allows(at(0)) && breaker.allows(at(1)));
}

#[test]
fn exactly_one_request_is_on_trial_and_decides() {
    let mut breaker = ejected();
    assert!(!breaker.enter(at(0)).is_on_trial());
    let trial = breaker.enter(at(1));
    assert!(trial.is_on_trial());
    let other = breaker.enter(at(9));
    assert!(!breaker.allows(at(9)) && !other.is_on_trial(), "one only");
    assert_eq!(breaker.succeeded(other, at(9)), None);
    assert_eq!(fails(&mut breaker, other, at(9)), None);
    breaker.undecided(other, at(9));
    assert!(!breaker.allows(at(9)));
    breaker.undecided(trial, at(9));
    let trial = breaker.enter(at(9));
    assert!(trial.is_on_trial(), "the client of the first has left");
    assert_eq!(
        breaker.succeeded(trial, at(12)),
        Some(Changed::Back(at(12)))
    );
    assert!(breaker.allows(at(12)) && !breaker.enter(at(12)).is_on_trial());
}

/// Regression: the lease of a trial that was over long since ended the next one, and a second request was let in.
#[test]
fn an_earlier_trial_says_nothing_about_the_one_that_runs() {
    let mut breaker = ejected();
    let first = breaker.enter(at(1));
    assert!(fails(&mut breaker, first, at(1)).is_some());
    let second = breaker.enter(at(3));
    assert!(second.is_on_trial());
    breaker.undecided(first, at(4));
    breaker.postponed(first, at(4), PATIENCE, 1.0);
    assert_eq!(fails(&mut breaker, first, at(4)), None);
    assert_eq!(breaker.succeeded(first, at(4)), None);
    assert!(!breaker.allows(at(9)), "the second is still under way");
    assert_eq!(breaker.begun(second, at(5)), Some(Changed::Back(at(5))));
    assert_eq!(fails(&mut breaker, first, at(5)), None);
    assert!(breaker.allows(at(5)));
}

/// Regression: a long answer on trial kept the backend at one request until its end.
#[test]
fn the_first_word_of_a_trial_brings_it_back_and_the_next_failure_ejects_it_for_longer() {
    let mut breaker = ejected();
    let trial = breaker.enter(at(1));
    assert_eq!(breaker.begun(trial, at(2)), Some(Changed::Back(at(2))));
    assert_eq!(breaker.begun(trial, at(2)), None, "told once");
    assert!(breaker.allows(at(2)) && breaker.is_closed());
    let next = breaker.enter(at(2));
    assert_eq!(
        fails(&mut breaker, next, at(3)),
        Some(Changed::Ejected(at(2)))
    );
    let trial = breaker.enter(at(5));
    assert!(breaker.begun(trial, at(5)).is_some());
    assert_eq!(breaker.succeeded(trial, at(9)), None);
    assert_eq!(fails(&mut breaker, trial, at(9)), None, "one is forgiven");
}

#[test]
fn a_trial_that_nobody_can_judge_is_repeated_later_and_costs_nothing() {
    let mut breaker = ejected();
    let trial = breaker.enter(at(1));
    breaker.postponed(trial, at(1), PATIENCE, 1.0);
    assert!(!breaker.allows(at(1)) && breaker.allows(at(2)));
    let trial = breaker.enter(at(2));
    assert_eq!(
        fails(&mut breaker, trial, at(2)),
        Some(Changed::Ejected(at(2))),
        "the second in a row, no more"
    );
}

#[test]
fn failed_trials_take_longer_and_longer_up_to_a_bound() {
    let mut breaker = ejected();
    let mut now = at(1);
    let mut lengths = Vec::new();
    for _ in 0..5 {
        let trial = breaker.enter(now);
        let Some(Changed::Ejected(length)) = fails(&mut breaker, trial, now) else {
            panic!("it was ejected");
        };
        lengths.push(length.as_secs());
        now += length;
    }
    assert_eq!(lengths, [2, 4, 8, 10, 10]);
    assert_eq!(PATIENCE.length(1, 0.0), at(1), "spread over half of it");
}
