use std::time::Duration;

use tokio::time::{Instant, advance, timeout};

use super::*;
use crate::fleet::tests::ready;
use crate::fleet::{Failure, Fleet, Footprint, Known, Overload};

/// A pool `p` of `a` and `b` with a slot each, and these rules.
fn fleet(rules: &str) -> (Arc<Fleet>, Arc<Pool>) {
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

fn of(principal: u64) -> Ask {
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

fn now(pool: &Pool, ask: Ask) -> Lease {
    match pool.admit(ask, None) {
        Ok(Admitted::Now(grant)) => grant.lease,
        other => panic!("{other:?}"),
    }
}

fn later(pool: &Pool, ask: Ask) -> Waiting {
    match pool.admit(ask, None) {
        Ok(Admitted::Later(waiting)) => waiting,
        other => panic!("{other:?}"),
    }
}

/// The place that is there already.
async fn here(waiting: &mut Waiting) -> Grant {
    timeout(Duration::ZERO, waiting.granted())
        .await
        .unwrap()
        .unwrap()
}

async fn waits(waiting: &mut Waiting) -> bool {
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

/// Who has a conversation of so many tokens.
fn at_home(home: &BackendId, tokens: u64) -> Ask {
    let mut ask = of(9);
    // What its cache holds is estimated.
    ask.wish.caller.bytes = 4 * tokens;
    ask.prefer = Some(home.clone());
    ask.wish.conversation = Some(7);
    ask.wish.common = 1.0;
    ask.wish.cache = Some(Known {
        backend: home.clone(),
        conversation: 7,
    });
    ask
}

/// A conversation of 5000 tokens on one of the two backends, which somebody else uses now.
fn busy_home(pool: &Pool) -> (Lease, Ask) {
    let mut first = of(9);
    first.wish.conversation = Some(7);
    let lease = now(pool, first);
    let home = lease.id().clone();
    let ask = at_home(&home, 5000);
    (lease, ask)
}

/// Somebody else's conversation of so many tokens has the slot of the other backend, and is not under way.
fn warm_elsewhere(pool: &Pool, tokens: u64) {
    let mut other = of(8);
    other.wish.conversation = Some(8);
    let lease = now(pool, other);
    pool.served(lease.id(), 8, tokens);
}

/// Nobody needs the other backend's slot: going there costs one reading, and saves waits to come.
#[tokio::test(start_paused = true)]
async fn a_conversation_goes_sooner_where_it_pushes_nobody_out() {
    let (_fleet, pool) = fleet("");
    let (busy, ask) = busy_home(&pool);
    let home = busy.id().clone();
    pool.has_read(&home, 2000, Duration::from_secs(1));
    let mut waiting = later(&pool, ask);
    advance(Duration::from_millis(2400)).await;
    assert!(waits(&mut waiting).await);
    advance(Duration::from_millis(200)).await;
    let spilled = here(&mut waiting).await;
    assert_ne!(*spilled.lease.id(), home);
    assert_eq!(spilled.decision.waited.unwrap().for_cache, Some(2.5));
}

/// It took the slots that others' conversations waited for, who then took those of others: in `make bench-fleet` with
/// 384 conversations on 256 slots five times as many moved as had to.
#[tokio::test(start_paused = true)]
async fn who_has_waited_for_its_cache_leaves_the_slots_of_others_to_them() {
    let (_fleet, pool) = fleet("affinity_wait: 10s");
    let (busy, _) = busy_home(&pool);
    let displaced = at_home(busy.id(), 1000);
    let other = now(&pool, of(1));
    let away = other.id().clone();
    let mut displaced = later(&pool, displaced);
    advance(Duration::from_secs(3)).await;
    assert!(waits(&mut displaced).await);
    // Whoever is at home there comes later, and goes first.
    let mut at_home = Ask {
        prefer: Some(away.clone()),
        ..of(4)
    };
    at_home.wish.caller.bytes = 20_000;
    let mut at_home = later(&pool, at_home);
    drop(other);
    let granted = here(&mut at_home).await;
    assert_eq!(*granted.lease.id(), away);
    assert!(waits(&mut displaced).await);
    drop(granted);
    assert_eq!(
        *here(&mut displaced).await.lease.id(),
        away,
        "nobody wants it"
    );
}

#[tokio::test(start_paused = true)]
async fn it_does_not_leave_them_for_ever() {
    let (_fleet, pool) = fleet("affinity_wait: 10s");
    let (busy, _) = busy_home(&pool);
    let displaced = at_home(busy.id(), 1000);
    let other = now(&pool, of(1));
    let away = other.id().clone();
    let mut displaced = later(&pool, displaced);
    advance(Duration::from_millis(10_100)).await;
    assert!(waits(&mut displaced).await);
    let mut at_home = later(
        &pool,
        Ask {
            prefer: Some(away.clone()),
            ..of(4)
        },
    );
    drop(other);
    let granted = here(&mut displaced).await;
    assert_eq!(*granted.lease.id(), away);
    assert!(waits(&mut at_home).await);
}

/// The server had begun anew, and an idle slot elsewhere stayed idle meanwhile.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_cache_that_is_lost() {
    let (fleet, pool) = fleet("");
    let (busy, ask) = busy_home(&pool);
    let home = fleet.backend(busy.id().as_str()).unwrap();
    home.observe_failure(Failure::Loading);
    home.observe(crate::fleet::state::Observation::Well, "");
    assert_ne!(*now(&pool, ask).id(), *busy.id());
}

/// A main conversation that waited for its cache kept its subagents from idle slots.
#[tokio::test(start_paused = true)]
async fn one_turn_that_waits_does_not_hold_up_others_of_its_session() {
    let (_fleet, pool) = fleet("");
    let (busy, main) = busy_home(&pool);
    let mut waiting = later(&pool, main.clone());
    let mut subagent = of(9);
    subagent.wish.conversation = Some(70);
    let placed = now(&pool, subagent.clone());
    let mut second = later(&pool, subagent);
    let mut next = later(&pool, main);
    drop(placed);
    here(&mut second).await;
    drop(busy);
    assert!(
        waits(&mut next).await,
        "the turns of a conversation keep their order"
    );
    here(&mut waiting).await;
}

/// It had failed on all others: it waited until the ejection ended, although the place was free.
#[tokio::test(start_paused = true)]
async fn a_turn_takes_a_place_of_an_ejected_backend_where_no_other_is_left() {
    let (fleet, pool) = fleet("");
    let (a, b) = (now(&pool, of(1)), now(&pool, of(1)));
    let ejected = fleet.backend(a.id().as_str()).unwrap();
    for _ in 0..3 {
        a.observe_failure(Failure::Broken);
        ejected.observe(crate::fleet::state::Observation::Well, "");
    }
    assert!(ejected.ejected());
    let failed_on_b = Ask {
        except: [b.id().clone()].into_iter().collect(),
        ..of(2)
    };
    let (mut last, mut any) = (later(&pool, failed_on_b), later(&pool, of(3)));
    let home = a.id().clone();
    drop(a);
    assert!(waits(&mut any).await);
    assert_eq!(*here(&mut last).await.lease.id(), home);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_waits_for_its_cache_as_long_as_that_saves_reading() {
    let (_fleet, pool) = fleet("");
    let (busy, ask) = busy_home(&pool);
    let home = busy.id().clone();
    warm_elsewhere(&pool, 5000);
    pool.has_read(&home, 2000, Duration::from_secs(1));
    let mut waiting = later(&pool, ask.clone());
    // Somebody else takes the free one meanwhile, and gives it back.
    drop(now(&pool, of(1)));
    assert!(waits(&mut waiting).await);
    advance(Duration::from_millis(4900)).await;
    assert!(waits(&mut waiting).await);
    advance(Duration::from_millis(200)).await;
    let spilled = waiting.granted().await.unwrap();
    assert_ne!(*spilled.lease.id(), home);
    assert_eq!(spilled.decision.waited.unwrap().for_cache, Some(5.0));
    drop(spilled);

    let ask = at_home(&home, 5000);
    let mut waiting = later(&pool, ask);
    advance(Duration::from_secs(1)).await;
    drop(busy);
    let granted = here(&mut waiting).await;
    assert_eq!(*granted.lease.id(), home);
    assert_eq!(granted.decision.reason, crate::fleet::Reason::Sticky);
}

#[tokio::test(start_paused = true)]
async fn it_does_not_wait_where_a_place_is_not_expected_sooner() {
    let (_fleet, pool) = fleet("");
    let (busy, ask) = busy_home(&pool);
    let home = busy.id().clone();
    advance(Duration::from_secs(60)).await;
    drop(busy);
    let _busy = now(&pool, at_home(&home, 5000));
    // Two times 5 s of reading against 60 s of waiting.
    assert_ne!(*now(&pool, ask).id(), home);
    let (_fleet, never) = fleet("affinity_wait: 0s");
    let (busy, ask) = busy_home(&never);
    assert_ne!(now(&never, ask).id(), busy.id());
}

#[tokio::test(start_paused = true)]
async fn a_home_that_dies_is_not_waited_for() {
    let (fleet, pool) = fleet("");
    let (busy, ask) = busy_home(&pool);
    let home = busy.id().clone();
    let mut waiting = later(&pool, ask);
    fleet
        .backend(home.as_str())
        .unwrap()
        .observe_failure(Failure::Connect);
    assert_ne!(*here(&mut waiting).await.lease.id(), home);
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

/// Of these tokens, of a cache of 1000.
fn takes(tokens: u64) -> Ask {
    let mut ask = of(tokens);
    // With the margin of an answer.
    let prompt = tokens - 16;
    ask.wish.footprint = Some(Footprint { prompt, output: 0 });
    ask
}

/// Backends with four slots that share a cache of 1000 tokens.
fn unified(names: &str) -> (Arc<Fleet>, Arc<Pool>) {
    let backend = |name: char| {
        let port = name as u32;
        format!(
            "{{name: {name}, url: 'http://127.0.0.1:{port}', slots: 4, kv: unified, kv_tokens: 1000}}"
        )
    };
    let backends: Vec<String> = names.chars().map(backend).collect();
    let text = format!(
        "fleet: {{pools: [{{name: p, models: [m], backends: [{}]}}]}}",
        backends.join(", ")
    );
    let config = config::parse(&text, std::iter::empty()).unwrap();
    let fleet = Fleet::new(&config).unwrap();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    (fleet, pool)
}

#[tokio::test(start_paused = true)]
async fn a_turn_waits_until_the_cache_has_room_for_it() {
    let (_fleet, pool) = unified("a");
    let (large, small) = (now(&pool, takes(700)), now(&pool, takes(200)));
    let mut waiting = later(&pool, takes(300));
    assert!(waits(&mut waiting).await);
    let tiny = now(&pool, takes(100));
    drop(small);
    assert!(waits(&mut waiting).await, "200 are free");
    // Its prompt was shorter than expected.
    large.occupies(Some(500), 0);
    let got = here(&mut waiting).await;
    assert_eq!(pool.backends()[0].kv_held(), 516 + 100 + 300);
    drop((large, tiny, got));
    assert_eq!((pool.backends()[0].kv_held(), pool.inflight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_turn_goes_where_its_cache_fits() {
    let (_fleet, pool) = unified("ab");
    let one = now(&pool, takes(700));
    let two = now(&pool, takes(600));
    assert_ne!(one.id(), two.id());
    let three = now(&pool, takes(390));
    assert_eq!(three.id(), two.id());
    let four = now(&pool, takes(290));
    assert_eq!(four.id(), one.id());
    let mut five = later(&pool, takes(100));
    drop(four);
    assert_eq!(here(&mut five).await.lease.id(), one.id());
}

#[tokio::test(start_paused = true)]
async fn smaller_turns_overtake_a_large_one_for_a_while_only() {
    let (_fleet, pool) = unified("a");
    let first = now(&pool, takes(600));
    let mut large = later(&pool, takes(900));
    let second = now(&pool, takes(300));
    advance(Duration::from_secs(3)).await;
    drop(first);
    let mut third = later(&pool, takes(300));
    assert!(waits(&mut large).await && waits(&mut third).await);
    drop(second);
    let large = here(&mut large).await;
    assert!(waits(&mut third).await);
    drop(large);
    here(&mut third).await;
}

#[tokio::test(start_paused = true)]
async fn a_cache_is_no_longer_kept_for_one_that_has_left() {
    let (_fleet, pool) = unified("a");
    let first = now(&pool, takes(600));
    let large = later(&pool, takes(900));
    let second = now(&pool, takes(300));
    advance(Duration::from_secs(3)).await;
    drop(first);
    drop(large);
    now(&pool, takes(300));
    drop(second);
    assert_eq!(pool.backends()[0].kv_held(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reserved_where_slots_have_their_own() {
    let (_fleet, pool) = fleet("");
    let lease = now(&pool, takes(1_000_000));
    assert!(!lease.reserves());
    assert_eq!(lease.kv_held(), 0);
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
