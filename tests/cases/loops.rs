//! Loop protection, seen by agents: loops end, healthy work never does.
//!
//! The table of `docs/loops.md` is a golden: `UPDATE_GOLDEN=1` writes it anew.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::agent::{self, HEALTHY_TURNS, Outcome, Protocol, Script, healthy, looping};
use crate::support::*;

async fn gateway(backend: &Backend) -> Gateway {
    backend.set_health(Health::Roomy);
    Setup::to(&[backend])
        .set("guard.preset", json!("standard"))
        .start()
        .await
}

/// Run agents side by side: each with its number and, if it is one, its subagent's id.
async fn side_by_side(
    gateway: &Arc<Gateway>,
    protocol: Protocol,
    agents: Vec<(usize, Script, Option<&'static str>)>,
) -> Vec<Outcome> {
    let mut running = JoinSet::new();
    for (place, (number, script, subagent)) in agents.into_iter().enumerate() {
        let gateway = Arc::clone(gateway);
        running.spawn(async move {
            let outcome = agent::run(&gateway, protocol, number, &script, subagent).await;
            (place, outcome)
        });
    }
    let mut outcomes = running.join_all().await;
    outcomes.sort_by_key(|(place, _)| *place);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

async fn run_all(protocol: Protocol, scripts: &[Script]) -> (Backend, Arc<Gateway>, Vec<Outcome>) {
    let backend = Backend::start().await;
    agent::play(&backend, scripts);
    let gateway = Arc::new(gateway(&backend).await);
    let agents = scripts.iter().enumerate();
    let agents = agents.map(|(number, script)| (number, *script, None));
    let outcomes = side_by_side(&gateway, protocol, agents.collect()).await;
    (backend, gateway, outcomes)
}

/// Nothing is done to agents that work.
#[tokio::test]
async fn healthy_agents_are_left_alone() {
    let mut dialects = JoinSet::new();
    for protocol in Protocol::ALL {
        dialects.spawn(healthy_agents_in(protocol));
    }
    dialects.join_all().await;
}

async fn healthy_agents_in(protocol: Protocol) {
    let scripts = healthy();
    assert!(scripts.iter().all(|script| script.turns == HEALTHY_TURNS));
    let (backend, gateway, outcomes) = run_all(protocol, &scripts).await;
    for (script, outcome) in scripts.iter().zip(&outcomes) {
        let untouched = Outcome {
            last: outcome.last.clone(),
            ..Outcome::default()
        };
        assert_eq!(*outcome, untouched, "{}", script.name);
    }
    let transitions = gateway.metric("drover_loop_transitions_total", "").await;
    let interventions = gateway.metric("drover_interventions_total", "").await;
    assert_eq!((transitions, interventions), (0.0, 0.0));
    // Every request took exactly one generation.
    let requests: usize = scripts
        .iter()
        .map(|s| (s.turns + 1) * (1 + usize::from(s.retries)))
        .sum();
    assert_eq!(backend.requests().len(), requests);
}

/// Subagents of one session work side by side, one of them in a circle: only that one is ended.
#[tokio::test]
async fn subagents_are_judged_one_by_one() {
    for protocol in Protocol::ALL {
        let scripts = [healthy()[0], looping()[0]];
        let backend = Backend::start().await;
        agent::play(&backend, &scripts);
        let gateway = Arc::new(gateway(&backend).await);
        let work = Script {
            turns: 125,
            ..scripts[0]
        };
        let agents = [
            (0, work, Some("a1")),
            (0, work, Some("a2")),
            (0, work, Some("a3")),
            (0, work, Some("a4")),
            (1, scripts[1], Some("a5")),
        ];
        let outcomes = side_by_side(&gateway, protocol, agents.to_vec()).await;
        let working = &outcomes[..4];
        assert!(
            working.iter().all(|outcome| outcome.interventions == 0),
            "{working:?}"
        );
        assert!(outcomes[4].ended.is_some());
    }
}

fn row(script: &Script, outcome: &Outcome) -> String {
    let turn_of = |rung: &str| {
        let found = outcome.rungs.iter().find(|(_, name)| name == rung);
        found.map_or("–".to_owned(), |(turn, _)| turn.to_string())
    };
    let ended = outcome
        .ended
        .map_or("never".to_owned(), |turn| turn.to_string());
    let earlier = script
        .earlier
        .map_or("–".to_owned(), |turn| turn.to_string());
    format!(
        "| {} | {} | {} | {} | {} | {ended} | {earlier} |",
        script.name,
        turn_of("hint"),
        turn_of("narrow"),
        turn_of("finalize"),
        turn_of("stop"),
    )
}

fn table(scripts: &[Script], outcomes: &[Outcome]) -> String {
    let mut table = String::from(
        "| agent | hint | narrow | finalize | stop | ended | earlier system |\n|---|---|---|---|---|---|---|\n",
    );
    for (script, outcome) in scripts.iter().zip(outcomes) {
        let _ = writeln!(table, "{}", row(script, outcome));
    }
    let _ = writeln!(
        table,
        "| {} healthy agents, {HEALTHY_TURNS} turns each | – | – | – | – | never | 24 |",
        healthy().len()
    );
    table
}

const BEGIN: &str = "<!-- table: tests/cases/loops.rs -->\n";
const END: &str = "<!-- end of table -->\n";

fn check_golden(table: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/loops.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let start = page.find(BEGIN).expect("the table's beginning") + BEGIN.len();
    let end = page.find(END).expect("the table's end");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let page = format!("{}{table}{}", &page[..start], &page[end..]);
        return std::fs::write(&file, page).unwrap();
    }
    assert_eq!(
        &page[start..end],
        table,
        "docs/loops.md; UPDATE_GOLDEN=1 writes it anew"
    );
}

/// Every loop ends, none later than with the earlier system, the same in every dialect; and one
/// human message opens everything again.
#[tokio::test]
async fn loops_end_and_a_human_goes_on() {
    let scripts = looping();
    let mut tables = Vec::new();
    for protocol in Protocol::ALL {
        let (backend, gateway, outcomes) = run_all(protocol, &scripts).await;
        for (script, outcome) in scripts.iter().zip(&outcomes) {
            let Some(ended) = outcome.ended else {
                panic!("{} never ended: {outcome:?}", script.name);
            };
            assert!(
                script.earlier.is_none_or(|earlier| ended <= earlier),
                "{}: {ended}",
                script.name
            );
            assert!(!outcome.last.is_empty(), "{}", script.name);
        }
        let before = backend.requests().len();
        for number in 0..scripts.len() {
            let item = |text: &str| protocol.item(&agent::Item::User(text.into())).to_string();
            let items = [
                item(&format!("do task {number}")),
                item("Try something else."),
            ];
            let request = protocol
                .request(&format!("agent {}/0", scripts.len()), "", &items, &[], true)
                .header("x-session-id", &format!("agent {number}"));
            let response = gateway.ask(&request).await;
            assert_eq!(protocol.read(&response, true).text, "Fine.");
            assert_eq!(response.headers.get("x-drover-interventions"), None);
        }
        assert_eq!(backend.requests().len(), before + scripts.len());
        gateway.logs(&["session hard cap reached (6/6)"]).await;
        tables.push(table(&scripts, &outcomes));
    }
    println!("{}", tables[0]);
    assert!(
        tables.iter().all(|table| *table == tables[0]),
        "{tables:#?}"
    );
    check_golden(&tables[0]);
}
