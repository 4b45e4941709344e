//! llama-server in router mode: several models behind one address, loaded when they are asked for.

use std::time::Duration;

use drover::sim::{self, ModelPreset, Router, SimConfig, SimHandle, Speculation, Stand};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::turns::plain;
use crate::support::*;

/// Several checks, and a look at `/slots` where there is one.
const WHILE: Duration = Duration::from_millis(2200);

fn preset(name: &str, types: &str) -> ModelPreset {
    ModelPreset {
        name: name.to_owned(),
        aliases: vec![format!("{name}-stable")],
        speculation: types.parse::<Speculation>().unwrap(),
        broken: name == "broken",
    }
}

/// A router with the models `plain`, `fast` and `broken`.
fn config() -> SimConfig {
    SimConfig {
        presets: vec![
            preset("plain", "none"),
            preset("fast", "ngram-mod"),
            preset("broken", "none"),
        ],
        total_slots: 2,
        load_time: Duration::from_millis(50),
        ..SimConfig::default()
    }
}

async fn start(config: SimConfig) -> SimHandle {
    sim::bind(config, "127.0.0.1:0").await.unwrap()
}

fn models(sim: &SimHandle) -> &Router {
    sim.router().unwrap()
}

/// A pool of these models of the router, in which `b-NAME` is the backend for NAME.
fn pool_of(name: &str, asked_for: &[&str], sim: &SimHandle, models: &[&str]) -> Value {
    let backends = models
        .iter()
        .map(|model| json!({"name": format!("b-{model}"), "url": sim.url(), "model": model}));
    json!({"name": name, "models": asked_for, "backends": Value::from_iter(backends)})
}

fn to(sim: &SimHandle, models: &[&str]) -> Setup {
    Setup::pools(json!([pool_of("p", &["*"], sim, models)]))
}

async fn shown(gateway: &Gateway, backend: &str) -> Value {
    let listed = gateway.admin_get("/api/backends").await.json();
    let listed = listed["backends"].as_array().unwrap();
    let found = listed.iter().find(|b| b["id"] == backend);
    found.unwrap().clone()
}

async fn becomes(gateway: &Gateway, backend: &str, preset: &str) {
    eventually(&format!("{backend} is {preset}"), || async {
        (shown(gateway, backend).await["preset"] == preset).then_some(())
    })
    .await;
}

#[tokio::test]
async fn checks_load_no_model_and_requests_load_their_own() {
    let sim = start(config()).await;
    let pools = json!([
        pool_of("a", &["coder"], &sim, &["plain"]),
        pool_of("b", &["coder-fast"], &sim, &["fast"]),
    ]);
    let gateway = Setup::pools(pools).start().await;
    sleep(WHILE).await;
    assert_eq!(
        (models(&sim).loads("plain"), models(&sim).loads("fast")),
        (0, 0)
    );
    let backend = shown(&gateway, "b-plain").await;
    assert_eq!(backend["preset"], "unloaded");
    assert_eq!(
        (&backend["state"], &backend["available"]),
        (&json!("ready"), &json!(true))
    );
    // What the router tells of it bounds the requests before it can speak for itself.
    assert_eq!(backend["total_slots"], 2);
    assert_eq!(backend["build"], "b11434-sim");

    let asked = post(
        "/v1/chat/completions",
        json!({
            "model": "coder", "stream": true, "messages": [{"role": "user", "content": "hi"}],
        })
        .to_string(),
    );
    let response = gateway.ask(&asked).await;
    response.assert_complete_stream();
    assert_eq!(response.headers.get("x-drover-backend"), Some("b-plain"));
    becomes(&gateway, "b-plain", "loaded").await;
    assert_eq!(
        (models(&sim).loads("plain"), models(&sim).loads("fast")),
        (1, 0)
    );
    assert_eq!(shown(&gateway, "b-fast").await["preset"], "unloaded");

    // Clients see the names of pools, and nothing of how the router starts its models.
    let listed = gateway.ask(&get("/v1/models")).await.json();
    let ids: Vec<&str> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["coder", "coder-fast"]);
    assert!(!listed.to_string().contains("--parallel"));
}

/// `/slots` and any POST would wake it.
#[tokio::test]
async fn a_model_that_sleeps_is_left_asleep_until_a_request_comes() {
    let sim = start(config()).await;
    let gateway = to(&sim, &["plain"]).start().await;
    gateway.ask(&stream()).await.assert_complete_stream();
    becomes(&gateway, "b-plain", "loaded").await;
    sleep(WHILE).await;
    models(&sim).sleeps("plain");
    becomes(&gateway, "b-plain", "sleeping").await;
    sleep(WHILE).await;
    let backend = shown(&gateway, "b-plain").await;
    assert_eq!(
        (&backend["preset"], &backend["available"]),
        (&json!("sleeping"), &json!(true))
    );
    gateway.ask(&stream()).await.assert_complete_stream();
    becomes(&gateway, "b-plain", "loaded").await;
}

