//! Faults under load: of a thousand requests none is lost that had not received a byte, each is answered with what
//! its own conversation asked for, and the backend that failed serves again soon after it works again.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::load::{Answers, Asked, Load, REQUESTS, all_answered, recovered};
use crate::support::script::{role, text};
use crate::support::*;

fn settings(setup: Setup) -> Setup {
    setup
        .set("timeouts.first_event", json!("3s"))
        .set("fleet.health.eject_for", json!("300ms"))
        .set("fleet.selection.slow_start", json!("0s"))
        .set("reload.watch", json!(false))
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
    let (dies, lives) = (Sim::start(SIM).await, Sim::start(SIM).await);
    let urls = [dies.url.clone(), lives.url.clone()];
    let gateway = settings(Setup::urls(&urls)).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    let killed = Instant::now();
    let again = tokio::spawn(dies.killed_for(Duration::from_millis(500), SIM));
    gateway.backend_is("b0", "down").await;
    println!("kill -9: known after {:?}", killed.elapsed());
    let again = again.await.unwrap();
    let started = Instant::now();
    gateway.backend_is("b0", "ready").await;
    recovered("kill -9", started.elapsed());
    load.reached(REQUESTS).await;
    // At most those that were being answered there.
    cut_at_most("kill -9", 4, &load.end().await);
    let served = again.connect().await.ask(&get("/sim/state")).await.json();
    assert!(served["requests"].as_u64() > Some(0), "{served}");
}

/// SIGSTOP: the kernel goes on accepting connections, and nobody answers.
#[tokio::test]
async fn a_process_is_stopped_and_goes_on_later() {
    let processes = [Sim::start(SIM).await, Sim::start(SIM).await];
    let urls = processes.each_ref().map(|sim| sim.url.clone());
    let gateway = settings(Setup::urls(&urls))
        .set("timeouts.inter_token", json!("3s"))
        .set("fleet.health.timeout", json!("500ms"))
        .start()
        .await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    processes[0].signal("-STOP").await;
    let began = Instant::now();
    gateway.backend_is("b0", "down").await;
    println!("SIGSTOP: known after {:?}", began.elapsed());
    processes[0].signal("-CONT").await;
    let began = Instant::now();
    gateway.backend_is("b0", "ready").await;
    recovered("SIGSTOP", began.elapsed());
    cut_at_most("SIGSTOP", 8, &load.end().await);
}

/// Slots that are busy and get nowhere, while every check is good.
#[tokio::test]
async fn the_slots_of_a_backend_get_stuck() {
    let sims = [Sim::start(SIM).await, Sim::start(SIM).await];
    let urls = sims.each_ref().map(|sim| sim.url.clone());
    let gateway = settings(Setup::urls(&urls))
        // Only the watchdog can help.
        .set("timeouts.first_event", json!("5m"))
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
    println!("wedged slots: known after {:?}", began.elapsed());
    load.reached(REQUESTS / 2).await;
    sims[0].told("resume").await;
    let began = Instant::now();
    gateway.backend_is("b0", "ready").await;
    recovered("wedged slots", began.elapsed());
    // Those that stood there in the middle of a stream when it got stuck.
    cut_at_most("wedged slots", 8, &load.end().await);
}

#[tokio::test]
async fn a_backend_falls_silent_though_its_checks_are_good() {
    let backends = three().await;
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    backends[0].fails(|_| Reply::new().hang());
    eventually("it is ejected", || async {
        let listed = gateway.admin_get("/api/backends").await.json();
        (listed["backends"][0]["ejected"] == true).then_some(())
    })
    .await;
    backends[0].works();
    backends[0].recovers("silent").await;
    all_answered(&load.end().await);
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
    backends[0].recovers("reset before any text").await;
    all_answered(&load.end().await);
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
    backends[0].recovers("reset in mid-stream").await;
    // A few in a row eject it.
    cut_at_most("reset in mid-stream", REQUESTS / 4, &load.end().await);
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
    backends[0].recovers("503 loading").await;
    all_answered(&load.end().await);
}

#[tokio::test]
async fn a_backend_starts_slowly() {
    let backends = three().await;
    backends[0].backend.set_health(Health::Loading);
    let gateway = setup(&backends.each_ref()).start().await;
    let load = Load::on(&gateway);
    load.reached(REQUESTS / 4).await;
    assert!(
        backends[0].backend.requests().is_empty(),
        "nothing before it is ready"
    );
    backends[0].backend.set_health(Health::Ok);
    backends[0].recovers("slow start").await;
    all_answered(&load.end().await);
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
        println!("reload {n}: applied after {:?}", began.elapsed());
    }
    all_answered(&load.end().await);
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
    println!(
        "dns: the old backend is out of use after {:?}",
        changed.elapsed()
    );
    all[0].backend.kill().await;
    all[2].recovers("dns").await;
    let asked = load.end().await;
    all_answered(&asked);
    let served: usize = all.iter().map(|a| a.backend.requests().len()).sum();
    assert_eq!(served, asked.len(), "each was sent once");
}
