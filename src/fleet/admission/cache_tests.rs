//! Waiting for caches: for one's own, and for room in one that slots share.

use std::time::Duration;

use tokio::time::advance;

use super::tests::{fleet, here, later, now, of, waits};
use super::*;
use crate::fleet::tests::ready;
use crate::fleet::{Failure, Fleet, Footprint, Known};

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
        let failed = pool.select(&[b.id().clone()]).unwrap();
        failed.observe_failure(Failure::Broken);
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

/// Regression: who waited behind it found out at the next check of the backend only.
#[tokio::test(start_paused = true)]
async fn who_leaves_lets_in_those_for_whom_there_was_no_room_beside_it() {
    let (_fleet, pool) = unified("a");
    let first = now(&pool, takes(600));
    let large = later(&pool, takes(900));
    let _second = now(&pool, takes(300));
    advance(Duration::from_secs(3)).await;
    drop(first);
    let mut third = later(&pool, takes(300));
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
