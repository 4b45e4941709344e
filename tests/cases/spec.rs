//! Speculative decoding by request: who serves it, what it is told, and what runs.

use drover::sim::{self, SimConfig};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::script::{text, tool_call};
use crate::support::*;

const N_MAX: &str = "speculative.n_max";

/// A gateway before a backend that speculates (`b0`) and one that does not (`b1`).
struct House {
    fast: Backend,
    plain: Backend,
}

impl House {
    async fn new() -> Self {
        let house = Self {
            fast: Backend::start().await,
            plain: Backend::start().await,
        };
        house.fast.set_health(Health::Speculates);
        house
    }

    fn setup(&self) -> Setup {
        with_profile(Setup::to(&[&self.fast, &self.plain]))
    }
}

/// The first backend was started with `ngram-mod`.
fn with_profile(mut setup: Setup) -> Setup {
    setup.config["fleet"]["pools"][0]["backends"][0]["profile"] = json!("ngram-mod");
    setup
}

/// Starts, and waits until the gateway has seen what runs where.
async fn start(setup: Setup, backends: usize) -> Gateway {
    let gateway = setup.start().await;
    eventually("what the slots say", || async {
        let all = gateway.admin_get("/api/backends").await.json();
        let all = all["backends"].as_array().unwrap().clone();
        let known = all.iter().filter(|b| !b["speculative"].is_null()).count();
        (known == backends).then_some(())
    })
    .await;
    gateway
}

fn asks(path: &str, stream: bool, tools: bool) -> Request {
    let schema =
        json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    let tool = match path {
        "/v1/messages" => json!({"name": "ls", "input_schema": schema}),
        "/v1/responses" => json!({"type": "function", "name": "ls", "parameters": schema}),
        _ => json!({"type": "function", "function": {"name": "ls", "parameters": schema}}),
    };
    let mut body = json!({"model": "m", "max_tokens": 99, "stream": stream});
    let prompt = if path == "/v1/responses" {
        "input"
    } else {
        "messages"
    };
    body[prompt] = json!([{"role": "user", "content": "list"}]);
    if tools {
        body["tools"] = json!([tool]);
    }
    post(path, body.to_string())
}

/// The bodies that generate.
fn bodies(backend: &Backend) -> Vec<Value> {
    let requests = backend.requests();
    let chats = requests
        .iter()
        .filter(|r| r.line.contains("completions HTTP"));
    chats.map(|r| r.json()).collect()
}

