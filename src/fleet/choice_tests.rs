//! Selection by a pool that remembers: predictions, reasons, slow starts, cost.

use std::time::Duration;

use super::state::Observation;
use super::tests::{fleet_of, ready};
use super::*;
use crate::config::Subject;
use crate::spec::rollout::{Arm, Assigned, Mode, Routing};
use crate::spec::{Asked as Wanted, Cause, Choice};

fn fleet() -> Arc<Fleet> {
    fleet_of(
        "{name: a, url: 'http://127.0.0.1:1'}, {name: b, url: 'http://127.0.0.1:2'}, \
         {name: c, url: 'http://127.0.0.1:3'}",
    )
}

fn wish(conversation: u64, prefix: Option<u64>) -> Wish {
    Wish {
        conversation: Some(conversation),
        prefix: prefix.map(|hash| Prefix { hash, tokens: 900 }),
        ..Wish::default()
    }
}

fn on(backend: &BackendId, conversation: u64) -> Wish {
    let cache = Known {
        backend: backend.clone(),
        conversation,
    };
    Wish {
        cache: Some(cache),
        common: 1.0,
        ..wish(conversation, None)
    }
}

fn choose(pool: &Pool, except: &[BackendId], wish: &Wish) -> (Lease, Decision) {
    let ask = Ask {
        except: except.into(),
        prefer: wish.preferred().cloned(),
        wish: wish.clone(),
    };
    match pool.admit(ask, None) {
        Ok(Admitted::Now(Grant { lease, decision })) => (lease, decision),
        other => panic!("{other:?}"),
    }
}

/// One turn; who served it, and what had been predicted.
fn served(pool: &Pool, wish: &Wish, tokens: u64) -> (BackendId, Decision) {
    let (lease, decision) = choose(pool, &[], wish);
    pool.served(lease.id(), wish.conversation.unwrap(), tokens);
    (lease.id().clone(), decision)
}

/// Two backends with a slot each, of which the second runs `ngram-mod`.
fn profiles() -> Arc<Fleet> {
    let fleet = fleet_of(
        "{name: a, url: 'http://127.0.0.1:1', profile: none, slots: 1}, \
         {name: b, url: 'http://127.0.0.1:2', profile: ngram-mod, slots: 1}",
    );
    ready(&fleet);
    fleet
}

/// A turn of a conversation that has its cache on `a`, and that wants what runs on `b`.
fn wants_b(reprefill_max: Option<Duration>) -> Wish {
    let choice = Choice {
        asked: Wanted::Profile("ngram-mod".into()),
        cause: Cause::Rule,
    };
    Wish {
        spec: Some(SpecWish {
            choice,
            reprefill_max,
            reprefill_rate: 1000,
        }),
        ..on(&"a".into(), 1)
    }
}

/// It was given up for a backend that had no room: the turn then got neither its profile nor its cache.
#[test]
fn a_cache_is_not_given_up_for_a_profile_whose_backend_is_full() {
    let fleet = profiles();
    let (pool, home) = (fleet.pool("p").unwrap(), fleet.backend("a").unwrap());
    let wish = wants_b(None);
    assert!(!pool.keeps(&home, &wish), "there is room");
    let (taken, _) = choose(&pool, &[], &wish);
    assert_eq!(taken.id().as_str(), "b");
    assert!(pool.keeps(&home, &wish));
    drop(taken);
    assert!(!pool.keeps(&home, &wish));
}

#[test]
fn what_leaving_a_cache_costs_is_told_whichever_way_it_goes() {
    let fleet = profiles();
    let pool = fleet.pool("p").unwrap();
    let asked = |most: Option<u64>| {
        // 50 s at 1000 tokens a second.
        drop(choose(&pool, &["b".into()], &on(&"a".into(), 1)));
        pool.served(&"a".into(), 1, 50_000);
        let (lease, decision) = choose(&pool, &[], &wants_b(most.map(Duration::from_secs)));
        let spec = decision.spec.unwrap();
        let weighed = spec.weighed.unwrap();
        assert_eq!((weighed.tokens, weighed.seconds), (50_000, 50.0));
        assert_eq!(weighed.at_most, most.map(|most| most as f64));
        (lease.id().to_string(), spec.unserved, weighed.moved)
    };
    assert_eq!(
        asked(Some(10)),
        ("a".into(), Some(Unserved::Reprefill), false)
    );
    assert_eq!(asked(Some(60)), ("b".into(), None, true));
    assert_eq!(asked(None), ("b".into(), None, true));
}

