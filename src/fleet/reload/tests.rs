use super::*;
use crate::fleet::state::Observation;
use crate::fleet::tests::ready;
use crate::fleet::{Admitted, Ask, Decision, Grant, Known, Wish};
use crate::fleet::{Asking, BackendState, HealthService};

fn config(pools: &str) -> Config {
    config::parse(&format!("fleet: {{pools: [{pools}]}}"), std::iter::empty()).unwrap()
}

fn pool(backends: &str) -> String {
    format!("{{name: p, models: ['*'], backends: [{backends}]}}")
}

const A: &str = "{name: a, url: 'http://127.0.0.1:1'}";
const B: &str = "{name: b, url: 'http://127.0.0.1:2'}";

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Nobody watches here, so new backends are said to be checked by the test.
async fn reload(fleet: &Fleet, config: &Config) -> Reloaded {
    let mut watched = fleet.watched.subscribe();
    let checker = async {
        watched.changed().await.unwrap();
        let backends = watched.borrow().backends.clone();
        backends.iter().for_each(|b| b.set_checked());
    };
    let (prepared, ()) = tokio::join!(fleet.prepare(config), checker);
    fleet.commit(prepared.unwrap())
}

#[tokio::test]
async fn a_known_backend_keeps_state_leases_and_drain_under_new_settings() {
    let fleet = Fleet::new(&config(&pool(&format!("{A}, {B}")))).unwrap();
    ready(&fleet);
    fleet.backend("b").unwrap().drain();
    let lease = fleet.pool("p").unwrap().select(&[]).unwrap();
    assert_eq!(lease.id().as_str(), "a");

    let heavier = "{name: a, url: 'http://127.0.0.1:1/', weight: 3, slots: 7}";
    let next = format!(
        "{{name: q, models: [m], backends: [{heavier}]}}, {{name: r, models: ['*'], backends: [{B}]}}"
    );
    let done = reload(&fleet, &config(&next)).await;
    assert_eq!(done.kept, ["a", "b"]);
    assert_eq!((done.added, done.removed), (list(&[]), list(&[])));
    let (a, b) = (fleet.backend("a").unwrap(), fleet.backend("b").unwrap());
    assert_eq!((a.pool(), a.weight().get(), a.slots()), ("q", 3, Some(7)));
    assert_eq!((a.state(), a.inflight()), (BackendState::Ready, 1));
    assert!(b.draining() && fleet.pool("p").is_none());
    // The lease was taken on the old handle and comes back to the new one.
    drop(lease);
    assert_eq!(a.inflight(), 0);
}

#[tokio::test]
async fn another_address_or_model_is_another_backend() {
    let fleet = Fleet::new(&config(&pool(&format!("{A}, {B}")))).unwrap();
    ready(&fleet);
    let other =
        "{name: a, url: 'http://127.0.0.1:9'}, {name: b, url: 'http://127.0.0.1:2', model: m}";
    let done = reload(&fleet, &config(&pool(other))).await;
    assert_eq!(done.added, ["a", "b"]);
    assert_eq!(done.removed, ["a", "b"]);
    let a = fleet.backend("a").unwrap();
    assert_eq!(a.state(), BackendState::Unknown);
    assert!(!a.available());
}

#[tokio::test]
async fn a_removed_backend_finishes_and_is_the_last_to_be_chosen() {
    let fleet = Fleet::new(&config(&pool(&format!("{A}, {B}")))).unwrap();
    ready(&fleet);
    let before = fleet.pool("p").unwrap();
    let leases = [before.select(&[]).unwrap(), before.select(&[]).unwrap()];
    let done = reload(&fleet, &config(&pool(B))).await;
    assert_eq!(done.removed, ["a"]);
    assert!(fleet.backend("a").is_none());
    let leaving = fleet.leaving();
    assert_eq!((leaving.len(), leaving[0].inflight()), (1, 1));
    // A turn that began before may go again: not there, unless nothing else is left.
    let ask = Ask {
        prefer: Some("a".into()),
        ..Ask::default()
    };
    let Ok(Admitted::Now(Grant { lease: again, .. })) = before.admit(ask, None) else {
        panic!("there is a place");
    };
    assert_eq!(again.id().as_str(), "b");
    let last = before.select(&["b".into()]).unwrap();
    assert_eq!(last.id().as_str(), "a");
    drop((leases, again, last));
    assert!(fleet.leaving().is_empty());
}

