use std::time::Duration;

use tokio::time::{Instant, advance, timeout};

use super::*;
use crate::fleet::tests::ready;
use crate::fleet::{Failure, Fleet, Overload};

/// A pool `p` of `a` and `b` with a slot each, and these rules.
pub(super) fn fleet(rules: &str) -> (Arc<Fleet>, Arc<Pool>) {
    let text = format!(
        "fleet: {{pools: [{{name: p, models: [m], queue: {{{rules}}}, backends: \
         [{{name: a, url: 'http://127.0.0.1:1', slots: 1}}, {{name: b, url: 'http://127.0.0.1:2', slots: 1}}]}}]}}"
    );
    let config = config::parse(&text, std::iter::empty()).unwrap();
    let fleet = Fleet::new(&config).unwrap();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    (fleet, pool)
}

pub(super) fn of(principal: u64) -> Ask {
    let caller = Caller {
        principal,
        session: principal,
        ..Caller::default()
    };
    Ask {
        wish: Wish {
            caller,
            ..Wish::default()
        },
        ..Ask::default()
    }
}

pub(super) fn now(pool: &Pool, ask: Ask) -> Lease {
    match pool.admit(ask, None) {
        Ok(Admitted::Now(grant)) => grant.lease,
        other => panic!("{other:?}"),
    }
}

pub(super) fn later(pool: &Pool, ask: Ask) -> Waiting {
    match pool.admit(ask, None) {
        Ok(Admitted::Later(waiting)) => waiting,
        other => panic!("{other:?}"),
    }
}

/// The place that is there already.
pub(super) async fn here(waiting: &mut Waiting) -> Grant {
    timeout(Duration::ZERO, waiting.granted())
        .await
        .unwrap()
        .unwrap()
}

pub(super) async fn waits(waiting: &mut Waiting) -> bool {
    timeout(Duration::ZERO, waiting.granted()).await.is_err()
}

fn depth(pool: &Pool) -> usize {
    Priority::ALL.iter().map(|c| pool.queue().waiting(*c)).sum()
}