/// A session after the rollback of `new`, which `old` is the baseline of.
fn rolled_back() -> Assigned {
    let routing = Routing {
        rollout: "r".into(),
        pool: "p".into(),
        run: 1,
        step: 0,
        crossed: false,
        pair: None,
        candidate: Subject::Backend("new".into()),
        baseline: Subject::Backend("old".into()),
        control: "old".into(),
        mode: Mode::Baseline,
    };
    Assigned {
        arm: Arm::Baseline,
        routing: Arc::new(routing),
    }
}

/// After a rollback, and with the baseline's only backend busy, it was offered the place of a third one and could not take
/// it: nobody in the queue got anything any more.
#[tokio::test(start_paused = true)]
async fn after_a_rollback_a_turn_takes_whatever_is_not_the_candidate() {
    let slots = |name, port| format!("{{name: {name}, url: 'http://127.0.0.1:{port}', slots: 1}}");
    let fleet = fleet_of(&[slots("new", 1), slots("old", 2), slots("third", 3)].join(", "));
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let held = |name: &str| {
        let all = fleet.backends();
        let others = all.iter().map(|b| b.id().clone());
        let others: Vec<BackendId> = others.filter(|id| id.as_str() != name).collect();
        choose(&pool, &others, &Wish::default()).0
    };
    let (_new, old, third) = (held("new"), held("old"), held("third"));
    let wish = Wish {
        rollout: Some(rolled_back()),
        ..wish(1, None)
    };
    let ask = |wish: &Wish| Ask {
        wish: wish.clone(),
        ..Ask::default()
    };
    let Ok(Admitted::Later(mut waiting)) = pool.admit(ask(&wish), None) else {
        panic!("every slot is taken");
    };
    drop(third);
    let granted = tokio::time::timeout(Duration::from_millis(1), waiting.granted()).await;
    let granted = granted.unwrap().unwrap();
    assert_eq!(granted.lease.id().as_str(), "third");
    drop(old);
    assert_eq!(choose(&pool, &[], &wish).0.id().as_str(), "old");
}

/// Regression: it waited for backends that had failed it, beside the candidate's idle slot.
#[tokio::test(start_paused = true)]
async fn after_a_rollback_a_turn_that_all_others_have_failed_takes_the_candidate() {
    let slots = |name, port| format!("{{name: {name}, url: 'http://127.0.0.1:{port}', slots: 1}}");
    let fleet = fleet_of(&[slots("new", 1), slots("old", 2)].join(", "));
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let (old, new): (BackendId, BackendId) = ("old".into(), "new".into());
    let held = choose(&pool, std::slice::from_ref(&old), &Wish::default()).0;
    assert_eq!(*held.id(), new);
    let ask = Ask {
        except: [old].into_iter().collect(),
        wish: Wish {
            rollout: Some(rolled_back()),
            ..wish(1, None)
        },
        ..Ask::default()
    };
    let Ok(Admitted::Later(mut waiting)) = pool.admit(ask, None) else {
        panic!("its slot is taken");
    };
    drop(held);
    let granted = tokio::time::timeout(Duration::from_millis(1), waiting.granted()).await;
    assert_eq!(*granted.unwrap().unwrap().lease.id(), new);
}

/// A restarted server was given all of its conversations back at once, however slowly it was to start.
#[tokio::test(start_paused = true)]
async fn conversations_whose_cache_is_lost_go_where_new_ones_go() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let home: BackendId = "a".into();
    let others: Vec<BackendId> = vec!["b".into(), "c".into()];
    for n in 0..20 {
        drop(choose(&pool, &others, &on(&home, n)));
        pool.served(&home, n, 5000);
    }
    assert_eq!(choose(&pool, &[], &on(&home, 3)).1.reason, Reason::Sticky);
    let a = fleet.backend("a").unwrap();
    a.observe_failure(Failure::Loading);
    tokio::time::advance(Duration::from_secs(3)).await;
    a.observe(Observation::Well, "");
    let leases: Vec<_> = (0..20).map(|n| choose(&pool, &[], &on(&home, n))).collect();
    let back = leases.iter().filter(|(lease, _)| *lease.id() == home);
    assert!(back.count() <= 3, "a tenth of its share");
    assert!(leases.iter().all(|(_, why)| why.reason != Reason::Sticky));
}