fn wish(conversation: u64) -> Wish {
    Wish {
        conversation: Some(conversation),
        common: 1.0,
        ..Wish::default()
    }
}

/// The selection of a further turn of `conversation`, which has its cache on `backend`.
fn goes_on(pool: &Pool, backend: &str, conversation: u64) -> Decision {
    let cache = Known {
        backend: backend.into(),
        conversation,
    };
    let ask = Ask {
        prefer: Some(backend.into()),
        wish: Wish {
            cache: Some(cache),
            ..wish(conversation)
        },
        ..Ask::default()
    };
    let Ok(Admitted::Now(Grant { decision, .. })) = pool.admit(ask, None) else {
        panic!("there is a place");
    };
    assert_eq!(decision.chosen.as_str(), backend);
    decision
}

fn expects(pool: &Pool, backend: &str, conversation: u64) -> u64 {
    goes_on(pool, backend, conversation).predicted_cached_tokens
}

/// Its leases would count twice over the same slots, and its caches be forgotten.
#[tokio::test]
async fn one_that_comes_back_while_it_serves_is_the_same_again() {
    let both = config(&pool(&format!("{A}, {B}")));
    let fleet = Fleet::new(&both).unwrap();
    ready(&fleet);
    let before = fleet.pool("p").unwrap();
    let lease = before.select_for(&["b".into()], &wish(7)).unwrap();
    reload(&fleet, &config(&pool(B))).await;
    assert!(lease.leaving());
    // It says so while it is away.
    before.served(lease.id(), 7, 5000);
    let done = reload(&fleet, &both).await;
    assert_eq!((done.added, done.kept), (list(&["a"]), list(&["b"])));
    let a = fleet.backend("a").unwrap();
    assert!(a.shares_state(&lease) && !a.leaving() && fleet.leaving().is_empty());
    assert_eq!((a.state(), a.inflight()), (BackendState::Ready, 1));
    assert_eq!(expects(&fleet.pool("p").unwrap(), "a", 7), 5000);
    drop(lease);
    assert_eq!(a.inflight(), 0);

    reload(&fleet, &config(&pool(B))).await;
    reload(&fleet, &both).await;
    let later = fleet.backend("a").unwrap();
    assert!(!later.shares_state(&a), "nobody knows what became of it");
}

#[tokio::test]
async fn turns_that_go_on_over_a_reload_tell_the_pool_that_is_there_now() {
    let fleet = Fleet::new(&config(&pool(&format!("{A}, {B}")))).unwrap();
    ready(&fleet);
    let before = fleet.pool("p").unwrap();
    let lease = before.select_for(&["b".into()], &wish(7)).unwrap();
    let heavier = "{name: a, url: 'http://127.0.0.1:1', weight: 3}";
    reload(&fleet, &config(&pool(&format!("{heavier}, {B}")))).await;
    let now = fleet.pool("p").unwrap();
    before.served(lease.id(), 7, 5000);
    assert_eq!(expects(&now, "a", 7), 5000);
    // A further attempt of such a turn tells it as well, and knows what was learnt since.
    let lease = before.select_for(&["a".into()], &wish(8)).unwrap();
    before.served(lease.id(), 8, 900);
    assert_eq!(expects(&now, "b", 8), 900);
    assert_eq!(expects(&before, "b", 8), 900);
    before.forgets(lease.id(), Some(8));
    assert_eq!(expects(&now, "b", 8), 0);
}

