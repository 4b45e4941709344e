//! The earlier system's sixteen policies, each as it is shipped and alone in force.

use serde_json::{Value, json};

use crate::support::agent::Protocol;
use crate::support::agent::talk::{Talk, call, names};
use crate::support::*;

const WORK: &str = include_str!("../../conf/examples/policy-earlier-work.yaml");
const RELEASE: &str = include_str!("../../conf/examples/policy-earlier-release.yaml");

/// A conversation under one rule of an example.
async fn under(example: &str, rule: &str) -> Talk {
    let config: Value = serde_saphyr::from_str(example).unwrap();
    let mut policy = config["policy"].clone();
    policy["profiles"] = json!({"alone": [rule]});
    policy["profile"] = json!("alone");
    policy["root"] = json!("/r");
    let settings = [("policy", policy), ("guard.preset", json!("off"))];
    Talk::new(Protocol::OpenAi, true, &settings).await
}

type Made = (&'static str, Value);

fn sh(line: &str) -> Made {
    ("Bash", json!({"command": line}))
}

fn write(path: &str) -> Made {
    ("Write", json!({"file_path": path, "content": "x"}))
}

fn agent(kind: &str) -> Made {
    ("Task", json!({"subagent_type": kind}))
}

fn memory(does: &'static str) -> Made {
    (does, json!({"query": "x"}))
}

async fn passes(talk: &Talk, (name, input): &Made) -> bool {
    talk.backend.plays(true, {
        let reply = call(name, input);
        move |body| match String::from_utf8_lossy(body).contains("was blocked by policy") {
            true => Reply::says(&["I stop."]),
            false => reply.clone(),
        }
    });
    let (heard, asked) = talk.ask().await;
    let passed = names(&heard) == [*name];
    assert_eq!(asked.len(), if passed { 1 } else { 2 }, "{name} {input}");
    passed
}

/// The rule blocks `call`, others go on, and once `done` is done it goes on too.
async fn blocks(
    example: &str,
    rule: &str,
    before: &[Made],
    call: Made,
    others: &[Made],
    done: &[Made],
) {
    let mut talk = under(example, rule).await;
    for (name, input) in before {
        talk.act(name, input.clone(), "fine");
    }
    assert!(!passes(&talk, &call).await, "{rule}: {call:?} got through");
    for other in others {
        assert!(passes(&talk, other).await, "{rule}: {other:?} was blocked");
    }
    for (name, input) in done {
        talk.act(name, input.clone(), "fine");
    }
    if !done.is_empty() {
        assert!(passes(&talk, &call).await, "{rule}: {call:?} stays blocked");
    }
}

/// The rule holds a turn after `before` until `done` is done.
async fn holds(example: &str, rule: &str, before: &[Made], done: &[Made]) {
    let mut talk = under(example, rule).await;
    talk.backend.always(Reply::says(&["Finished."]));
    let (_, asked) = talk.ask().await;
    assert_eq!(asked.len(), 1, "{rule} holds a turn that did nothing");
    for (name, input) in before {
        talk.act(name, input.clone(), "fine");
    }
    let (heard, asked) = talk.ask().await;
    assert_eq!(asked.len(), 3, "{rule} lets the turn end: {heard:?}");
    for (name, input) in done {
        talk.act(name, input.clone(), "fine");
    }
    let (heard, asked) = talk.ask().await;
    assert_eq!(
        (heard.text.as_str(), asked.len()),
        ("Finished.", 1),
        "{rule}"
    );
}

/// The rule warns of `call`, and lets it go on.
async fn warns(example: &str, rule: &str, before: &[Made], call: Made, silent: Made) {
    let mut talk = under(example, rule).await;
    let labels = format!(r#"decision="warn",mode="enforce",rule="{rule}""#);
    assert!(passes(&talk, &silent).await);
    assert_eq!(
        talk.gateway
            .metric("drover_policy_decisions_total", &labels)
            .await,
        0.0,
        "{rule}"
    );
    for (name, input) in before {
        talk.act(name, input.clone(), "fine");
    }
    assert!(passes(&talk, &call).await);
    assert_eq!(
        talk.gateway
            .metric("drover_policy_decisions_total", &labels)
            .await,
        1.0,
        "{rule}"
    );
}

#[tokio::test]
async fn work_is_done_as_the_earlier_system_wanted_it() {
    let plan = || ("ExitPlanMode", json!({"plan": "x"}));
    let read = || ("Read", json!({"file_path": "/r/a"}));
    blocks(
        WORK,
        "worktree-required",
        &[],
        write("/r/x/.worktrees/../../src/a"),
        &[
            write("/r/.worktrees/001-a/a"),
            sh("cd .worktrees/a && touch b"),
            sh("ls"),
        ],
        &[],
    )
    .await;
    blocks(
        WORK,
        "validate-plan-before-build",
        &[plan()],
        write("/r/a"),
        &[read()],
        &[agent("plan-validator")],
    )
    .await;
    blocks(
        WORK,
        "memory-before-plan",
        &[],
        plan(),
        &[write("/r/a")],
        &[memory("mcp__memory__search")],
    )
    .await;
    blocks(
        WORK,
        "codebase-read-before-plan",
        &[],
        plan(),
        &[write("/r/a")],
        &[read()],
    )
    .await;
    holds(
        WORK,
        "session-memory-write",
        &[write("/r/a")],
        &[memory("mcp__memory__store")],
    )
    .await;
    warns(WORK, "coord-overlap", &[], agent("x"), read()).await;
    warns(
        WORK,
        "mcp-router-first",
        &[],
        ("ToolSearch", json!({"query": "x", "max_results": 50})),
        ("ToolSearch", json!({"query": "x", "max_results": 20})),
    )
    .await;
    warns(WORK, "parallel-reads", &[read()], read(), read()).await;
}

#[tokio::test]
async fn releases_are_made_as_the_earlier_system_wanted_them() {
    holds(
        RELEASE,
        "test-gate",
        &[write("/r/services/a.rs")],
        &[write("/r/services/tests/a.rs")],
    )
    .await;
    blocks(
        RELEASE,
        "schema-diff-gate",
        &[],
        write("/r/db/migrations/1.sql"),
        &[write("/r/a")],
        &[sh("npm run schema:diff")],
    )
    .await;
    blocks(
        RELEASE,
        "iac-parity",
        &[],
        sh("cd x && kubectl -n a apply -f b"),
        &[sh("kubectl get pods")],
        &[write("/r/infra/a.tf")],
    )
    .await;
    blocks(
        RELEASE,
        "cluster-routing",
        &[],
        sh("kubectl --context prod get pods"),
        &[
            sh("kubectl --context staging get pods"),
            sh("helm --kube-context=tools list"),
            sh("ls"),
        ],
        &[],
    )
    .await;
    blocks(
        RELEASE,
        "cluster-routing",
        &[],
        sh("bash -c 'helm list'"),
        &[],
        &[],
    )
    .await;
    blocks(
        RELEASE,
        "rtk-wrap",
        &[],
        sh("git status"),
        &[sh("rtk git status"), sh("ls")],
        &[],
    )
    .await;
    blocks(
        RELEASE,
        "artifact-hygiene",
        &[],
        sh("cp /tmp/a.png docs/a.png"),
        &[write("/r/assets/a.png"), write("/r/a.rs")],
        &[],
    )
    .await;
    for report in [
        "/r/TEST_REPORT.md",
        "/r/docs/BUG_FIX_2.md",
        "/r/notes_2026-11-24.md",
    ] {
        blocks(
            RELEASE,
            "doc-live-over-report",
            &[],
            write(report),
            &[write("/r/docs/report.md")],
            &[],
        )
        .await;
    }
    // What changes something comes before the tests: it makes them stale.
    let done = [
        write("/r/tests/a.rs"),
        write("/r/docs/a.md"),
        sh("npm version patch"),
        sh("kubectl rollout status deploy/a"),
        sh("cargo test"),
        sh("cargo clippy"),
    ];
    holds(
        RELEASE,
        "mandatory-testing-deployment",
        &[write("/r/a.rs")],
        &done,
    )
    .await;
}