#[test]
fn caches_are_predicted() {
    let fleet = fleet_of("{name: a, url: 'http://127.0.0.1:1'}");
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let (home, first) = served(&pool, &wish(1, Some(7)), 5000);
    assert_eq!(
        (first.reason, first.predicted_cached_tokens),
        (Reason::Affinity, 0)
    );
    let (same, next) = served(&pool, &on(&home, 1), 6000);
    assert_eq!((&same, next.reason), (&home, Reason::Sticky));
    assert_eq!(next.predicted_cached_tokens, 5000);
    let (same, other) = served(&pool, &wish(2, Some(7)), 3000);
    assert_eq!(
        (&same, other.predicted_cached_tokens),
        (&home, 900),
        "what they have in common"
    );
    let branch = Wish {
        common: 0.5,
        conversation: Some(3),
        ..on(&home, 1)
    };
    assert_eq!(served(&pool, &branch, 3000).1.predicted_cached_tokens, 3000);
    // A server that has loaded its model again has nothing.
    let backend = fleet.backend(home.as_str()).unwrap();
    backend.observe_failure(Failure::Loading);
    backend.observe(Observation::Well, "");
    assert_eq!(served(&pool, &on(&home, 1), 1).1.predicted_cached_tokens, 0);
}

#[test]
fn who_could_not_be_chosen_is_told() {
    let fleet = fleet();
    ready(&fleet);
    fleet.backend("b").unwrap().drain();
    let pool = fleet.pool("p").unwrap();
    let (lease, decision) = choose(&pool, &["c".into()], &Wish::default());
    assert_eq!(lease.id().as_str(), "a");
    let standing: Vec<_> = decision
        .candidates
        .told()
        .iter()
        .map(|c| c.standing)
        .collect();
    assert_eq!(
        standing,
        [Standing::Chosen, Standing::Unavailable, Standing::Tried]
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_was_away_starts_slowly() {
    let fleet = fleet();
    ready(&fleet);
    let slow = Duration::from_secs(10);
    let a = fleet.backend("a").unwrap();
    let pace = || a.comeback().pace(slow, tokio::time::Instant::now());
    assert_eq!(pace(), 1.0, "nothing else is warmer");
    a.observe_failure(Failure::Connect);
    tokio::time::advance(Duration::from_secs(3)).await;
    a.observe(Observation::Well, "");
    assert_eq!(pace(), 0.1);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!((pace() - 0.5).abs() < 0.01);
    assert_eq!(
        a.comeback()
            .pace(Duration::ZERO, tokio::time::Instant::now()),
        1.0
    );
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(pace(), 1.0);
}

/// Median time of one of many selections, each repeated.
fn cost(pool: &Pool, wish: &Wish) -> Duration {
    let mut rounds: Vec<Duration> = (0..21)
        .map(|_| {
            let began = tokio::time::Instant::now();
            for _ in 0..1000 {
                std::hint::black_box(choose(pool, &[], wish));
            }
            began.elapsed() / 1000
        })
        .collect();
    rounds.sort();
    rounds[rounds.len() / 2]
}

/// `make bench-selection`.
#[test]
#[ignore = "judges the time that this machine takes"]
fn cost_of_a_selection() {
    let wishes = |home: &BackendId| {
        let size = |wish: Wish| Wish {
            caller: Caller {
                bytes: 20_000,
                ..Caller::default()
            },
            ..wish
        };
        [
            ("prefix", size(wish(1, Some(3)))),
            ("none", size(wish(1, None))),
            ("sticky", size(on(home, 1))),
        ]
    };
    for backends in [8, 64] {
        let list =
            (0..backends).map(|n| format!("{{url: 'http://127.0.0.1:{}', slots: 4}}", n + 1));
        let fleet = fleet_of(&list.collect::<Vec<_>>().join(","));
        ready(&fleet);
        let pool = fleet.pool("p").unwrap();
        let wishes = wishes(fleet.backends()[3].id());
        let costs = [100, 1000, 100_000].map(|sessions| {
            for n in 0..sessions {
                served(&pool, &wish(n, Some(n % 7)), 5000);
            }
            wishes.each_ref().map(|(_, wish)| cost(&pool, wish))
        });
        for (n, (what, _)) in wishes.iter().enumerate() {
            let [few, some, many] = costs.map(|of| of[n]);
            println!(
                "{backends} backends, {what}: {few:?}, {some:?}, {many:?} with 100, 1,000, 100,000 sessions"
            );
            assert!(many <= Duration::from_micros(5), "the goal of a selection");
            assert!(
                many.as_secs_f64() <= 1.3 * some.as_secs_f64(),
                "it grows with the sessions"
            );
        }
    }
}

fn broken(lease: &Lease) {
    lease.observe_failure(Failure::Broken);
    // The next check is good, as always.
    lease.observe(Observation::Well, "");
}

#[tokio::test(start_paused = true)]
async fn a_backend_whose_requests_fail_is_ejected_and_tried_by_one_request() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let not_a = |n: usize| (0..n).all(|_| pool.select(&[]).unwrap().id().as_str() != "a");
    let only_a: Vec<BackendId> = vec!["b".into(), "c".into()];
    let a = || choose(&pool, &only_a, &Wish::default()).0;
    (0..3).for_each(|_| broken(&a()));
    assert!(fleet.backend("a").unwrap().ejected() && not_a(12));
    tokio::time::advance(Duration::from_secs(2)).await;
    let trial = a();
    assert!(not_a(12), "one request at a time");
    drop(trial);
    let trial = a();
    broken(&trial);
    drop(trial);
    tokio::time::advance(Duration::from_millis(1900)).await;
    assert!(not_a(12), "twice as long, less a half at most");
    tokio::time::advance(Duration::from_millis(2100)).await;
    a().observe_success();
    assert!(!not_a(12));
}

#[tokio::test(start_paused = true)]
async fn at_most_half_of_a_pool_is_ejected() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let others = |but: &str| -> Vec<BackendId> {
        let ids = ["a", "b", "c"].into_iter().filter(|id| *id != but);
        ids.map(BackendId::from).collect()
    };
    let break_it = |id: &str| {
        let except = others(id);
        (0..3).for_each(|_| broken(&choose(&pool, &except, &Wish::default()).0));
    };
    let used = || {
        let mut used: Vec<String> = (0..30)
            .map(|_| pool.select(&[]).unwrap().id().to_string())
            .collect();
        used.sort();
        used.dedup();
        used
    };
    break_it("a");
    assert_eq!(used(), ["b", "c"]);
    break_it("b");
    assert_eq!(
        used(),
        ["a", "b", "c"],
        "two of three are not the ones to blame"
    );
}