#[tokio::test]
async fn fewer_selections_are_remembered_at_once() {
    let mut next = config(&pool(A));
    let fleet = Fleet::new(&next).unwrap();
    ready(&fleet);
    let one = goes_on(&fleet.pool("p").unwrap(), "a", 1);
    let asking = |id| Asking { id, number: 0 };
    for id in ["first", "second"] {
        let explanations = fleet.explanations();
        explanations.decided(asking(id), None, "p", one.clone());
    }
    next.fleet.selection.explain_last = NonZeroUsize::MIN;
    reload(&fleet, &next).await;
    let known = ["first", "second"].map(|id| fleet.explanations().of(id).is_some());
    assert_eq!(known, [false, true]);
}

#[tokio::test]
async fn an_untouched_pool_is_the_same_object() {
    let q = "{name: q, models: [m], backends: [{name: c, url: 'http://127.0.0.1:3'}]}";
    let fleet = Fleet::new(&config(&format!("{}, {q}", pool(A)))).unwrap();
    ready(&fleet);
    let before = (fleet.pool("p").unwrap(), fleet.pool("q").unwrap());
    reload(&fleet, &config(&format!("{}, {q}", pool(B)))).await;
    assert!(Arc::ptr_eq(&before.1, &fleet.pool("q").unwrap()));
    assert!(!Arc::ptr_eq(&before.0, &fleet.pool("p").unwrap()));

    let mut slower = config(&format!("{}, {q}", pool(B)));
    slower.timeouts.connect *= 7;
    reload(&fleet, &slower).await;
    assert!(!Arc::ptr_eq(&before.1, &fleet.pool("q").unwrap()));
    let peer = fleet.backend("c").unwrap().peer().unwrap();
    assert_eq!(
        peer.options.connection_timeout,
        Some(slower.timeouts.connect)
    );
}

#[tokio::test]
async fn new_thresholds_rule_a_known_backend() {
    let mut next = config(&pool(A));
    let fleet = Fleet::new(&next).unwrap();
    ready(&fleet);
    next.fleet.health.unhealthy_after = 3.try_into().unwrap();
    reload(&fleet, &next).await;
    let a = fleet.backend("a").unwrap();
    for state in [BackendState::Ready, BackendState::Ready, BackendState::Down] {
        a.observe(Observation::Failed, "");
        assert_eq!(a.state(), state);
    }
}

#[tokio::test]
async fn an_inconsistent_fleet_changes_nothing() {
    let fleet = Fleet::new(&config(&pool(A))).unwrap();
    ready(&fleet);
    let watched = fleet.watched.subscribe();
    let mut bad = config(&pool(B));
    bad.fleet.pools[0].backends.push(config::Backend {
        name: Some("b".to_owned()),
        ..config::Backend::at("http://127.0.0.1:4")
    });
    assert!(matches!(fleet.prepare(&bad).await, Err(FleetError::Duplicate(name)) if name == "b"));
    assert!(fleet.backend("a").unwrap().available());
    assert!(!watched.has_changed().unwrap());
}

#[tokio::test]
async fn the_service_checks_a_new_backend_before_it_is_committed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    let first = config(&pool(&format!("{{name: x, url: 'http://{dead}'}}")));
    let fleet = Fleet::new(&first).unwrap();
    let (ready, told) = tokio::sync::oneshot::channel();
    let service = HealthService::new(fleet.clone());
    let running = tokio::spawn(async move {
        service
            .run(|| {
                let _ = ready.send(());
            })
            .await;
    });
    told.await.unwrap();
    let next = config(&pool(&format!("{{name: y, url: 'http://{dead}'}}")));
    let prepared = fleet.prepare(&next).await.unwrap();
    assert!(fleet.backend("x").is_some() && fleet.backend("y").is_none());
    assert_eq!(fleet.commit(prepared).added, ["y"]);
    let y = fleet.backend("y").unwrap();
    assert!(fleet.checked_once());
    assert_eq!(y.state(), BackendState::Down);
    running.abort();
}