/// One model file under two profiles on one GPU: `x-drover-spec` chooses between them.
#[tokio::test]
async fn profiles_of_one_model_are_chosen_by_request() {
    let sim = start(config()).await;
    let mut pool = pool_of("p", &["*"], &sim, &["plain", "fast"]);
    pool["backends"][0]["profile"] = json!("none");
    pool["backends"][1]["profile"] = json!("ngram-mod");
    let gateway = Setup::pools(json!([pool])).start().await;
    for (wanted, backend) in [
        ("off", "b-plain"),
        ("ngram-mod", "b-fast"),
        ("off", "b-plain"),
    ] {
        let response = gateway.ask(&stream().header("x-drover-spec", wanted)).await;
        response.assert_complete_stream();
        assert_eq!(
            response.headers.get("x-drover-backend"),
            Some(backend),
            "{wanted}"
        );
    }
    becomes(&gateway, "b-fast", "loaded").await;
    eventually("each speaks for itself", || async {
        let (plain, fast) = (
            shown(&gateway, "b-plain").await,
            shown(&gateway, "b-fast").await,
        );
        (plain["speculative"] == false && fast["speculative"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_down_and_seldom_tried() {
    let sim = start(config()).await;
    let gateway = to(&sim, &["broken", "plain"]).start().await;
    let mut tried = 0;
    for _ in 0..40 {
        gateway.ask(&stream()).await.assert_complete_stream();
        tried = models(&sim).loads("broken");
    }
    // A cold one has a tenth of the share: it is tried once the other is busy, or when it is its turn.
    if tried == 0 {
        let load = models(&sim).loads("plain");
        assert_eq!(load, 1);
        let asked = json!({"model": "broken", "messages": [{"role": "user", "content": "hi"}]});
        let mut direct = Client::connect(sim.address()).await;
        let failed = direct
            .ask(&post("/v1/chat/completions", asked.to_string()))
            .await;
        assert_eq!(failed.status, 500);
    }
    becomes(&gateway, "b-broken", "failed").await;
    gateway.backend_is("b-broken", "down").await;
    let backend = shown(&gateway, "b-broken").await;
    assert_eq!(backend["trouble"], "its model failed to load (exit code 1)");
    let tried = models(&sim).loads("broken");
    for _ in 0..20 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    sleep(WHILE).await;
    assert_eq!(
        models(&sim).loads("broken"),
        tried,
        "nobody tries it meanwhile"
    );
    assert_eq!(models(&sim).stand("broken"), Some(Stand::Failed));
}

#[rstest]
#[case("/v1/chat/completions", "server_error")]
#[case("/v1/messages", "api_error")]
#[case("/v1/responses", "server_error")]
#[tokio::test]
async fn what_cannot_be_loaded_is_told_in_the_clients_dialect(
    #[case] path: &str,
    #[case] kind: &str,
) {
    let sim = start(config()).await;
    let gateway = to(&sim, &["broken"]).start().await;
    let response = gateway.ask(&plain(path, false, "hi")).await;
    assert_eq!(response.status, 502);
    let told = response.text();
    assert!(
        told.contains("failed to load") && told.contains(kind),
        "{told}"
    );
}

/// Without `model` the client's own name is sent; the router may not know it.
#[rstest]
#[case("/v1/chat/completions")]
#[case("/v1/messages")]
#[case("/v1/responses")]
#[tokio::test]
async fn a_name_the_router_does_not_know_is_an_unknown_model(#[case] path: &str) {
    let sim = start(config()).await;
    let gateway = Setup::urls(&[sim.url()]).start().await;
    let response = gateway.ask(&plain(path, false, "hi")).await;
    assert_eq!(response.status, 404);
    let kind = match path {
        "/v1/messages" => "not_found_error",
        _ => "model_not_found",
    };
    assert!(response.text().contains(kind), "{}", response.text());
    assert_eq!(shown(&gateway, "b0").await["ejected"], false);
}

#[tokio::test]
async fn a_model_that_the_router_does_not_have_gets_no_requests() {
    let sim = start(config()).await;
    let gateway = to(&sim, &["nope", "plain-stable"]).start().await;
    let backend = shown(&gateway, "b-nope").await;
    assert_eq!(backend["state"], "down");
    assert_eq!(
        backend["trouble"],
        "its router knows no model of the name in `model`"
    );
    for _ in 0..8 {
        let response = gateway.ask(&stream()).await;
        response.assert_complete_stream();
        // An alias will do.
        assert_eq!(
            response.headers.get("x-drover-backend"),
            Some("b-plain-stable")
        );
    }
}

#[tokio::test]
async fn a_router_that_loads_nothing_by_itself_is_used_for_what_it_has() {
    let sim = start(SimConfig {
        models_autoload: false,
        ..config()
    })
    .await;
    let gateway = to(&sim, &["plain"]).start_unready().await;
    gateway.backend_is("b-plain", "down").await;
    let backend = shown(&gateway, "b-plain").await;
    assert_eq!(
        backend["trouble"],
        "its model is not loaded, and its router loads none by itself"
    );
    gateway.ask(&stream()).await.assert_error(503);
    let load = post("/models/load", json!({"model": "plain"}).to_string());
    let mut operator = Client::connect(sim.address()).await;
    assert_eq!(operator.ask(&load).await.status, 200);
    gateway.backend_is("b-plain", "ready").await;
    gateway.ask(&stream()).await.assert_complete_stream();
}

/// Unloaded under a request, and before one: another backend, or the next load, serves it.
#[tokio::test]
async fn a_model_that_is_pushed_out_is_loaded_again_and_its_cache_is_not_counted_on() {
    let sim = start(SimConfig {
        models_max: 1,
        ..config()
    })
    .await;
    let pools = json!([
        pool_of("a", &["one"], &sim, &["plain"]),
        pool_of("b", &["two"], &sim, &["fast"]),
    ]);
    let gateway = Setup::pools(pools).start().await;
    let ask = async |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hello ".repeat(200)}]});
        let asked = post("/v1/chat/completions", body.to_string()).header("x-session-id", model);
        let response = gateway.ask(&asked).await;
        assert_eq!(response.status, 200, "{}", response.text());
        response
    };
    ask("one").await;
    becomes(&gateway, "b-plain", "loaded").await;
    ask("two").await;
    becomes(&gateway, "b-plain", "unloaded").await;
    let response = ask("one").await;
    assert_eq!(
        (models(&sim).loads("plain"), models(&sim).loads("fast")),
        (2, 1)
    );
    let id = response.headers.get("x-request-id").unwrap();
    let explained = gateway
        .admin_get(&format!("/api/explain/{id}"))
        .await
        .json();
    assert_eq!(
        explained["decisions"][0]["predicted_cached_tokens"], 0,
        "{explained}"
    );
}

/// The router ends the process of a model in the middle of an answer.
#[tokio::test]
async fn an_answer_whose_model_goes_is_begun_again_elsewhere() {
    let slow = SimConfig {
        decode_tps: 20.0,
        ..config()
    };
    let (one, two) = (start(slow.clone()).await, start(slow).await);
    let backends = [("a", &one), ("b", &two)]
        .map(|(name, sim)| json!({"name": name, "url": sim.url(), "model": "plain"}));
    let pool = json!({"name": "p", "models": ["*"], "backends": backends});
    let gateway = Setup::pools(json!([pool])).start().await;
    let addr = gateway.addr;
    let asking = tokio::spawn(async move {
        // Whole: until its end another one can begin anew.
        Client::connect(addr)
            .await
            .ask(&chat(json!({"max_tokens": 40})))
            .await
    });
    let busy = |sim: &SimHandle| models(sim).requests("plain") > 0;
    eventually("it is being answered", || async {
        (busy(&one) || busy(&two)).then_some(())
    })
    .await;
    sleep(Duration::from_millis(300)).await;
    let used = if busy(&one) { &one } else { &two };
    assert!(models(used).unload("plain"));
    let response = asking.await.unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.headers.get("x-drover-attempts"), Some("2"));
}

/// The models of a router are found by themselves, with the profile each is started with.
#[tokio::test]
async fn the_models_of_a_router_are_found() {
    let sim = start(config()).await;
    let source =
        json!({"router": {"url": sim.url(), "models": ["plain", "fast"], "every": "200ms"}});
    let pool = json!({"name": "p", "models": ["*"], "discovery": source});
    let gateway = Setup::pools(json!([pool])).start().await;
    let name = |model: &str| format!("{model}@{}", sim.address());
    let listed = gateway.admin_get("/api/backends").await.json();
    let ids: Vec<&str> = listed["backends"]
        .as_array()
        .unwrap()
        .iter()
        .map(|backend| backend["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [name("plain"), name("fast")]);
    for (wanted, model) in [("off", "plain"), ("ngram-mod", "fast")] {
        let response = gateway.ask(&stream().header("x-drover-spec", wanted)).await;
        response.assert_complete_stream();
        let backend = response.headers.get("x-drover-backend");
        assert_eq!(backend, Some(&*name(model)));
    }
}