/// Regression: errors that a backend answers with were nobody's, and a broken one got requests for ever.
#[tokio::test(start_paused = true)]
async fn errors_that_another_backend_does_not_make_eject_and_others_do_not() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let only_a: Vec<BackendId> = vec!["b".into(), "c".into()];
    let a = || choose(&pool, &only_a, &Wish::default()).0;
    let is_ejected = || fleet.backend("a").unwrap().ejected();
    (0..9).for_each(|_| drop(a().observe_error(false)));
    assert!(!is_ejected(), "nobody else has answered it");
    (0..3).for_each(|_| a().observe_error(false).confirm());
    assert!(is_ejected());
    tokio::time::advance(Duration::from_secs(2)).await;
    let trial = a();
    let doubt = trial.observe_error(false);
    drop(trial);
    assert!(is_ejected(), "its trial is not over");
    drop(doubt);
    assert!(is_ejected(), "nor due again at once");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(!is_ejected());
}

/// Regression: answers that take no slot, such as counts of tokens, hid that all others failed.
#[tokio::test(start_paused = true)]
async fn what_takes_no_slot_says_nothing_about_those_that_do() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let only_a: Vec<BackendId> = vec!["b".into(), "c".into()];
    let count = Wish {
        beside: true,
        ..Wish::default()
    };
    for _ in 0..3 {
        broken(&choose(&pool, &only_a, &Wish::default()).0);
        choose(&pool, &only_a, &count).0.observe_success();
    }
    assert!(fleet.backend("a").unwrap().ejected());
}

#[test]
fn an_error_is_the_backends_fault_once_another_one_does_better() {
    let fleet = fleet();
    ready(&fleet);
    let lease = fleet.pool("p").unwrap().select(&["b".into(), "c".into()]);
    let lease = lease.unwrap();
    for (said, other, is_whole, settles) in [
        (false, "b", false, true),
        (false, "b", true, true),
        (true, "b", false, false),
        (true, "b", true, true),
        (false, "a", true, false),
    ] {
        let doubt = lease.observe_error(said);
        assert_eq!(doubt.is_settled_by(&other.into(), is_whole), settles);
    }
}

/// A turn that has failed everywhere else is not lost because of others.
#[tokio::test(start_paused = true)]
async fn an_ejected_backend_is_better_than_none() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let only_a: Vec<BackendId> = vec!["b".into(), "c".into()];
    (0..3).for_each(|_| broken(&choose(&pool, &only_a, &Wish::default()).0));
    assert!(fleet.backend("a").unwrap().ejected());
    let (last, _) = choose(&pool, &only_a, &Wish::default());
    assert_eq!(last.id().as_str(), "a");
}
