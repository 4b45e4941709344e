//! Who takes a request: cache first, then the prompt's beginning, within a bound; and every choice told.

use std::collections::BTreeMap;
use std::time::Duration;

use drover::sim::{self, SimConfig, SimHandle};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::*;

/// About 2000 tokens that every agent of a kind has in common.
fn system(kind: &str) -> String {
    let rules = format!("As a {kind} agent you read files before you change them. ");
    format!("{}\nNow: 2026-11-23T18:17:38Z", rules.repeat(140))
}

/// An agent's conversation, which grows by a call and a result each turn.
struct Agent {
    name: String,
    kind: &'static str,
    messages: Vec<Value>,
}

/// What a turn was told and how long it took.
struct Told {
    prompt: u64,
    cached: u64,
    took: Duration,
    backend: Option<String>,
}

impl Agent {
    fn new(name: String, kind: &'static str) -> Self {
        let messages = vec![
            json!({"role": "system", "content": system(kind)}),
            json!({"role": "user", "content": format!("task {name}: {}", "look at it. ".repeat(60))}),
        ];
        Self {
            name,
            kind,
            messages,
        }
    }

    fn request(&self) -> Request {
        let body = json!({
            "model": "m", "max_tokens": 8, "messages": self.messages,
            "tools": [{"type": "function", "function": {
                "name": format!("read_{}", self.kind), "parameters": {"type": "object"}}}],
        });
        post("/v1/chat/completions", body.to_string()).header("x-session-id", &self.name)
    }

    async fn turn(&mut self, mut to: Client) -> Told {
        let began = Instant::now();
        let response = to.ask(&self.request()).await;
        let took = began.elapsed();
        assert_eq!(response.status, 200, "{}", response.text());
        let answer = response.json();
        let said = answer["choices"][0]["message"]["content"].as_str();
        self.messages
            .push(json!({"role": "assistant", "content": said.unwrap_or_default()}));
        let result = format!("result: {}", "a line of the file\n".repeat(160));
        self.messages
            .push(json!({"role": "user", "content": result}));
        let usage = &answer["usage"];
        Told {
            prompt: usage["prompt_tokens"].as_u64().unwrap(),
            cached: usage["prompt_tokens_details"]["cached_tokens"]
                .as_u64()
                .unwrap(),
            took,
            backend: response.headers.get("x-drover-backend").map(str::to_owned),
        }
    }
}

async fn sims(count: usize, slots: usize) -> Vec<SimHandle> {
    let mut sims = Vec::new();
    for n in 0..count {
        let config = SimConfig {
            name: format!("gpu{n}"),
            total_slots: slots,
            prefill_tps: 20_000.0,
            // As by default: what loses its slot is kept in host memory.
            cache_ram_tokens: 100_000,
            ..SimConfig::default()
        };
        sims.push(sim::bind(config, "127.0.0.1:0").await.unwrap());
    }
    sims
}

fn urls(sims: &[SimHandle]) -> Vec<String> {
    sims.iter().map(SimHandle::url).collect()
}

fn agents(count: usize) -> Vec<Agent> {
    let kinds = ["coding", "review"];
    let named = |n: usize| Agent::new(format!("agent-{n}"), kinds[n % 2]);
    (0..count).map(named).collect()
}

/// Share of the prompts that was found in caches, and the mean time of a turn.
fn sum(told: &[Told]) -> (f64, Duration) {
    let prompt: u64 = told.iter().map(|t| t.prompt).sum();
    let cached: u64 = told.iter().map(|t| t.cached).sum();
    let took: Duration = told.iter().map(|t| t.took).sum();
    (cached as f64 / prompt as f64, took / told.len() as u32)
}

/// Eleven agents on eight servers (no number that lets an agent meet its server by turns): nearly every turn finds its prompt, where taking turns finds little.
#[tokio::test]
async fn conversations_keep_their_caches_where_round_robin_loses_them() {
    const TURNS: usize = 6;
    let by_gateway = sims(8, 2).await;
    let gateway = Setup::urls(&urls(&by_gateway)).start().await;
    let mut told = Vec::new();
    let mut running = agents(11);
    for _ in 0..TURNS {
        for agent in &mut running {
            told.push(agent.turn(gateway.connect().await).await);
        }
    }
    let by_turns = sims(8, 2).await;
    let (mut rounds, mut others) = (Vec::new(), agents(11));
    for _ in 0..TURNS {
        for agent in &mut others {
            let sim = &by_turns[rounds.len() % by_turns.len()];
            let client = Client::connect(sim.address()).await;
            rounds.push(agent.turn(client).await);
        }
    }
    let ((ratio, ttft), (base, slow)) = (sum(&told), sum(&rounds));
    println!("cached: {ratio:.3} against {base:.3}; mean turn: {ttft:?} against {slow:?}");
    // All but the first turn and what the last answer added.
    assert!(ratio > 0.6, "{ratio}");
    assert!(ratio > base + 0.1, "{ratio} against {base}");
    assert!(ttft < slow, "{ttft:?} against {slow:?}");

    // What was found is what had been predicted.
    gateway.idle().await;
    let predicted = async |result: &str| {
        let label = format!("result=\"{result}\"");
        gateway
            .metric("drover_cache_prediction_tokens_total", &label)
            .await
    };
    let (hit, missing) = (predicted("hit").await, predicted("missing").await);
    let surplus = predicted("surplus").await;
    println!("predicted and found {hit}, not found {missing}, found unexpectedly {surplus}");
    assert!(missing + surplus < 0.1 * hit, "{hit} {missing} {surplus}");
}