#[tokio::test(start_paused = true)]
async fn a_freed_place_goes_to_who_is_next_and_to_nobody_else() {
    let (_fleet, pool) = fleet("");
    let (a, b) = (now(&pool, of(1)), now(&pool, of(1)));
    assert_ne!(a.id(), b.id());
    let (mut first, mut second) = (later(&pool, of(2)), later(&pool, of(3)));
    assert!(waits(&mut first).await && waits(&mut second).await);
    advance(Duration::from_secs(3)).await;
    let freed = a.id().clone();
    drop(a);
    let Grant { lease, decision } = here(&mut first).await;
    assert_eq!(*lease.id(), freed);
    let waited = decision.waited.unwrap();
    assert_eq!((waited.seconds, waited.ahead), (3.0, 0));
    let mut third = later(&pool, of(4));
    assert!(waits(&mut second).await, "the place was not there for long");
    drop((lease, b));
    assert_eq!(here(&mut second).await.decision.waited.unwrap().ahead, 1);
    here(&mut third).await;
    assert_eq!((depth(&pool), pool.inflight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_gives_up_the_wait_and_a_place_that_came_too_late() {
    let (_fleet, pool) = fleet("");
    let (a, b) = (now(&pool, of(1)), now(&pool, of(1)));
    let (leaves, granted, mut stays) = (
        later(&pool, of(2)),
        later(&pool, of(3)),
        later(&pool, of(4)),
    );
    drop(leaves);
    assert_eq!(depth(&pool), 2);
    drop(a);
    assert_eq!(depth(&pool), 1, "it was granted, and not taken yet");
    drop(granted);
    here(&mut stays).await;
    drop(b);
    assert_eq!((depth(&pool), pool.inflight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn waits_are_bounded_in_time_and_number() {
    let (_fleet, pool) = fleet("max_waiting: 2, timeout: 20s");
    let _held = (now(&pool, of(1)), now(&pool, of(1)));
    let (mut first, mut greedy) = (later(&pool, of(2)), later(&pool, of(2)));
    let busy = |reason, seconds| Unavailable::Busy {
        reason,
        retry_after: Duration::from_secs(seconds),
    };
    let refused = pool.admit(of(2), None).unwrap_err();
    assert_eq!(
        refused,
        busy(Overload::Share, 15),
        "three places at one in 5 s"
    );
    let mut other = later(&pool, of(3));
    let evicted = greedy.granted().await.unwrap_err();
    assert!(matches!(
        evicted,
        Unavailable::Busy {
            reason: Overload::Share,
            ..
        }
    ));
    assert_eq!(
        pool.admit(of(4), None).unwrap_err(),
        busy(Overload::Full, 15)
    );
    let began = Instant::now();
    let told = first.granted().await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_secs(20));
    // Nothing became free in all this time.
    let reason = Overload::Waited(Duration::from_secs(20));
    assert_eq!(told, busy(reason, 50));
    assert!(other.granted().await.is_err());
    assert_eq!(depth(&pool), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_where_nobody_may() {
    let (_fleet, pool) = fleet("max_waiting: 0");
    let _held = (now(&pool, of(1)), now(&pool, of(1)));
    let refused = pool.admit(of(2), None).unwrap_err();
    assert!(matches!(
        refused,
        Unavailable::Busy {
            reason: Overload::Full,
            ..
        }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_goes_on_keeps_its_place_or_goes_first() {
    let (_fleet, pool) = fleet("");
    let (a, b) = (now(&pool, of(1)), now(&pool, of(1)));
    let mut waiting = later(&pool, of(2));
    let same = Ask {
        prefer: Some(a.id().clone()),
        ..of(1)
    };
    let home = a.id().clone();
    let again = match pool.admit(same, Some(a)) {
        Ok(Admitted::Now(grant)) => grant.lease,
        other => panic!("{other:?}"),
    };
    assert_eq!(*again.id(), home, "asked again on the same backend");
    assert!(waits(&mut waiting).await);
    // It fails there: its place is somebody else's, and it is the first to get another one.
    let elsewhere = Ask {
        except: [home.clone()].into_iter().collect(),
        ..of(1)
    };
    let mut goes_on = match pool.admit(elsewhere, Some(again)) {
        Ok(Admitted::Later(waiting)) => waiting,
        other => panic!("{other:?}"),
    };
    let other = here(&mut waiting).await;
    assert_eq!(*other.lease.id(), home);
    let mut last = later(&pool, of(3));
    drop(other);
    here(&mut last).await;
    assert!(waits(&mut goes_on).await, "not where it has failed");
    drop(b);
    assert_ne!(*here(&mut goes_on).await.lease.id(), home);
}

#[tokio::test(start_paused = true)]
async fn turns_of_a_session_wait_in_order() {
    let (_fleet, pool) = fleet("");
    let (a, _b) = (now(&pool, of(1)), now(&pool, of(1)));
    let home = a.id().clone();
    let only_b = Ask {
        except: [home].into_iter().collect(),
        ..of(2)
    };
    let mut first = later(&pool, only_b);
    drop(a);
    let mut second = later(&pool, of(2));
    assert!(waits(&mut first).await);
    assert!(waits(&mut second).await, "a place, but not its turn");
    now(&pool, of(3));
}

#[tokio::test(start_paused = true)]
async fn who_waits_profits_from_backends_that_come_back() {
    let (fleet, pool) = fleet("");
    fleet.backend("b").unwrap().drain();
    let down = fleet.backend("a").unwrap();
    let _held = now(&pool, of(1));
    let (mut first, mut second) = (later(&pool, of(2)), later(&pool, of(3)));
    fleet.backend("b").unwrap().undrain();
    let _first = here(&mut first).await;
    // All are gone: it keeps its place in the queue.
    fleet.backends().iter().for_each(|b| {
        b.observe_failure(Failure::Connect);
    });
    assert!(waits(&mut second).await);
    drop(_held);
    assert!(waits(&mut second).await, "the place is of no use");
    down.observe(crate::fleet::state::Observation::Well, "");
    assert_eq!(here(&mut second).await.lease.id(), down.id());
}

#[tokio::test(start_paused = true)]
async fn counting_takes_no_slot() {
    let (_fleet, pool) = fleet("");
    let (_a, b) = (now(&pool, of(1)), now(&pool, of(1)));
    let mut count = of(2);
    count.wish.beside = true;
    let counts: Vec<Lease> = (0..5).map(|_| now(&pool, count.clone())).collect();
    assert_eq!(pool.inflight(), 7);
    drop(b);
    now(&pool, of(3));
    drop(counts);
    assert_eq!(pool.inflight(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_serves_who_waits_by_the_new_configuration() {
    let (fleet, pool) = fleet("");
    let _held = (now(&pool, of(1)), now(&pool, of(1)));
    let mut waiting = later(&pool, of(2));
    let text = "fleet: {pools: [{name: p, models: [m], queue: {max_waiting: 1}, backends: \
        [{name: a, url: 'http://127.0.0.1:1', slots: 2}]}]}";
    let config = config::parse(text, std::iter::empty()).unwrap();
    let prepared = fleet.prepare(&config).await.unwrap();
    assert!(waits(&mut waiting).await);
    fleet.commit(prepared);
    assert_eq!(here(&mut waiting).await.lease.id().as_str(), "a");
    let now_pool = fleet.pool("p").unwrap();
    assert!(Arc::ptr_eq(now_pool.queue(), pool.queue()));
    let _two = now(&now_pool, of(3));
    let _waiting = later(&now_pool, of(4));
    assert!(now_pool.admit(of(5), None).is_err(), "the new bound");
}

/// Regression: freed slots went to the queue of the new name alone, and who waited under the old one was refused in the end.
#[tokio::test(start_paused = true)]
async fn who_waits_in_a_pool_that_is_renamed_gets_its_places_first() {
    let (fleet, pool) = fleet("");
    let (one, two) = (now(&pool, of(1)), now(&pool, of(1)));
    let mut waiting = later(&pool, of(2));
    let text = "fleet: {pools: [{name: q, models: [m], backends: \
        [{name: a, url: 'http://127.0.0.1:1', slots: 1}, {name: b, url: 'http://127.0.0.1:2', slots: 1}]}]}";
    let config = config::parse(text, std::iter::empty()).unwrap();
    let prepared = fleet.prepare(&config).await.unwrap();
    fleet.commit(prepared);
    let renamed = fleet.pool("q").unwrap();
    let mut newcomer = later(&renamed, of(3));
    let freed = one.id().clone();
    drop(one);
    let got = here(&mut waiting).await;
    assert_eq!(*got.lease.id(), freed);
    assert!(waits(&mut newcomer).await);
    drop(two);
    here(&mut newcomer).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_by_how_fast_places_became_free() {
    let (_fleet, pool) = fleet("max_waiting: 1");
    let mut held = vec![now(&pool, of(1)), now(&pool, of(1))];
    let mut waiting = later(&pool, of(2));
    let after = || match pool.admit(of(9), None) {
        Err(Unavailable::Busy { retry_after, .. }) => retry_after.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(after(), 10, "two places, at one in 5 s");
    for _ in 0..100 {
        advance(Duration::from_millis(500)).await;
        drop(held.remove(0));
        held.push(here(&mut waiting).await.lease);
        waiting = later(&pool, of(2));
    }
    assert_eq!(after(), 2, "two places, at nearly two a second");
    advance(Duration::from_secs(60)).await;
    assert!(after() > 2, "nothing has become free for a minute");
}

/// Another client takes the slots of both backends, as two looks in a row show.
fn taken_by_others(fleet: &Fleet) {
    for backend in fleet.backends() {
        other_slots(&backend, true);
    }
}

fn other_slots(backend: &crate::fleet::Backend, busy: bool) {
    let told = format!(r#"[{{"is_processing":{busy}}}]"#);
    let slots = crate::fleet::facts::Slots::parse(told.as_bytes()).unwrap();
    backend.set_facts(backend.facts().with_slots(&slots));
    backend.saw_slots(&slots, backend.own());
}

#[tokio::test(start_paused = true)]
async fn slots_that_others_hold_are_taken_and_wake_who_waits_when_they_are_free() {
    let (fleet, pool) = fleet("");
    taken_by_others(&fleet);
    taken_by_others(&fleet);
    let mut waiting = later(&pool, of(1));
    assert!(waits(&mut waiting).await);
    let b = fleet.backend("b").unwrap();
    other_slots(&b, false);
    let Grant { lease, decision } = here(&mut waiting).await;
    assert_eq!(lease.id().as_str(), "b");
    let candidates = decision.candidates.told();
    assert_eq!((candidates[0].inflight, candidates[0].others), (0, 1));
    assert_eq!(candidates[1].others, 0);
}

/// Their line inside the backend is in the order of arrival: who never stands in it is never served.
#[tokio::test(start_paused = true)]
async fn where_others_hold_every_slot_one_request_joins_them_after_a_look() {
    let (fleet, pool) = fleet("");
    taken_by_others(&fleet);
    taken_by_others(&fleet);
    let mut all = [1, 2, 3].map(|n| later(&pool, of(n)));
    assert!(waits(&mut all[0]).await);
    taken_by_others(&fleet);
    let [first, second, third] = &mut all;
    let (one, two) = (here(first).await.lease, here(second).await.lease);
    assert_ne!(one.id(), two.id(), "one on each");
    assert!(waits(third).await);
    drop(one);
    here(third).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_hedged_on_a_backend_that_others_fill() {
    let (fleet, pool) = fleet("");
    let first = now(&pool, of(1));
    let other = fleet.backends().into_iter().find(|b| b.id() != first.id());
    let other = other.unwrap();
    let ask = Ask {
        except: [first.id().clone()].into_iter().collect(),
        ..of(1)
    };
    assert!(pool.spare(&ask).is_some());
    (0..3).for_each(|_| other_slots(&other, true));
    assert!(other.may_be_joined() && pool.spare(&ask).is_none());
}