#[rstest]
#[tokio::test]
async fn off_and_a_profile_go_to_who_runs_them(
    #[values("/v1/chat/completions", "/v1/messages", "/v1/responses")] path: &str,
    #[values(true, false)] streams: bool,
) {
    let house = House::new().await;
    let gateway = start(house.setup(), 2).await;
    for _ in 0..4 {
        let off = gateway
            .ask(&asks(path, streams, false).header("x-drover-spec", "off"))
            .await;
        assert_eq!(
            (off.status, off.headers.get("x-drover-spec")),
            (200, Some("none"))
        );
        assert_eq!(off.headers.get("x-drover-backend"), Some("b1"));
        let profile = asks(path, streams, false).header("x-drover-spec", "ngram-mod");
        let profile = gateway.ask(&profile).await;
        assert_eq!(profile.headers.get("x-drover-spec"), Some("ngram-mod"));
        assert_eq!(profile.headers.get("x-drover-backend"), Some("b0"));
    }
    for body in bodies(&house.plain) {
        assert_eq!(body[N_MAX], 0);
        assert!(
            body.get("timings_per_token").is_none(),
            "there is nothing to count"
        );
    }
    for body in bodies(&house.fast) {
        assert!(
            body.get(N_MAX).is_none(),
            "nothing is added otherwise: {body}"
        );
        assert_eq!(body["timings_per_token"], true);
    }
    gateway.idle().await;
    let unavailable = gateway
        .metric("drover_spec_unavailable_total", r#"pool="default""#)
        .await;
    assert_eq!(unavailable, 0.0);
}

#[rstest]
#[tokio::test]
async fn without_such_a_backend_it_is_served_and_said(
    #[values("/v1/chat/completions", "/v1/messages", "/v1/responses")] path: &str,
) {
    let fast = Backend::start().await;
    fast.set_health(Health::Speculates);
    let gateway = start(with_profile(Setup::to(&[&fast])), 1).await;
    let answer = gateway
        .ask(&asks(path, true, true).header("x-drover-spec", "off"))
        .await;
    assert_eq!(
        (answer.status, answer.headers.get("x-drover-spec")),
        (200, Some("ngram-mod"))
    );
    assert_eq!(bodies(&fast)[0][N_MAX], 0, "it may honour it");
    let id = answer.headers.get("x-request-id").unwrap();
    let told = gateway
        .admin_get(&format!("/api/explain/{id}"))
        .await
        .json();
    assert_eq!(
        told["decisions"][0]["spec"],
        json!({"asked": "off", "cause": "header", "unserved": "no_backend"}),
        "there is no cache to weigh it against"
    );
    gateway.idle().await;
    let labels = r#"pool="default",reason="no_backend""#;
    assert_eq!(
        gateway
            .metric("drover_spec_unavailable_total", labels)
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_backend_without_room_is_not_waited_for() {
    let house = House::new().await;
    let gate = Gate::new();
    house.plain.then(Reply::held(&gate));
    let gateway = start(house.setup().slots(1), 2).await;
    let mut first = gateway.connect().await;
    first
        .send(&asks("/v1/chat/completions", true, false).header("x-drover-spec", "off"))
        .await;
    house.plain.request(0).await;
    let second = asks("/v1/chat/completions", true, false).header("x-drover-spec", "off");
    let second = gateway.ask(&second).await;
    assert_eq!(second.headers.get("x-drover-spec"), Some("ngram-mod"));
    let id = second.headers.get("x-request-id").unwrap();
    let told = gateway
        .admin_get(&format!("/api/explain/{id}"))
        .await
        .json();
    assert_eq!(told["decisions"][0]["spec"]["unserved"], "no_room");
    gate.open();
}

#[rstest]
#[tokio::test]
async fn every_attempt_of_a_tool_turn_says_it(
    #[values("/v1/chat/completions", "/v1/messages", "/v1/responses")] path: &str,
) {
    let house = House::new().await;
    let bad = Reply::stream()
        .event(&tool_call(0, "c1", "ls", r#"{"wrong": 1}"#))
        .ends("stop");
    house
        .plain
        .then(bad)
        .then(Reply::stream().event(&text("Hel")).reset());
    let setup = house.setup().set("spec.disable_on_tool_turns", json!(true));
    let gateway = start(setup.set("guard.preset", json!("standard")), 2).await;
    // A bad call is asked for again; the second answer breaks off.
    let _ = gateway.ask(&asks(path, true, true)).await;
    let answer = gateway.ask(&asks(path, true, false)).await;
    assert_eq!(answer.status, 200);
    let with_tools = |body: &Value| !body["tools"].is_null();
    let all = [bodies(&house.plain), bodies(&house.fast)].concat();
    let (of_tools, others): (Vec<_>, Vec<_>) = all.iter().partition(|body| with_tools(body));
    assert!(of_tools.len() >= 2, "{all:?}");
    assert!(of_tools.iter().all(|body| body[N_MAX] == 0), "{of_tools:?}");
    assert!(
        others.iter().all(|body| body.get(N_MAX).is_none()),
        "{others:?}"
    );
}

#[tokio::test]
async fn a_failover_keeps_the_wish_and_tells_what_ran() {
    let house = House::new().await;
    house.plain.then(Reply::new().reset());
    let gateway = start(house.setup(), 2).await;
    let answer = asks("/v1/messages", true, false).header("x-drover-spec", "off");
    let answer = gateway.ask(&answer).await;
    assert_eq!(
        (answer.status, answer.headers.get("x-drover-attempts")),
        (200, Some("2"))
    );
    assert_eq!(answer.headers.get("x-drover-spec"), Some("ngram-mod"));
    assert_eq!(bodies(&house.fast)[0][N_MAX], 0);
}

#[tokio::test]
async fn rules_go_by_class_and_auto_leaves_them() {
    let house = House::new().await;
    let rules = json!([{"classes": ["prose"], "profile": "off"}]);
    let gateway = start(house.setup().set("spec.rules", rules), 2).await;
    let ask = async |said: &str| {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": said}]});
        let request = post("/v1/chat/completions", body.to_string());
        let answer = gateway.ask(&request).await;
        answer.headers.get("x-drover-backend").unwrap().to_owned()
    };
    for _ in 0..3 {
        assert_eq!(ask("Tell me a story about the sea.").await, "b1");
    }
    let prose = bodies(&house.plain).len();
    assert_eq!(prose, 3);
    for _ in 0..4 {
        ask("```rust\nfn main() {}\n```\nExplain this function in src/main.rs").await;
    }
    assert!(
        bodies(&house.plain)
            .iter()
            .skip(prose)
            .all(|body| body.get(N_MAX).is_none())
    );
}

#[rstest]
#[tokio::test]
async fn an_unknown_profile_is_refused_in_the_clients_words(
    #[values("/v1/chat/completions", "/v1/messages", "/v1/responses")] path: &str,
) {
    let house = House::new().await;
    let gateway = house.setup().start().await;
    let answer = gateway
        .ask(&asks(path, true, false).header("x-drover-spec", "fastest"))
        .await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.error()["message"]
            .as_str()
            .unwrap()
            .contains("fastest")
    );
    assert!(bodies(&house.fast).is_empty() && bodies(&house.plain).is_empty());
}

#[tokio::test]
async fn a_text_completion_has_the_same_choice() {
    let house = House::new().await;
    let gateway = start(house.setup(), 2).await;
    let body = json!({"model": "m", "prompt": "x", "speculative.n_max": 9}).to_string();
    let _ = gateway
        .ask(&post("/v1/completions", body).header("x-drover-spec", "off"))
        .await;
    let bodies = bodies(&house.plain);
    assert_eq!((bodies.len(), &bodies[0][N_MAX]), (1, &json!(0)));
}

/// Findings of these kinds, once there are any.
async fn findings(gateway: &Gateway, signature: &str) -> Vec<Value> {
    eventually(&format!("a finding {signature}"), || async {
        let all = gateway.admin_get("/api/spec/findings").await.json();
        let all = all["findings"].as_array().unwrap().clone();
        let found: Vec<_> = all
            .into_iter()
            .filter(|f| f["signature"] == signature)
            .collect();
        (!found.is_empty()).then_some(found)
    })
    .await
}

#[tokio::test]
async fn a_profile_that_is_silently_off_is_found_and_told_once() {
    let backend = Backend::start().await;
    let gateway = start(with_profile(Setup::to(&[&backend])), 1).await;
    let found = findings(&gateway, "spec_silently_off").await;
    assert_eq!(
        (found.len(), &found[0]["place"]["backend"]),
        (1, &json!("b0"))
    );
    let labels = r#"signature="spec_silently_off""#;
    eventually("the count of it", || async {
        let count = gateway.metric("drover_spec_findings_total", labels).await;
        (count == 1.0).then_some(())
    })
    .await;
    gateway.logs(&["FINDING: spec_silently_off"]).await;
}

/// A backend comes back with another build, whose drafts are hardly ever accepted.
#[tokio::test]
async fn a_build_that_accepts_less_is_named_with_its_evidence() {
    let config = SimConfig {
        name: "gpu0".to_owned(),
        speculation: "draft-mtp".parse().unwrap(),
        total_slots: 4,
        ..SimConfig::default()
    };
    let sim = sim::bind(config, "127.0.0.1:0").await.unwrap();
    let mut setup = Setup::urls(&[sim.url()]);
    setup.config["fleet"]["pools"][0]["backends"][0]["profile"] = json!("draft-mtp");
    let gateway = start(setup, 1).await;
    let turns = async |count: usize| {
        for n in 0..count {
            let body = json!({"model": "m", "max_tokens": 64, "messages": [
                {"role": "user", "content": format!("Tell me a story, number {n}, about the sea.")}]});
            let answer = gateway
                .ask(&post("/v1/chat/completions", body.to_string()))
                .await;
            assert_eq!(answer.status, 200);
        }
    };
    turns(80).await;
    gateway.idle().await;
    let rows = gateway.admin_get("/api/spec").await.json();
    let rows = rows["strata"].as_array().unwrap();
    // A turn that begins while the last one's place is not given back yet counts as one of two.
    let row = rows.iter().max_by_key(|row| row["turns"].as_u64()).unwrap();
    let count: u64 = rows.iter().filter_map(|row| row["turns"].as_u64()).sum();
    assert_eq!(
        (&row["profile"], &row["class"], count),
        (&json!("draft-mtp"), &json!("prose"), 80)
    );
    assert!(row["accept_length"].as_f64().unwrap() > 1.3, "{row}");
    let none = gateway.admin_get("/api/spec/findings").await.json();
    assert_eq!(none["findings"], json!([]));
    let change = json!({"accept_rate": 0.02, "build_info": "b99999-bad"}).to_string();
    let changed = Client::connect(sim.address())
        .await
        .ask(&post("/sim/state", change))
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    eventually("the other build", || async {
        let all = gateway.admin_get("/api/backends").await.json();
        (all["backends"][0]["build"] == "b99999-bad").then_some(())
    })
    .await;
    turns(80).await;
    let found = findings(&gateway, "acceptance_collapse").await;
    assert_eq!(found[0]["place"]["build"], "b99999-bad");
    let evidence = found[0]["evidence"].as_str().unwrap();
    assert!(
        evidence.contains("prose") && evidence.contains('%'),
        "{evidence}"
    );
    assert!(!found[0]["remedy"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_log_that_is_sent_in_is_read_and_bounded() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let line = "srv decode: failed to find free space in the KV cache, retrying\n";
    let mut admin = Client::connect(gateway.admin).await;
    let host = gateway.admin.to_string();
    let send = |body: String| post("/api/logs?backend=b0", body).host(&host);
    let told = admin.ask(&send(line.repeat(3))).await;
    assert_eq!((told.status, &told.json()["telling"]), (200, &json!(3)));
    let again = admin.ask(&send("nothing".to_owned())).await;
    assert_eq!(again.json()["telling"], 0, "the connection goes on");
    let found = findings(&gateway, "log_signature").await;
    assert_eq!(found[0]["line"], "kv_cache_full");
    let mut other = Client::connect(gateway.admin).await;
    let long = other.ask(&send("x".repeat(2 << 20))).await;
    assert_eq!(long.status, 413);
    assert_eq!(gateway.admin_get("/livez").await.status, 200);
}
