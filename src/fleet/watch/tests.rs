mod failing;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::sleep;

use super::*;
use crate::config::{self, Config};
use crate::fleet::probe::{Reply, Unanswered};
use crate::fleet::resolve::{Lookup, refresh};
use crate::fleet::{Backend, Fleet};

const PROPS: &str = r#"{"total_slots":2,"build_info":"b1","is_sleeping":false}"#;
const SLOTS: &str = r#"[{"is_processing":true,"n_ctx":8},{"is_processing":false,"n_ctx":8}]"#;

/// Answers by path, and remembers when it was asked what.
#[derive(Default)]
struct Script {
    answers: Mutex<HashMap<&'static str, Answer>>,
    asked: Mutex<Vec<(Instant, String)>>,
}

#[derive(Clone)]
enum Answer {
    Reply(u16, &'static str),
    Refused,
    Silent,
}

impl Script {
    fn well() -> Arc<Self> {
        let script = Arc::new(Self::default());
        script.set("/health", Answer::Reply(200, "{}"));
        script.set("/props", Answer::Reply(200, PROPS));
        script.set("/slots", Answer::Reply(200, SLOTS));
        script
    }

    fn set(&self, path: &'static str, answer: Answer) {
        self.answers.lock().insert(path, answer);
    }

    /// Times at which `path` was asked for, since `start`.
    fn times(&self, path: &str, start: Instant) -> Vec<Duration> {
        let asked = self.asked.lock();
        let hits = asked.iter().filter(|(_, p)| p == path);
        hits.map(|(at, _)| *at - start).collect()
    }
}

#[async_trait]
impl Probe for Script {
    async fn get(&self, _: &Backend, path_and_query: &str) -> Result<Reply, Unanswered> {
        self.asked
            .lock()
            .push((Instant::now(), path_and_query.to_owned()));
        // What is said about one model, where that is another thing.
        let is_own = self.answers.lock().contains_key(path_and_query);
        let path = path_and_query.split('?').next().unwrap_or_default();
        self.answer(if is_own { path_and_query } else { path })
            .await
    }

