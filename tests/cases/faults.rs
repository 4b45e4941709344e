//! Faults under load: of a thousand requests none is lost that had not received a byte, each is answered with what
//! its own conversation asked for, a conversation leaves its backend only where that could not take it, and the backend
//! that failed serves again soon after it works again.
//!
//! Settings are the defaults, but for those named here and in [`Setup`]: checks 0.2 s apart, no resuming. The times that
//! are asserted are three times and more what was measured on two busy cores.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::load::{Answers, Asked, Load, REQUESTS, all_answered, known, recovered};
use crate::support::moves::explained;
use crate::support::script::{role, text};
use crate::support::*;

fn settings(setup: Setup) -> Setup {
    setup
        .set("reload.watch", json!(false))
        // So that every request can be explained at the end.
        .set("fleet.selection.explain_last", json!(100_000))
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn setup(backends: &[&Answers]) -> Setup {
    let backends: Vec<&Backend> = backends.iter().map(|answers| &answers.backend).collect();
    settings(Setup::to(&backends))
}

async fn three() -> [Answers; 3] {
    [
        Answers::start().await,
        Answers::start().await,
        Answers::start().await,
    ]
}

/// A few hundredths of a second an answer: streams are under way at any moment.
const SIM: &[&str] = &["--decode-tps", "1000"];

/// Of real processes: streams that had begun may be cut, and nothing else; all that is told is right.
fn cut_at_most(fault: &str, most: usize, all: &[Asked]) {
    let cut = all.iter().filter(|asked| asked.assert_answered_or_cut());
    let cut = cut.count();
    println!("{fault}: {cut} of {} streams cut", all.len());
    assert!(cut <= most, "{cut}");
}

/// `kill -9` of a process; another one starts later in its place.
#[tokio::test]
async fn a_process_is_killed_and_started_again() {
    let (mut dies, lives) = (Sim::start(SIM).await, Sim::start(SIM).await);
    let urls = [dies.url.clone(), lives.url.clone()];
    let gateway = settings(Setup::urls(&urls)).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    let killed = Instant::now();
    dies.kill().await;
    gateway.backend_is("b0", "down").await;
    known("kill -9", killed.elapsed(), secs(2));
    let again = dies.again(SIM).await;
    let started = Instant::now();
    gateway.backend_serves("b0").await;
    recovered("kill -9", started.elapsed(), secs(2));
    load.reached(REQUESTS).await;
    let asked = load.end().await;
    // At most those that were being answered there.
    cut_at_most("kill -9", 4, &asked);
    explained("kill -9", &gateway, &asked).await;
    let served = again.connect().await.ask(&get("/sim/state")).await.json();
    assert!(served["requests"].as_u64() > Some(0), "{served}");
}

/// The same, and streams go on elsewhere: none is cut, and none says anything twice.
#[tokio::test]
async fn streams_outlive_processes_that_are_killed() {
    const SLOW: &[&str] = &["--decode-tps", "150"];
    let (mut dies, lives) = (Sim::start(SLOW).await, Sim::start(SLOW).await);
    let urls = [dies.url.clone(), lives.url.clone()];
    let gateway = settings(Setup::urls(&urls))
        .set("fleet.resume", json!(true))
        .start()
        .await;
    let load = Load::on(&gateway);
    for kill in 1..=4 {
        load.reached(kill * REQUESTS / 5).await;
        dies.kill().await;
        // Regression: started again after a fixed time, it was up before anybody had seen it down.
        gateway.backend_is("b0", "down").await;
        dies = dies.again(SLOW).await;
        let started = Instant::now();
        gateway.backend_serves("b0").await;
        recovered("kill -9 with resuming", started.elapsed(), secs(2));
    }
    let asked = load.end().await;
    all_answered(&asked);
    explained("kill -9 with resuming", &gateway, &asked).await;
    let resumed = gateway
        .metric("drover_attempts_total", r#"why="resume""#)
        .await;
    println!("kill -9 with resuming: {resumed} streams went on elsewhere");
    assert!(resumed > 0.0);
}

/// SIGSTOP: the kernel goes on accepting connections, and nobody answers.
#[tokio::test]
async fn a_process_is_stopped_and_goes_on_later() {
    let processes = [Sim::start(SIM).await, Sim::start(SIM).await];
    let urls = processes.each_ref().map(|sim| sim.url.clone());
    let gateway = settings(Setup::urls(&urls))
        .set("timeouts.first_event", json!("3s"))
        .set("timeouts.inter_token", json!("3s"))
        .set("fleet.health.timeout", json!("500ms"))
        .start()
        .await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    processes[0].signal("-STOP").await;
    let began = Instant::now();
    gateway.backend_is("b0", "down").await;
    known("SIGSTOP", began.elapsed(), secs(6));
    processes[0].signal("-CONT").await;
    let began = Instant::now();
    gateway.backend_serves("b0").await;
    recovered("SIGSTOP", began.elapsed(), secs(2));
    let asked = load.end().await;
    cut_at_most("SIGSTOP", 8, &asked);
    explained("SIGSTOP", &gateway, &asked).await;
}

/// Slots that are busy and get nowhere, while every check is good: only the watchdog can help.
#[tokio::test]
async fn the_slots_of_a_backend_get_stuck() {
    let sims = [Sim::start(SIM).await, Sim::start(SIM).await];
    let urls = sims.each_ref().map(|sim| sim.url.clone());
    let gateway = settings(Setup::urls(&urls))
        .set("fleet.watchdog.stuck_after", json!("2s"))
        .set("fleet.watchdog.close_for", json!("500ms"))
        .set("fleet.watchdog.drain_for", json!("500ms"))
        .start()
        .await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    sims[0].told("wedge").await;
    let began = Instant::now();
    gateway.backend_is("b0", "wedged").await;
    known("wedged slots", began.elapsed(), secs(20));
    load.reached(REQUESTS / 2).await;
    sims[0].told("resume").await;
    let began = Instant::now();
    gateway.backend_serves("b0").await;
    recovered("wedged slots", began.elapsed(), secs(9));
    // Those that stood there in the middle of a stream when it got stuck.
    let asked = load.end().await;
    cut_at_most("wedged slots", 8, &asked);
    explained("wedged slots", &gateway, &asked).await;
}

#[tokio::test]
async fn a_backend_falls_silent_though_its_checks_are_good() {
    let backends = three().await;
    let gateway = setup(&backends.each_ref())
        .set("timeouts.first_event", json!("3s"))
        .start()
        .await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    let began = Instant::now();
    backends[0].fails(|_| Reply::new().hang());
    eventually("it is ejected", || async {
        let listed = gateway.admin_get("/api/backends").await.json();
        (listed["backends"][0]["ejected"] == true).then_some(())
    })
    .await;
    known("silent", began.elapsed(), secs(12));
    backends[0].works();
    backends[0].recovers("silent", secs(10)).await;
    let asked = load.end().await;
    all_answered(&asked);
    explained("silent", &gateway, &asked).await;
}

#[tokio::test]
async fn a_backend_resets_connections_before_any_text() {
    let backends = three().await;
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    // Its client has received nothing of the answer yet.
    backends[0].fails(|_| Reply::stream().event(&role()).comment().reset());
    load.reached(REQUESTS / 2).await;
    backends[0].works();
    backends[0]
        .recovers("reset before any text", secs(10))
        .await;
    let asked = load.end().await;
    all_answered(&asked);
    explained("reset before any text", &gateway, &asked).await;
}

#[tokio::test]
async fn a_backend_resets_connections_in_mid_stream() {
    let backends = three().await;
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    backends[0].fails(|right| {
        let begun = Reply::stream().event(&role());
        begun.event(&text(&right[..12])).reset()
    });
    load.reached(REQUESTS / 2).await;
    backends[0].works();
    backends[0].recovers("reset in mid-stream", secs(10)).await;
    let asked = load.end().await;
    // A few in a row eject it.
    cut_at_most("reset in mid-stream", 20, &asked);
    explained("reset in mid-stream", &gateway, &asked).await;
}

#[tokio::test]
async fn a_backend_loads_its_model_again() {
    let backends = three().await;
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    backends[0].backend.set_health(Health::Loading);
    backends[0].fails(|_| Reply::loading());
    gateway.backend_is("b0", "loading").await;
    sleep(Duration::from_millis(300)).await;
    backends[0].backend.set_health(Health::Ok);
    backends[0].works();
    backends[0].recovers("503 loading", secs(3)).await;
    let asked = load.end().await;
    all_answered(&asked);
    explained("503 loading", &gateway, &asked).await;
}

/// One that was away has a tenth of its share of new conversations at first, and all of it in the end.
#[tokio::test]
async fn a_backend_starts_slowly() {
    const SLOW_START: Duration = secs(10);
    let backends = three().await;
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    backends[0].backend.set_health(Health::Loading);
    gateway.backend_is("b0", "loading").await;
    let counts = || backends.each_ref().map(|b| b.backend.requests().len());
    load.reached(REQUESTS / 4).await;
    let asked_before = counts()[0];
    sleep(Duration::from_millis(300)).await;
    assert_eq!(counts()[0], asked_before, "nothing while it is loading");
    // Of the requests of a while.
    let share = async |time: Duration| {
        let before = counts();
        sleep(time).await;
        let after = counts();
        let [own, b, c] = [0, 1, 2].map(|n| after[n] - before[n]);
        own as f64 / (own + b + c) as f64
    };
    // Requests are under way everywhere at any moment: loads can be compared, also on a busy machine.
    (backends.iter()).for_each(|b| b.takes(Duration::from_millis(100)));
    backends[0].backend.set_health(Health::Ok);
    let ready = Instant::now();
    backends[0].recovers("slow start", secs(3)).await;
    let first = share(SLOW_START / 4).await;
    sleep(SLOW_START.saturating_sub(ready.elapsed())).await;
    let settled = share(SLOW_START / 4).await;
    println!("slow start: {first:.2} of the requests at first, {settled:.2} at the end");
    assert!(first < 0.7 * settled, "{first} {settled}");
    let asked = load.end().await;
    all_answered(&asked);
    explained("slow start", &gateway, &asked).await;
}

#[tokio::test]
async fn the_configuration_changes_again_and_again() {
    let backends = three().await;
    let [a, b, c] = backends.each_ref();
    let gateway = setup(&[a, b]).start().await;
    let load = Load::on(&gateway);
    let sets: [&[&Answers]; 4] = [&[b, c], &[c], &[a, b, c], &[a]];
    for (n, set) in sets.into_iter().cycle().take(8).enumerate() {
        load.reached(n * REQUESTS / 10).await;
        gateway.write(&setup(set));
        let began = Instant::now();
        let told = gateway.admin_post("/api/reload").await.json();
        assert_eq!(told["result"], "applied", "{told}");
        known(&format!("reload {n}"), began.elapsed(), secs(5));
    }
    let asked = load.end().await;
    all_answered(&asked);
    explained("reloads", &gateway, &asked).await;
    gateway.idle().await;
}

/// One backend leaves the name and dies once it has nothing to do, another one joins it.
#[tokio::test]
async fn a_name_changes_its_addresses() {
    const NAME: &str = "gpus.test.";
    let all = Backend::on_one_port(3).await;
    let all: Vec<Answers> = all.into_iter().map(Answers::of).collect();
    let ip = |n: usize| all[n].backend.addr().ip();
    let server = Dns::start().await;
    server.addresses(NAME, 1, &[ip(0), ip(1)]);
    let source = json!({"dns": {
        "name": NAME, "port": all[0].backend.addr().port(), "server": server.server(), "refresh": "1h",
    }});
    let gateway = setup(&[])
        .set(
            "fleet.pools",
            json!([{"name": "p", "models": ["*"], "discovery": source}]),
        )
        .start()
        .await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    server.addresses(NAME, 1, &[ip(1), ip(2)]);
    let changed = Instant::now();
    let gone = all[0].backend.addr().to_string();
    eventually("the old backend has gone", || async {
        let listed = gateway.admin_get("/api/backends").await.text();
        (!listed.contains(&gone)).then_some(())
    })
    .await;
    known("dns", changed.elapsed(), secs(5));
    all[0].backend.kill().await;
    all[2].recovers("dns", secs(3)).await;
    let asked = load.end().await;
    all_answered(&asked);
    explained("dns", &gateway, &asked).await;
    let served: usize = all.iter().map(|a| a.backend.requests().len()).sum();
    assert_eq!(served, asked.len(), "each was sent once");
}