/// Agents that all begin alike must not all end up on the one server their prompt hashes to.
#[tokio::test]
async fn one_prompt_for_all_does_not_fill_one_server() {
    let sims = sims(8, 2).await;
    let gateway = Setup::urls(&urls(&sims)).start().await;
    let mut held: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..16 {
        let mut agent = Agent::new(format!("agent-{n}"), "coding");
        let backend = agent.turn(gateway.connect().await).await.backend.unwrap();
        *held.entry(backend).or_default() += 1;
    }
    assert!(held.values().all(|count| *count == 2), "{held:?}");
    gateway.idle().await;
    let home = gateway
        .metric("drover_selections_total", r#"reason="affinity""#)
        .await;
    assert_eq!(home, 2.0, "one at first, one when all others had one");
}

#[tokio::test]
async fn a_side_call_goes_past_the_main_conversation() {
    let backends = [Backend::start().await, Backend::start().await];
    let gateway = Setup::to(&[&backends[0], &backends[1]]).start().await;
    let mut main = Agent::new("s".into(), "coding");
    let home = main.turn_anywhere(&gateway).await;
    for n in 0..4 {
        let body = json!({"model": "m", "messages": [
            {"role": "system", "content": system("coding")},
            {"role": "user", "content": format!("a title for task {n}")}]});
        let title = post("/v1/chat/completions", body.to_string()).header("x-session-id", "s");
        let response = gateway.ask(&title).await;
        assert_ne!(response.headers.get("x-drover-backend"), Some(&*home));
    }
    assert_eq!(main.turn_anywhere(&gateway).await, home);
}

impl Agent {
    /// On backends that count no cached tokens.
    async fn turn_anywhere(&mut self, gateway: &Gateway) -> String {
        let response = gateway.ask(&self.request()).await;
        assert_eq!(response.status, 200, "{}", response.text());
        gateway.idle().await;
        response.headers.get("x-drover-backend").unwrap().to_owned()
    }
}

#[tokio::test]
async fn every_choice_is_explained() {
    let sims = sims(3, 2).await;
    let gateway = Setup::urls(&urls(&sims)).start().await;
    let mut agent = Agent::new("s".into(), "coding");
    let mut explained = Vec::new();
    for _ in 0..2 {
        let response = gateway.ask(&agent.request()).await;
        let id = response.headers.get("x-request-id").unwrap();
        gateway.idle().await;
        let told = gateway.admin_get(&format!("/api/explain/{id}")).await;
        assert_eq!(told.status, 200);
        explained.push(told.json());
        let said = response.json()["choices"][0]["message"]["content"].clone();
        agent
            .messages
            .push(json!({"role": "assistant", "content": said}));
        agent
            .messages
            .push(json!({"role": "user", "content": "go on"}));
    }
    let (first, second) = (&explained[0], &explained[1]);
    assert_eq!(first["decisions"][0]["reason"], "affinity", "{first}");
    assert_eq!(first["decisions"][0]["predicted_cached_tokens"], 0);
    assert_eq!(first["cached_tokens"], 0);
    let decision = &second["decisions"][0];
    assert_eq!(decision["reason"], "sticky", "{second}");
    assert_eq!(decision["chosen"], first["decisions"][0]["chosen"]);
    assert_eq!(decision["candidates"].as_array().map(Vec::len), Some(3));
    let standing = |s: &str| {
        let all = decision["candidates"].as_array().unwrap();
        all.iter().filter(|c| c["standing"] == s).count()
    };
    assert_eq!((standing("chosen"), standing("usable")), (1, 2));
    let predicted = decision["predicted_cached_tokens"].as_f64().unwrap();
    let found = second["cached_tokens"].as_f64().unwrap();
    assert!(
        found > 1000.0 && (predicted / found - 1.0).abs() < 0.05,
        "{second}"
    );
    assert_eq!(second["session"], first["session"]);
    assert!(!second.to_string().contains("coding agent"), "no text");
    assert_eq!(gateway.admin_get("/api/explain/unknown1").await.status, 404);
}
