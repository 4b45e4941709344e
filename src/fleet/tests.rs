use std::sync::Arc;
use std::time::Duration;

use super::lease::Place;
use super::state::Observation;
use super::*;
use crate::config;

/// A pool `p` with three backends `a`, `b`, `c`, none checked yet.
fn fleet() -> Arc<Fleet> {
    fleet_of(
        "{name: a, url: 'http://127.0.0.1:1'}, {name: b, url: 'http://127.0.0.1:2'}, \
              {name: c, url: 'http://127.0.0.1:3'}",
    )
}

pub(crate) fn fleet_of(backends: &str) -> Arc<Fleet> {
    let text = format!(
        "fleet: {{passthrough: [{{path: /tokenize, pool: p}}, {{path: '/x/*/y', pool: p}}], \
         pools: [{{name: p, models: [m, 'm-*'], backends: [{backends}]}}]}}"
    );
    let config = config::parse(&text, std::iter::empty()).unwrap();
    Fleet::new(&config).unwrap()
}

pub(crate) fn ready(fleet: &Fleet) {
    for backend in fleet.backends() {
        backend.observe(Observation::Well, "");
        backend.set_checked();
    }
}

fn names(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|l| l.id().as_str()).collect()
}

#[test]
fn readiness_waits_for_every_first_check() {
    let fleet = fleet();
    assert!(!fleet.checked_once() && !fleet.any_ready());
    fleet.backends()[0].observe(Observation::Well, "");
    fleet.backends()[0].set_checked();
    assert!(!fleet.checked_once() && fleet.any_ready());
    ready(&fleet);
    assert!(fleet.checked_once());
    fleet.backends().iter().for_each(|b| b.drain());
    assert!(!fleet.any_ready());
}

#[test]
fn models_resolve_to_pool_and_pattern() {
    let fleet = fleet();
    let found = |model| fleet.resolve(model).map(|(p, l)| (p.name().to_owned(), l));
    assert_eq!(found("m"), Some(("p".to_owned(), "m".into())));
    assert_eq!(found("m-7b"), Some(("p".to_owned(), "m-*".into())));
    assert_eq!(found("other"), None);
    assert_eq!(fleet.pool("p").unwrap().name(), "p");
    assert!(fleet.pool("q").is_none() && fleet.backend("z").is_none());
}

#[test]
fn places_spread_and_come_back_when_leases_end() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let leases: Vec<_> = (0..6).map(|_| pool.select(&[]).unwrap()).collect();
    assert!(fleet.backends().iter().all(|b| b.inflight() == 2));
    assert_eq!(pool.inflight(), 6);
    let freed = leases[4].id().clone();
    let mut leases = leases;
    drop(leases.remove(4));
    assert_eq!(
        *pool.select(&[]).unwrap().id(),
        freed,
        "the free place is taken next"
    );
    drop(leases);
    assert_eq!(pool.inflight(), 0);
}

#[test]
fn a_lease_comes_back_from_a_panic() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let held = pool.clone();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _lease = held.select(&[]).unwrap();
        panic!("a request dies");
    }));
    assert!(result.is_err());
    assert_eq!(pool.inflight(), 0);
}

#[test]
fn idle_backends_take_turns() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    let order: Vec<String> = (0..6)
        .map(|_| pool.select(&[]).unwrap().id().to_string())
        .collect();
    assert_eq!(order, ["a", "b", "c", "a", "b", "c"]);
}

#[test]
fn the_unwell_the_draining_and_the_tried_get_nothing() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    fleet
        .backend("a")
        .unwrap()
        .observe_failure(Failure::Connect);
    fleet.backend("b").unwrap().drain();
    let leases: Vec<_> = (0..3).map(|_| pool.select(&[]).unwrap()).collect();
    assert_eq!(names(&leases), ["c", "c", "c"]);
    assert_eq!(
        pool.select(&["c".into()]).unwrap_err(),
        Unavailable::NoneLeft
    );
    fleet.backend("b").unwrap().undrain();
    assert_eq!(pool.select(&["c".into()]).unwrap().id().as_str(), "b");
}

#[test]
fn the_reason_for_nothing_is_the_most_hopeful_one() {
    let fleet = fleet();
    let pool = fleet.pool("p").unwrap();
    let reason = || pool.select(&[]).unwrap_err();
    let loading = Unavailable::Loading {
        retry_after: Duration::from_secs(5),
    };
    assert_eq!(reason(), loading, "not checked yet");
    for backend in fleet.backends() {
        backend.observe(Observation::Failed, "gone");
    }
    let down = Unavailable::AllDown {
        retry_after: Duration::from_secs(3),
    };
    assert_eq!(reason(), down);
    let a = fleet.backend("a").unwrap();
    assert_eq!(a.trouble().as_deref(), Some("gone"));
    a.observe(Observation::Well, "");
    assert_eq!(a.trouble(), None);
    a.drain();
    assert_eq!(reason(), Unavailable::Draining);
    fleet
        .backend("b")
        .unwrap()
        .observe_failure(Failure::Loading);
    assert_eq!(reason(), loading);
}

