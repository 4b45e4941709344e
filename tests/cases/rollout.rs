//! Rollouts on simulated servers: what is better is promoted, what is worse is rolled back, whatever happens to the
//! process in between.

use std::path::Path;

use drover::sim::{self, SimConfig, SimHandle};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::*;

/// A server that speculates (`b0`), one that does not (`b1`), and a rollout of the first.
struct House {
    fast: SimHandle,
    plain: SimHandle,
    dir: TempDir,
}

impl House {
    async fn new() -> Self {
        let start = async |name: &str, speculation: &str| {
            let config = SimConfig {
                name: name.to_owned(),
                speculation: speculation.parse().unwrap(),
                total_slots: 4,
                decode_tps: 1000.0,
                ..SimConfig::default()
            };
            sim::bind(config, "127.0.0.1:0").await.unwrap()
        };
        Self {
            fast: start("fast", "draft-mtp").await,
            plain: start("plain", "none").await,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn setup(&self, more: &Value) -> Setup {
        let mut rollout = json!({
            "name": "canary", "pool": "default", "baseline": "none", "candidate": "draft-mtp", "control": "b1",
            "steps": ["50%"], "hardware_equal": true,
            "step": {"min_sessions": 3, "min_turns": 10, "min_time": "1s", "max_time": "1h"},
            "never_worse": {"ttft": null},
        });
        for (key, value) in more.as_object().unwrap() {
            rollout[key] = value.clone();
        }
        let mut setup = Setup::urls(&[self.fast.url(), self.plain.url()]);
        for (n, profile) in ["draft-mtp", "none"].into_iter().enumerate() {
            setup.config["fleet"]["pools"][0]["backends"][n]["profile"] = json!(profile);
        }
        let path = self.dir.path().join("store.db");
        setup
            .set("spec.rollouts", json!([rollout]))
            .set("store", json!({"kind": "file", "path": path}))
    }
}

async fn slows(server: &SimHandle, steps_per_second: f64) {
    let change = json!({"decode_tps": steps_per_second}).to_string();
    let mut client = Client::connect(server.address()).await;
    let changed = client.ask(&post("/sim/state", change)).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
}

async fn shown(gateway: &Gateway) -> Value {
    gateway.admin_get("/api/rollouts/canary").await.json()
}

async fn order(gateway: &Gateway, what: &str) -> Value {
    let path = format!("/api/rollouts/canary/{what}");
    let answer = gateway.admin_post(&path).await;
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    answer.json()
}

/// Starts the rollout and waits for its first step.
async fn runs(gateway: &Gateway) {
    order(gateway, "start").await;
    eventually("the step", || async {
        (shown(gateway).await["state"] == "running").then_some(())
    })
    .await;
}

/// One turn of a session; who served it, and what ran there.
async fn turn(gateway: &Gateway, session: u32) -> (String, String, String) {
    let said = format!("Tell me a story about the sea, number {session}.");
    let body =
        json!({"model": "m", "max_tokens": 48, "messages": [{"role": "user", "content": said}]});
    let request = post("/v1/chat/completions", body.to_string())
        .header("x-session-id", &format!("agent-{session}"));
    let answer = gateway.ask(&request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let header = |name| answer.headers.get(name).unwrap().to_owned();
    (
        header("x-drover-backend"),
        header("x-drover-spec"),
        header("x-request-id"),
    )
}

/// Turns of many sessions, until the rollout is in one of these states.
async fn work_until(gateway: &Gateway, states: &[&str]) -> Value {
    for n in 0..400 {
        turn(gateway, n % 24).await;
        let now = shown(gateway).await;
        if states.contains(&now["state"].as_str().unwrap()) {
            return now;
        }
    }
    panic!("{}", shown(gateway).await);
}

#[tokio::test]
async fn what_is_better_is_promoted_and_sessions_stay_on_their_side() {
    let house = House::new().await;
    // More than the turns that the sides are looked at in.
    let step = json!({"min_sessions": 3, "min_turns": 40, "min_time": "1s", "max_time": "1h"});
    let gateway = house.setup(&json!({ "step": step })).start().await;
    assert_eq!(shown(&gateway).await["state"], "pending");
    runs(&gateway).await;
    let mut sides = Vec::new();
    for session in 0..24 {
        let (backend, profile, id) = turn(&gateway, session).await;
        assert_eq!(profile, if backend == "b0" { "draft-mtp" } else { "none" });
        let told = gateway
            .admin_get(&format!("/api/explain/{id}"))
            .await
            .json();
        let side = &told["decisions"][0]["rollout"];
        let arm = if backend == "b0" {
            "candidate"
        } else {
            "control"
        };
        assert_eq!(
            side,
            &json!({"rollout": "canary", "arm": arm, "served": true})
        );
        sides.push(backend);
    }
    assert!(sides.iter().any(|b| b == "b0") && sides.iter().any(|b| b == "b1"));
    for (session, side) in (0..24).zip(&sides) {
        assert_eq!(&turn(&gateway, session).await.0, side, "session {session}");
    }
    let done = work_until(&gateway, &["promoted", "rolled_back", "held"]).await;
    assert_eq!(done["state"], "promoted", "{done}");
    assert_eq!(done["verdicts"][0]["verdict"], "successful");
    assert!(
        done["estimates"][0]["low"].as_f64().unwrap() > 0.05,
        "{done}"
    );
    for session in 0..24 {
        assert_eq!(turn(&gateway, session).await.0, "b0", "everybody has it");
    }
    let state = gateway
        .metric("drover_rollout_state", r#"state="promoted""#)
        .await;
    let turns = gateway
        .metric("drover_rollout_turns_total", r#"arm="control""#)
        .await;
    assert!(state == 1.0 && turns >= 10.0, "{state} {turns}");
}

/// Killed between any two steps of it, the gateway goes on from what it had written down.
#[tokio::test]
async fn what_is_worse_is_rolled_back_though_the_process_is_killed_in_between() {
    let house = House::new().await;
    let setup = house.setup(&json!({"promote_when": {"decode_tps": "> +900%"}}));
    let gateway = setup.clone().start().await;
    runs(&gateway).await;
    for n in 0..48 {
        turn(&gateway, n % 24).await;
    }
    let before = eventually("what came of turns", || async {
        let now = shown(&gateway).await;
        (now["candidate"]["turns"].as_u64()? + now["control"]["turns"].as_u64()? >= 40)
            .then_some(now)
    })
    .await;
    assert_eq!(before["state"], "running", "{before}");
    // It is written every two seconds.
    tokio::time::sleep(std::time::Duration::from_millis(2600)).await;
    drop(gateway);
    let gateway = setup.clone().start().await;
    let after = shown(&gateway).await;
    assert_eq!(
        (&after["state"], &after["run"]),
        (&json!("running"), &json!(1))
    );
    assert!(
        after["candidate"]["turns"].as_u64().unwrap() >= 10,
        "{after}"
    );
    slows(&house.fast, 80.0).await;
    let done = work_until(&gateway, &["promoted", "rolled_back"]).await;
    assert_eq!(done["state"], "rolled_back", "{done}");
    let reason = done["reason"].as_str().unwrap();
    assert!(reason.contains("prose") && reason.contains('%'), "{reason}");
    for session in 0..24 {
        assert_eq!(turn(&gateway, session).await.0, "b1", "warm ones too");
    }
    drop(gateway);
    let gateway = setup.start().await;
    assert_eq!(shown(&gateway).await["state"], "rolled_back");
    for session in 0..12 {
        assert_eq!(
            turn(&gateway, session).await.0,
            "b1",
            "from the first turn on"
        );
    }
}

/// A candidate that fails before its first byte is hidden from clients by the next attempt, and not from the rollout.
#[tokio::test]
async fn failures_that_clients_do_not_see_roll_back() {
    let house = House::new().await;
    let gateway = house.setup(&json!({})).start().await;
    order(&gateway, "start").await;
    let fail = json!({"fail": {"times": 1000, "status": 500, "message": "boom"}}).to_string();
    let mut client = Client::connect(house.fast.address()).await;
    let told = client.ask(&post("/sim/state", fail)).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let done = work_until(&gateway, &["promoted", "rolled_back", "held"]).await;
    assert_eq!(done["state"], "rolled_back", "{done}");
    assert!(done["reason"].as_str().unwrap().contains("turns"), "{done}");
}

#[tokio::test]
async fn verdicts_are_told_to_a_webhook_and_to_those_who_watch() {
    let house = House::new().await;
    let hook = Backend::start().await;
    hook.then(Reply::json(503, &json!({})));
    let gateway = house
        .setup(&json!({
            "webhooks": [{"url": format!("{}/hooks/rollout", hook.url()), "token_env": "HOOK_TOKEN"}],
            "promote_when": {"decode_tps": "> +900%"}, "step": {"max_time": "1s", "min_time": "1s"},
        }))
        .env("HOOK_TOKEN", "s3cret")
        .start()
        .await;
    order(&gateway, "start").await;
    eventually("the verdict", || async {
        (shown(&gateway).await["state"] == "held").then_some(())
    })
    .await;
    let held = shown(&gateway).await;
    assert!(
        held["reason"].as_str().unwrap().contains("turns of the"),
        "no traffic never promotes: {held}"
    );
    let told = eventually("the webhook", || async {
        let all = hook.requests();
        all.into_iter()
            .filter(|r| r.line.contains("/hooks/rollout"))
            .nth(1)
    })
    .await;
    assert_eq!(
        told.json()["event"]["verdict"],
        "inconclusive",
        "{}",
        told.json()
    );
    assert_eq!(told.headers.get("authorization"), Some("Bearer s3cret"));
    assert!(!shown(&gateway).await.to_string().contains("s3cret"));
}

#[tokio::test]
async fn orders_are_refused_where_they_make_no_sense_and_pages_of_others_give_none() {
    let house = House::new().await;
    let gateway = house.setup(&json!({})).start().await;
    let refused = gateway.admin_post("/api/rollouts/canary/pause").await;
    assert_eq!(refused.status, 409);
    assert!(
        refused.error()["message"]
            .as_str()
            .unwrap()
            .contains("pending")
    );
    assert_eq!(
        gateway.admin_post("/api/rollouts/none/start").await.status,
        404
    );
    assert_eq!(
        gateway.admin_get("/api/rollouts/canary/start").await.status,
        405
    );
    let host = gateway.admin.to_string();
    let foreign = post("/api/rollouts/canary/start", "")
        .host(&host)
        .header("origin", "http://evil.example");
    let foreign = Client::connect(gateway.admin).await.ask(&foreign).await;
    assert_eq!(foreign.status, 403);
    assert_eq!(shown(&gateway).await["state"], "pending");
}

async fn drover(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(DROVER);
    command.args(arguments).kill_on_drop(true);
    let output = patiently("drover", command.output()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn the_command_gives_orders_and_tells_how_it_goes() {
    let house = House::new().await;
    let gateway = house.setup(&json!({})).start().await;
    let admin = gateway.admin.to_string();
    let rollout = async |arguments: &[&str]| {
        drover(&[&["rollout", "--admin", &admin], arguments].concat()).await
    };
    let (code, said) = rollout(&["status"]).await;
    assert!(
        code == Some(0) && said.contains("canary: pending, step 1 of 1"),
        "{said}"
    );
    assert_eq!(rollout(&["start", "canary"]).await.0, Some(0));
    let (code, said) = rollout(&["start", "canary"]).await;
    assert!(
        code == Some(70) && said.contains("cannot be started"),
        "{code:?} {said}"
    );
    assert!(
        rollout(&["pause", "canary"])
            .await
            .1
            .contains("canary: paused")
    );
    assert!(rollout(&["resume", "canary"]).await.1.contains("canary: "));
    assert!(
        rollout(&["promote", "canary", "--full"])
            .await
            .1
            .contains("canary: promoted")
    );
    assert!(
        rollout(&["abort", "canary"])
            .await
            .1
            .contains("canary: aborted")
    );
    let (_, said) = rollout(&["status", "canary", "--json"]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["state"], "aborted");
    assert!(
        rollout(&["start", "nothing"])
            .await
            .1
            .contains("no rollout of this name")
    );
}

/// A step beyond what the candidate can serve waits; the operator's command makes room, and what came back is asserted.
#[tokio::test]
async fn a_backend_is_given_the_profile_when_a_step_needs_it() {
    let house = House::new().await;
    let script = house.dir.path().join("set-profile");
    let plain = house.plain.address();
    let change = json!({"spec_type": "draft-mtp"}).to_string();
    let text = format!(
        "#!/bin/sh\n[ \"$DROVER_BACKEND\" = b1 ] && [ \"$DROVER_PROFILE\" = draft-mtp ] || exit 3\n\
         exec python3 -c 'import urllib.request as u; u.urlopen(u.Request(\"http://{plain}/sim/state\", b\"\"\"{change}\"\"\")).read()'\n"
    );
    write_script(&script, &text);
    let gateway = house
        .setup(&json!({"steps": ["50%", "100%"], "hooks": {"set_profile": [script], "timeout": "20s"}}))
        .start()
        .await;
    order(&gateway, "start").await;
    let done = work_until(&gateway, &["promoted", "rolled_back", "held"]).await;
    assert_eq!(done["state"], "promoted", "{done}");
    let all = gateway.admin_get("/api/backends").await.json();
    assert_eq!(all["backends"][1]["profile"], "draft-mtp");
    assert_eq!(all["backends"][1]["draining"], false);
    let events = done["events"].as_array().unwrap();
    assert!(
        events.iter().any(|event| event["kind"] == "profile_set"),
        "{done}"
    );
}

/// Half-way of a step the two servers exchange their profiles, one after the other, by the operator's command; then
/// each of them has been on both sides.
#[tokio::test]
async fn profiles_exchange_their_backends_half_way() {
    let house = House::new().await;
    // The candidate's server is the slower one, though its profile is the faster one.
    slows(&house.fast, 500.0).await;
    let script = house.dir.path().join("set-profile");
    let (fast, plain) = (house.fast.address(), house.plain.address());
    let text = format!(
        "#!/bin/sh\n[ \"$DROVER_BACKEND\" = b0 ] && to={fast} || to={plain}\n\
         exec python3 -c \"import urllib.request as u; u.urlopen(u.Request('http://$to/sim/state', \
         b'{{\\\"spec_type\\\": \\\"$DROVER_PROFILE\\\"}}')).read()\"\n"
    );
    write_script(&script, &text);
    let setup = house.setup(&json!({
        "hardware_equal": false, "crossover": true, "steps": ["50%"],
        "step": {"min_sessions": 3, "min_turns": 40, "min_time": "1s", "max_time": "1h"},
        "hooks": {"set_profile": [script], "timeout": "20s"},
    }));
    let gateway = setup.start().await;
    order(&gateway, "start").await;
    let done = work_until(&gateway, &["promoted", "rolled_back", "held"]).await;
    assert_eq!(done["state"], "promoted", "{done}");
    assert_eq!(done["control_backend"], "b0", "{done}");
    let events = done["events"].as_array().unwrap();
    let kinds: Vec<&str> = events
        .iter()
        .filter_map(|event| event["kind"].as_str())
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "profile_set").count(),
        2,
        "{kinds:?}"
    );
    assert!(
        kinds.contains(&"crossing") && kinds.contains(&"crossed"),
        "{kinds:?}"
    );
    let all = gateway.admin_get("/api/backends").await.json();
    assert_eq!(all["backends"][0]["profile"], "none");
    assert_eq!(all["backends"][1]["profile"], "draft-mtp");
}

/// What is passed through unread follows a rollout too: a session goes to its side, and after a rollback nothing goes
/// to the candidate.
#[tokio::test]
async fn what_is_passed_through_follows_the_rollout() {
    let house = House::new().await;
    let passthrough = json!([{"path": "/tokenize", "pool": "default"}]);
    let setup = house
        .setup(&json!({}))
        .set("fleet.passthrough", passthrough);
    let gateway = setup.start().await;
    let asked = async |session: u32| {
        let request = post("/tokenize", json!({"content": "a b"}).to_string());
        let session = format!("agent-{session}");
        let answer = gateway.ask(&request.header("x-session-id", &session)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
            .headers
            .get("x-drover-backend")
            .map(ToString::to_string)
    };
    // Regression: turns before the first step, which is taken half a second later, go where they like.
    runs(&gateway).await;
    for session in 0..12 {
        let (backend, _, _) = turn(&gateway, session).await;
        assert_eq!(asked(session).await, Some(backend), "agent-{session}");
    }
    order(&gateway, "abort").await;
    for session in 0..12 {
        assert_eq!(asked(session).await.as_deref(), Some("b1"));
    }
}

fn write_script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, mode).unwrap();
}

/// A command that does not do what it says is an error, and its backend gets nothing.
#[tokio::test]
async fn a_profile_that_was_not_set_takes_no_traffic() {
    let house = House::new().await;
    let gateway = house
        .setup(
            &json!({"steps": ["50%", "100%"], "hooks": {"set_profile": ["true"], "timeout": "2s"}}),
        )
        .start()
        .await;
    order(&gateway, "start").await;
    let done = work_until(&gateway, &["promoted", "rolled_back", "held"]).await;
    assert_eq!(done["state"], "rolled_back", "{done}");
    let reason = done["reason"].as_str().unwrap();
    assert!(
        reason.contains("do not speculate") && reason.contains("drained"),
        "{reason}"
    );
    let all = gateway.admin_get("/api/backends").await.json();
    assert_eq!(all["backends"][1]["draining"], true);
}

/// The example in `conf/examples` with these servers.
#[tokio::test]
async fn the_example_runs() {
    let house = House::new().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples/rollout.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let store = house.dir.path().join("example.db");
    let text = text
        .replace("http://127.0.0.1:8082", &house.fast.url())
        .replace("http://127.0.0.1:8081", &house.plain.url())
        .replace("rollout-example.db", store.to_str().unwrap());
    let config: drover::config::Config = drover::config::parse(&text, std::iter::empty()).unwrap();
    let mut setup = Setup::urls(&[]);
    setup.config = serde_json::to_value(&config).unwrap();
    setup
        .config
        .as_object_mut()
        .unwrap()
        .retain(|key, _| matches!(&**key, "fleet" | "spec" | "store"));
    let gateway = setup.start().await;
    let started = gateway
        .admin_post("/api/rollouts/balanced-vs-none/start")
        .await;
    assert_eq!(started.status, 200, "{}", started.text());
    let shares = eventually("its first step", || async {
        let now = gateway
            .admin_get("/api/rollouts/balanced-vs-none")
            .await
            .json();
        (now["state"] == "running").then(|| now["shares"].clone())
    })
    .await;
    assert_eq!(shares, json!({"candidate": 0.05, "control": 0.05}));
}