    async fn post(
        &self,
        _: &Backend,
        path_and_query: &str,
        body: bytes::Bytes,
    ) -> Result<Reply, Unanswered> {
        let text = String::from_utf8_lossy(&body);
        self.asked
            .lock()
            .push((Instant::now(), format!("{path_and_query} {text}")));
        let path = path_and_query.split('?').next().unwrap_or_default();
        self.answer(path).await
    }
}

impl Script {
    async fn answer(&self, path: &str) -> Result<Reply, Unanswered> {
        let answer = self.answers.lock().get(path).cloned();
        match answer {
            Some(Answer::Reply(status, body)) => Ok(Reply {
                status,
                body: body.into(),
            }),
            Some(Answer::Silent) => std::future::pending().await,
            Some(Answer::Refused) | None => Err(Unanswered {
                why: "connection refused".to_owned(),
                is_refused: true,
            }),
        }
    }
}

struct Bench {
    fleet: Arc<Fleet>,
    backend: Arc<Backend>,
    script: Arc<Script>,
    start: Instant,
}

/// Starts watching the one backend described by `backend`.
fn bench(backend: &str, script: Arc<Script>) -> Bench {
    let config = config(backend);
    let fleet = Fleet::new(&config).unwrap();
    let backend = fleet.backends()[0].clone();
    tokio::spawn(watch(orders(&backend, &config), script.clone()));
    Bench {
        fleet,
        backend,
        script,
        start: Instant::now(),
    }
}

/// Orders that stay as they are.
fn orders(backend: &Arc<Backend>, config: &Config) -> Receiver<Orders> {
    let (sender, receiver) = tokio::sync::watch::channel(Orders {
        backend: backend.clone(),
        health: config.fleet.health.clone(),
        watchdog: config.fleet.watchdog.clone(),
        dns_refresh: config.fleet.dns_refresh,
        spec_probe: false,
    });
    std::mem::forget(sender);
    receiver
}

fn config(backend: &str) -> Config {
    let text = format!("fleet: {{pools: [{{name: p, models: [m], backends: [{backend}]}}]}}");
    config::parse(&text, std::iter::empty()).unwrap()
}

const PLAIN: &str = "{name: a, url: 'http://127.0.0.1:1'}";

async fn after(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn a_healthy_backend_is_ready_after_its_first_check_with_its_facts() {
    let bench = bench(PLAIN, Script::well());
    assert!(!bench.fleet.checked_once());
    after(1).await;
    assert!(bench.fleet.checked_once() && bench.fleet.any_ready());
    let facts = bench.backend.facts();
    assert_eq!(
        (facts.build.as_deref(), facts.idle_slots),
        (Some("b1"), Some(1))
    );
    assert_eq!((facts.n_ctx, bench.backend.slots()), (Some(8), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_failure_and_two_of_them_take_it_down() {
    let bench = bench(PLAIN, Script::well());
    after(1).await;
    bench.script.set("/health", Answer::Silent);
    // Asked at 2 s, given up at 4 s; asked at 6 s, given up at 8 s.
    after(7900).await;
    assert_eq!(bench.backend.state(), BackendState::Ready);
    after(200).await;
    assert_eq!(bench.backend.state(), BackendState::Down);
    assert!(bench.backend.trouble().unwrap().contains("within 2s"));
    bench.script.set("/health", Answer::Reply(200, "{}"));
    after(2000).await;
    assert_eq!(bench.backend.state(), BackendState::Ready);
}

#[tokio::test(start_paused = true)]
async fn loading_is_told_apart_from_down() {
    let script = Script::well();
    script.set("/health", Answer::Reply(503, "{}"));
    let bench = bench(PLAIN, script);
    after(1).await;
    assert_eq!(bench.backend.state(), BackendState::Loading);
    assert!(bench.fleet.checked_once() && !bench.fleet.any_ready());
    bench.script.set("/health", Answer::Reply(200, "{}"));
    bench.script.set("/props", Answer::Reply(503, "{}"));
    after(2000).await;
    assert_eq!(
        bench.backend.state(),
        BackendState::Loading,
        "between the two"
    );
    bench.script.set("/props", Answer::Reply(200, PROPS));
    after(2000).await;
    assert_eq!(bench.backend.state(), BackendState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_and_a_refused_key_are_down_with_their_reason() {
    let script = Script::well();
    script.set("/health", Answer::Refused);
    let bench = bench(PLAIN, script);
    after(1).await;
    assert_eq!(bench.backend.state(), BackendState::Down);
    assert!(bench.backend.trouble().unwrap().contains("refused"));
    bench.script.set("/health", Answer::Reply(200, "{}"));
    bench.script.set("/props", Answer::Reply(401, "{}"));
    after(2000).await;
    assert_eq!(bench.backend.state(), BackendState::Down);
    assert!(bench.backend.trouble().unwrap().contains("api_key_env"));
}

#[tokio::test(start_paused = true)]
async fn without_props_a_backend_still_serves_and_slots_are_not_read() {
    let script = Script::well();
    script.set("/props", Answer::Reply(404, "{}"));
    let bench = bench(PLAIN, script);
    after(10_000).await;
    assert_eq!(bench.backend.state(), BackendState::Ready);
    assert!(bench.script.times("/slots", bench.start).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_could_not_connect_counts_until_the_next_good_check() {
    let bench = bench(PLAIN, Script::well());
    after(1).await;
    bench
        .backend
        .observe_failure(crate::fleet::Failure::Connect);
    assert_eq!(bench.backend.state(), BackendState::Down);
    after(2000).await;
    assert_eq!(bench.backend.state(), BackendState::Ready);
}

#[tokio::test(start_paused = true)]
async fn slots_are_never_read_faster_than_the_floor_nor_from_a_sleeper() {
    let backend = PLAIN;
    let script = Script::well();
    let mut config = config(backend);
    config.fleet.health.interval = Duration::from_millis(100);
    config.fleet.health.slots_every = Duration::ZERO;
    let fleet = Fleet::new(&config).unwrap();
    let backend = fleet.backends()[0].clone();
    let start = Instant::now();
    tokio::spawn(watch(orders(&backend, &config), script.clone()));
    after(10_000).await;
    let times = script.times("/slots", start);
    assert_eq!(times.len(), 7, "{times:?}");
    assert!(
        times
            .windows(2)
            .all(|t| t[1] - t[0] >= Duration::from_millis(1500))
    );

    script.set(
        "/props",
        Answer::Reply(200, r#"{"total_slots":2,"is_sleeping":true}"#),
    );
    after(10_000).await;
    let after_sleep = script.times("/slots", start);
    assert_eq!(after_sleep.len(), times.len());
    assert!(backend.facts().is_sleeping);
    assert_eq!(backend.state(), BackendState::Ready, "a request wakes it");
}

#[tokio::test(start_paused = true)]
async fn a_preset_of_a_router_is_asked_by_name_and_not_loaded_for_it() {
    let bench = bench(
        "{name: a, url: 'http://127.0.0.1:1', model: 'q&a'}",
        Script::well(),
    );
    after(1).await;
    let asked = bench
        .script
        .times("/props?model=q%26a&autoload=false", bench.start);
    assert_eq!(asked.len(), 1);
    assert_eq!(bench.backend.state(), BackendState::Ready);
}

const ABOUT_Q: &str = "/props?model=q&autoload=false";
const NOT_LOADED: Answer = Answer::Reply(400, r#"{"error":{"message":"model is not loaded"}}"#);

fn listed(script: &Script, status: &'static str) {
    script.set("/v1/models", Answer::Reply(200, status));
}

/// A router whose model `q` is not in memory.
fn router(autoload: bool) -> Arc<Script> {
    let script = Script::well();
    script.set(
        "/props",
        Answer::Reply(
            200,
            match autoload {
                true => r#"{"role":"router","models_autoload":true,"build_info":"b1"}"#,
                false => r#"{"role":"router","models_autoload":false,"build_info":"b1"}"#,
            },
        ),
    );
    script.set(ABOUT_Q, NOT_LOADED);
    listed(
        &script,
        r#"{"data":[{"id":"q","status":{"value":"unloaded","args":["--parallel","3"]}}]}"#,
    );
    script
}

const OF_ROUTER: &str = "{name: a, url: 'http://127.0.0.1:1', model: q}";

#[tokio::test(start_paused = true)]
async fn a_model_that_is_not_loaded_takes_requests_little_by_little() {
    let bench = bench(OF_ROUTER, router(true));
    after(5000).await;
    assert_eq!(bench.backend.state(), BackendState::Ready);
    let facts = bench.backend.facts();
    assert_eq!(facts.preset, Some(Preset::Unloaded));
    assert_eq!(bench.backend.slots(), Some(3));
    let pace = || bench.backend.pace_of_share(Duration::ZERO, Instant::now());
    assert!(pace() < 0.2);
    let asked = bench.script.asked.lock().clone();
    let loads = |path: &str| path.contains("model=") && !path.contains("autoload=false");
    assert!(!asked.iter().any(|(_, path)| loads(path)), "{asked:?}");
    assert!(!asked.iter().any(|(_, path)| path.starts_with("/slots")));

    bench.script.set(ABOUT_Q, Answer::Reply(200, PROPS));
    after(2000).await;
    assert_eq!(bench.backend.facts().preset, Some(Preset::Loaded));
    assert!(pace() > 0.9);
    let loads = bench.backend.comeback().loads();
    bench.script.set(ABOUT_Q, NOT_LOADED);
    after(2000).await;
    assert_eq!(bench.backend.facts().preset, Some(Preset::Unloaded));
    assert_eq!(
        bench.backend.comeback().loads(),
        loads + 1,
        "caches are lost"
    );
}

/// Regression: it was wedged for good, since only a request has its router load it again.
#[tokio::test(start_paused = true)]
async fn a_wedged_model_that_its_router_has_unloaded_takes_requests_again() {
    let script = router(true);
    script.set(ABOUT_Q, Answer::Reply(200, PROPS));
    let bench = bench(OF_ROUTER, script);
    after(3000).await;
    bench
        .backend
        .observe(Observation::Wedged, "a slot is stuck");
    after(4000).await;
    assert_eq!(bench.backend.state(), BackendState::Wedged);
    bench.script.set(ABOUT_Q, NOT_LOADED);
    after(3000).await;
    assert_eq!(bench.backend.state(), BackendState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_failed_is_down_and_open_to_a_try_once_a_minute() {
    let script = router(true);
    listed(
        &script,
        r#"{"data":[{"id":"q","status":{"value":"unloaded","failed":true,"exit_code":9}}]}"#,
    );
    let bench = bench(OF_ROUTER, script);
    let mut open = Vec::new();
    for second in 0..130 {
        after(1000).await;
        if bench.backend.available() {
            open.push(second);
        }
    }
    assert_eq!(open.len(), 4, "two seconds a minute: {open:?}");
    let trouble = bench.backend.trouble().unwrap();
    assert_eq!(trouble, "its model failed to load (exit code 9)");
}

#[tokio::test(start_paused = true)]
async fn without_autoload_a_model_is_away_until_it_is_loaded() {
    let bench = bench(OF_ROUTER, router(false));
    after(1).await;
    assert_eq!(bench.backend.state(), BackendState::Down);
    bench.script.set(ABOUT_Q, Answer::Reply(503, "{}"));
    listed(
        &bench.script,
        r#"{"data":[{"id":"q","status":{"value":"loading"}}]}"#,
    );
    after(2000).await;
    assert_eq!(bench.backend.state(), BackendState::Loading);
    bench.script.set(ABOUT_Q, Answer::Reply(200, PROPS));
    after(2000).await;
    assert_eq!(bench.backend.state(), BackendState::Ready);
}

/// A name server whose answer can change.
#[derive(Default)]
struct Names(Mutex<Option<Vec<SocketAddr>>>);

#[async_trait]
impl Lookup for Names {
    async fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let answer = self.0.lock().clone();
        answer.ok_or_else(|| io::Error::other("no such name"))
    }
}

#[tokio::test(start_paused = true)]
async fn hostnames_are_refreshed_and_keep_their_address_when_the_resolver_fails() {
    let config = config("{url: 'http://gpu:1'}");
    let fleet = Fleet::new(&config).unwrap();
    let backend = fleet.backends()[0].clone();
    let names = Arc::new(Names::default());
    assert_eq!(config.fleet.dns_refresh, Duration::from_secs(30));
    tokio::spawn(refresh(orders(&backend, &config), names.clone()));
    let address = || backend.peer().map(|p| p._address.to_string());
    let set = |list: &[&str]| {
        *names.0.lock() = Some(list.iter().map(|a| a.parse().unwrap()).collect());
    };

    after(1).await;
    assert_eq!(address(), None);
    set(&["10.0.0.1:1"]);
    after(2000).await;
    assert_eq!(address().as_deref(), Some("10.0.0.1:1"), "retried soon");
    set(&["10.0.0.2:1"]);
    after(29_000).await;
    assert_eq!(address().as_deref(), Some("10.0.0.1:1"), "not due yet");
    after(1000).await;
    assert_eq!(address().as_deref(), Some("10.0.0.2:1"));
    *names.0.lock() = None;
    after(60_000).await;
    assert_eq!(address().as_deref(), Some("10.0.0.2:1"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_address_gives_way_to_the_next_one() {
    let script = Script::well();
    script.set("/health", Answer::Refused);
    let config = config("{url: 'http://gpu:1'}");
    let fleet = Fleet::new(&config).unwrap();
    let backend = fleet.backends()[0].clone();
    backend.found(vec![
        "[::1]:1".parse().unwrap(),
        "127.0.0.1:1".parse().unwrap(),
    ]);
    let address = || backend.peer().unwrap()._address.to_string();
    assert_eq!(address(), "127.0.0.1:1");
    tokio::spawn(watch(orders(&backend, &config), script));
    after(1).await;
    assert_eq!(address(), "[::1]:1");
}

#[tokio::test(start_paused = true)]
async fn new_orders_are_followed_at_once_and_by_the_same_clock() {
    let config = config(PLAIN);
    let fleet = Fleet::new(&config).unwrap();
    let backend = fleet.backends()[0].clone();
    let mut now = Orders {
        backend: backend.clone(),
        health: config.fleet.health.clone(),
        watchdog: config.fleet.watchdog.clone(),
        dns_refresh: config.fleet.dns_refresh,
        spec_probe: false,
    };
    let (orders, received) = tokio::sync::watch::channel(now.clone());
    let (script, start) = (Script::well(), Instant::now());
    tokio::spawn(watch(received, script.clone()));
    for _ in 0..20 {
        after(100).await;
        now.health.interval = Duration::from_secs(3600);
        orders.send_replace(now.clone());
    }
    after(1).await;
    assert_eq!(script.times("/health", start).len(), 21);
    let slots = script.times("/slots", start);
    assert_eq!(
        slots.len(),
        2,
        "orders are no reason to poll faster: {slots:?}"
    );
    drop(orders);
}