#[test]
fn requests_speak_about_health_too() {
    let fleet = fleet();
    ready(&fleet);
    let a = fleet.backend("a").unwrap();
    a.observe_failure(Failure::Connect);
    assert_eq!(a.state(), BackendState::Down);
    let b = fleet.backend("b").unwrap();
    b.observe(Observation::Failed, "");
    b.observe_success();
    b.observe(Observation::Failed, "");
    assert_eq!(
        b.state(),
        BackendState::Ready,
        "a success between clears it"
    );
}

/// Regression: two requests that broke off took a backend down, however many of its pool that left.
#[test]
fn requests_that_break_off_take_no_backend_down() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    for _ in 0..9 {
        pool.select(&[]).unwrap().observe_failure(Failure::Broken);
    }
    assert!(fleet.backends().iter().all(|b| b.available()));
    assert!(pool.select(&[]).is_ok());
}

/// Regression: refused connections of a moment taught that slots become free at once, and everybody waited for their cache
/// there.
#[tokio::test(start_paused = true)]
async fn requests_that_fail_teach_nothing_about_the_time_that_slots_are_taken() {
    let fleet = fleet();
    ready(&fleet);
    let a = fleet.backend("a").unwrap();
    let worth = || (a.pace()).worth_waiting(8_000, 0, 1, Duration::from_secs(60));
    let lease = || Lease::new(Arc::clone(&a), Place::Slot, None);
    let answered = lease();
    tokio::time::advance(Duration::from_secs(12)).await;
    drop(answered);
    assert_eq!(worth(), Duration::ZERO, "a slot in 12 s, read in 8 s");
    for failure in [Failure::Connect, Failure::Loading] {
        for _ in 0..30 {
            lease().observe_failure(failure);
        }
    }
    for _ in 0..30 {
        drop(lease().observe_error(false));
    }
    assert_eq!(worth(), Duration::ZERO);
}

#[test]
fn only_listed_paths_pass_and_nothing_that_could_mean_another() {
    let fleet = fleet();
    for path in ["/tokenize", "/x/1/y"] {
        assert!(fleet.passthrough(path).is_some(), "{path}");
    }
    for path in [
        "/slots",
        "/tokenize/",
        "/x/1/2/y",
        "/x/../y",
        "/x/%2e%2e/y",
        "//tokenize",
        "/x//y",
        "/x/./y",
        "tokenize",
        "",
        "/x/1;a/y",
    ] {
        assert!(fleet.passthrough(path).is_none(), "{path}");
    }
}

#[test]
fn peers_are_ready_to_connect_and_apart_by_backend() {
    let fleet = fleet_of(
        "{name: a, url: 'http://127.0.0.1:1/api', model: x}, \
         {name: b, url: 'http://127.0.0.1:1/api', model: y}, {name: c, url: 'http://gpu:1'}",
    );
    let [a, b, c] = <[_; 3]>::try_from(fleet.backends()).unwrap();
    let (peer_a, peer_b) = (a.peer().unwrap(), b.peer().unwrap());
    assert_eq!(peer_a._address, peer_b._address);
    assert_ne!(peer_a.group_key, peer_b.group_key);
    let options = &peer_a.options;
    assert_eq!(options.idle_timeout, Some(Duration::from_secs(4)));
    assert_eq!(options.connection_timeout, Some(Duration::from_secs(1)));
    assert_eq!(options.read_timeout, Some(Duration::from_secs(600)));
    assert_eq!((a.base_path(), a.host_header()), ("/api", "127.0.0.1:1"));
    assert_eq!(a.upstream_model(), Some("x"));

    assert!(c.peer().is_none(), "not resolved yet");
    c.observe(Observation::Well, "");
    assert!(!c.available());
    c.found(vec!["10.0.0.7:1".parse().unwrap()]);
    assert_eq!(c.peer().unwrap()._address.to_string(), "10.0.0.7:1");
    assert!(c.available());
    c.found(vec!["10.0.0.8:1".parse().unwrap()]);
    assert_eq!(c.peer().unwrap()._address.to_string(), "10.0.0.8:1");
}

#[cfg(feature = "tls")]
#[test]
fn https_backends_are_verified_by_their_name() {
    let fleet = fleet_of("{name: a, url: 'https://gpu.example/'}");
    let backend = &fleet.backends()[0];
    backend.found(vec!["10.0.0.7:443".parse().unwrap()]);
    let peer = backend.peer().unwrap();
    assert!(peer.is_tls());
    assert_eq!(peer.sni, "gpu.example");
    assert!(peer.options.verify_cert && peer.options.verify_hostname);
}

#[test]
fn many_threads_never_share_the_last_idle_backend() {
    let fleet = fleet();
    ready(&fleet);
    let pool = fleet.pool("p").unwrap();
    for _ in 0..200 {
        let leases = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| pool.select(&[]).unwrap()))
                .collect();
            tasks
                .into_iter()
                .map(|t| t.join().unwrap())
                .collect::<Vec<_>>()
        });
        let mut chosen = names(&leases);
        chosen.sort_unstable();
        assert_eq!(chosen, ["a", "b", "c"]);
    }
}
