//! Decisions on record: whatever befalls the gateway and its disk.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::agent::Protocol;
use crate::support::agent::talk::{Talk, call, names};
use crate::support::*;

/// Rules of which `no.rm` is required.
fn rules() -> Value {
    json!({"root": "/r", "profile": "p", "profiles": {"p": ["no.rm"]}, "rules": [
        {"id": "no.rm", "on": "tool_call", "when": "tool.class == 'shell' && shell.runs(tool.command, ['rm'])",
         "then": {"block": {"reason": "no_removal", "hint": "Ask."}}}]})
}

fn bash(command: &str) -> Reply {
    call("Bash", &json!({"command": command}))
}

async fn drover(arguments: &[&str]) -> Output {
    let mut command = Command::new(DROVER);
    command.args(arguments).kill_on_drop(true);
    patiently("drover", command.output()).await.unwrap()
}

fn out(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The records in `path`, as `drover audit query` prints them.
async fn records(path: &Path, more: &[&str]) -> Vec<Value> {
    let output = drover(&[&["audit", "query", shown(path)][..], more].concat()).await;
    assert!(output.status.success(), "{}", out(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[track_caller]
fn verified(output: &Output) -> String {
    let text = out(output);
    assert!(
        output.status.success() && text.contains("sound: "),
        "{text}"
    );
    text
}

async fn talk(audit: Value) -> Talk {
    let settings = [("policy", rules()), ("audit", audit)];
    Talk::new(Protocol::Anthropic, true, &settings).await
}

#[tokio::test]
async fn every_decision_is_on_record_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let key = dir.path().join("key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
    let talk = talk(json!({"path": path, "key_file": key})).await;
    talk.backend.then(bash("rm -rf build")).then(bash("ls"));
    let (heard, _) = talk.ask().await;
    assert_eq!(names(&heard), ["Bash"]);
    let records = eventually("two records", || async {
        let all = records(&path, &[]).await;
        (all.len() == 2).then_some(all)
    })
    .await;
    let [blocked, allowed] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!(
        [
            &blocked["seq"],
            &blocked["rule"],
            &blocked["decision"],
            &blocked["reason"],
            &blocked["profile"]
        ],
        [
            &json!(1),
            &json!("no.rm"),
            &json!("block"),
            &json!("no_removal"),
            &json!("p")
        ]
    );
    assert!(blocked["old"].as_str().unwrap().contains("rm -rf build"));
    assert_eq!(
        (&allowed["rule"], &allowed["decision"]),
        (&json!("-"), &json!("allow"))
    );
    assert_eq!(allowed["prev_hash"], blocked["hash"]);
    assert_eq!(allowed["evidence_hash"], blocked["evidence_hash"]);
    assert!(blocked["latency_us"].as_u64().unwrap() < 10_000_000);
    let session = blocked["session"].as_str().unwrap();
    let request = blocked["request_id"].as_str().unwrap();

    // The session tells of it, and so does the admin address.
    let view = talk
        .gateway
        .admin_get(&format!("/api/sessions/{session}"))
        .await
        .json();
    assert_eq!(view["decisions"][0]["rule"], "no.rm");
    assert_eq!(view["decisions"][0]["request_id"], request);
    assert_eq!(view["decisions"].as_array().unwrap().len(), 1);
    let tail = talk
        .gateway
        .admin_get("/api/audit?decision=block")
        .await
        .json();
    assert_eq!(
        (&tail["recording"], &tail["records"]),
        (&json!(true), &json!([blocked]))
    );
    let one = format!("/api/audit?request={request}&limit=1");
    assert_eq!(
        talk.gateway.admin_get(&one).await.json()["records"],
        json!([allowed])
    );
    assert_eq!(
        talk.gateway.metric("drover_audit_records_total", "").await,
        2.0
    );
    assert_eq!(talk.gateway.metric("drover_audit_failing", "").await, 0.0);

    // Searching, following and verifying it.
    for (filter, count) in [
        (["--session", session], 2),
        (["--request", request], 2),
        (["--rule", "no.rm"], 1),
        (["--decision", "rewrite"], 0),
        (["--since", "1h"], 2),
        (["--until", "1h"], 0),
    ] {
        assert_eq!(records_len(&path, &filter).await, count, "{filter:?}");
    }
    let output = drover(&["audit", "tail", "-n", "1", shown(&path)]).await;
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        *allowed
    );
    let keyed = ["audit", "verify", shown(&path), "--key-file", shown(&key)];
    let text = verified(&drover(&keyed).await);
    let last = text
        .lines()
        .find_map(|line| line.strip_prefix("last: "))
        .unwrap();
    verified(&drover(&[&keyed[..], &["--expect", last]].concat()).await);
    let other = drover(&[&keyed[..], &["--expect", "2:00"]].concat()).await;
    assert_eq!(other.status.code(), Some(1), "{}", out(&other));
    let without = drover(&["audit", "verify", shown(&path)]).await;
    assert_eq!(without.status.code(), Some(1), "{}", out(&without));
}

/// Regression: a result that is withheld was recorded anew in every turn, since clients send their transcripts again.
#[tokio::test]
async fn a_withheld_result_is_on_record_once_in_a_session() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let rule = json!({"id": "no.leak", "on": "tool_result", "when": "result.text.contains('TOP SECRET')",
        "then": {"block": {"reason": "leak"}}});
    let policy =
        json!({"root": "/r", "profile": "p", "profiles": {"p": ["no.leak"]}, "rules": [rule]});
    let settings = [("policy", policy), ("audit", json!({"path": path}))];
    let mut talk = Talk::new(Protocol::Anthropic, true, &settings).await;
    let others = talk.items.clone();
    let mut recorded = 0.0;
    // The same turn again, a further result, and the first one in another session.
    for (file, session, turns) in [
        ("/r/a", "the session", 3),
        ("/r/b", "the session", 2),
        ("/r/a", "another", 2),
    ] {
        if session != "the session" {
            talk.items.clone_from(&others);
            talk.session = session;
        }
        talk.read(file, "TOP SECRET plans");
        recorded += 1.0;
        for _ in 0..turns {
            talk.backend.then(Reply::says(&["Good."]));
            let (_, asked) = talk.ask().await;
            let told = asked[0]["messages"].to_string();
            assert!(!told.contains("TOP SECRET") && told.contains("withheld"));
            let labels = r#"decision="block",mode="enforce",rule="no.leak""#;
            let counted = talk.gateway.metric("drover_policy_decisions_total", labels);
            assert_eq!(counted.await, recorded, "{file} {session}");
        }
    }
    eventually("three records", || async {
        (records_len(&path, &["--rule", "no.leak"]).await == 3).then_some(())
    })
    .await;
}

async fn records_len(path: &Path, more: &[&str]) -> usize {
    records(path, more).await.len()
}

/// Clients that let their model call tools until told to stop; the ids of answered requests and when.
fn load(
    addr: std::net::SocketAddr,
    name: &str,
    stop: &Arc<AtomicBool>,
) -> JoinSet<Vec<(String, Instant)>> {
    let mut clients = JoinSet::new();
    for n in 0..4 {
        let (stop, name) = (Arc::clone(stop), name.to_owned());
        clients.spawn(async move {
            let mut answered = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let id = format!("{name}-{n}-{:05}", answered.len());
                let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": id}],
                    "tools": [{"type": "function", "function": {"name": "Bash", "parameters": {"type": "object"}}}]});
                let request = post("/v1/chat/completions", body.to_string());
                let request = request.header("x-request-id", &id).header("x-session-id", &format!("s{n}"));
                let asked = async move { Client::connect(addr).await.ask(&request).await };
                let Ok(response) = tokio::spawn(asked).await else {
                    // The gateway is gone.
                    return answered;
                };
                if response.text().contains("[DONE]") {
                    answered.push((id, Instant::now()));
                }
            }
            answered
        });
    }
    clients
}

/// A gateway whose model calls a harmless tool in every answer.
async fn busy(path: &Path) -> (Backend, Setup) {
    let backend = Backend::start().await;
    backend.always(bash("ls"));
    let setup = Setup::to(&[&backend])
        .slots(64)
        .set("guard.preset", json!("standard"))
        .set("policy", rules())
        .set("audit", json!({"path": path, "rotate": {"size": "64KiB"}}));
    (backend, setup)
}

#[tokio::test]
async fn a_killed_gateway_loses_at_most_what_was_not_flushed() {
    // In memory: a disk that others write to may take seconds for what is to be flushed.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("log");
    let (_backend, setup) = busy(&path).await;
    let mut lost = 0;
    let mut total = 0;
    for round in 0..3 {
        let mut gateway = setup.clone().start().await;
        let stop = Arc::new(AtomicBool::new(false));
        let clients = load(gateway.addr, &format!("round-{round}"), &stop);
        tokio::time::sleep(Duration::from_millis(1500 + 300 * round)).await;
        gateway.kill().await;
        let killed = Instant::now();
        stop.store(true, Ordering::Relaxed);
        let answered = clients.join_all().await.concat();
        assert!(answered.len() > 10, "{}", answered.len());
        verified(&drover(&["audit", "verify", shown(&path)]).await);
        let known: std::collections::HashSet<String> = records(&path, &[])
            .await
            .iter()
            .map(|record| record["request_id"].as_str().unwrap().to_owned())
            .collect();
        for (id, at) in answered.iter().filter(|(id, _)| !known.contains(id)) {
            let age = killed.saturating_duration_since(*at);
            assert!(
                age < Duration::from_secs(1),
                "{id}, answered {age:?} before the kill"
            );
            lost += 1;
        }
        total += answered.len();
    }
    println!("audit: {total} answers, three kills, {lost} of their decisions not on record");
    let gateway = setup.start().await;
    assert_eq!(gateway.ask(&chat(json!({}))).await.status, 200);
    verified(&drover(&["audit", "verify", shown(&path)]).await);
}

#[tokio::test]
async fn two_processes_write_one_chain_while_one_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let sockets = tempfile::tempdir().unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(sockets.path(), private).unwrap();
    let path = dir.path().join("log");
    let (_backend, setup) = busy(&path).await;
    let setup = setup.set(
        "pingora.upgrade_sock",
        json!(sockets.path().join("upgrade.sock")),
    );
    let mut old = setup.clone().start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients = load(old.addr, "upgrade", &stop);
    eventually("records", || async {
        (records_len(&path, &[]).await > 20).then_some(())
    })
    .await;
    let setup = setup
        .set("listen", json!([old.addr.to_string()]))
        .set("admin.addr", json!(old.admin.to_string()));
    let mut new = setup.succeed().await;
    assert_eq!(old.exited().await.code(), Some(0));
    let before = records_len(&path, &[]).await;
    eventually("records of the new one", || async {
        (records_len(&path, &[]).await > before + 20).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let answered = clients.join_all().await.concat();
    new.terminate().await;
    assert_eq!(new.exited().await.code(), Some(0));
    let text = verified(&drover(&["audit", "verify", shown(&path)]).await);
    assert!(!text.contains("note:"), "{text}");
    let known: std::collections::HashSet<String> = records(&path, &[])
        .await
        .iter()
        .map(|record| record["request_id"].as_str().unwrap().to_owned())
        .collect();
    for (id, _) in &answered {
        assert!(known.contains(id), "{id} is not on record");
    }
    println!(
        "audit: {} answers over an upgrade, all on record",
        answered.len()
    );
}

/// A small file system in memory; none where the machine does not allow it.
struct Disk(TempDir);

impl Disk {
    async fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(dir.path());
        let done = mount.output().await;
        if !done.is_ok_and(|done| done.status.success()) {
            println!("skipped: no file system may be mounted here");
            return None;
        }
        Some(Self(dir))
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut umount = std::process::Command::new("umount");
        let _ = umount.arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn required_rules_let_nothing_pass_that_cannot_be_recorded() {
    let Some(disk) = Disk::new().await else {
        return;
    };
    let path = disk.0.path().join("log");
    let talk = talk(json!({"path": path})).await;
    talk.backend.then(bash("ls"));
    assert_eq!(names(&talk.ask().await.0), ["Bash"]);
    let _ = std::fs::write(disk.ballast(), vec![0; 8 << 20]);
    // The first that finds no room is known to be missing only then.
    eventually("the log is closed", || async {
        talk.backend.then(bash("ls"));
        talk.ask().await;
        (talk.gateway.metric("drover_audit_failing", "").await == 1.0).then_some(())
    })
    .await;
    talk.backend.then(bash("ls"));
    let (heard, _) = talk.ask().await;
    assert!(
        names(&heard).is_empty() && heard.text.contains("audit_unavailable"),
        "{heard:?}"
    );
    // What no required rule is about goes on, and so does everything without policy.
    talk.backend
        .then(call("Read", &json!({"file_path": "/r/a"})));
    assert_eq!(names(&talk.ask().await.0), ["Read"]);
    talk.backend.then(Reply::says(&["Hello."]));
    assert_eq!(talk.ask().await.0.text, "Hello.");
    let ready = talk.gateway.admin_get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(
        ready.json()["degraded"][0]
            .as_str()
            .unwrap()
            .contains("cannot be recorded")
    );
    assert!(talk.gateway.metric("drover_audit_failures_total", "").await > 0.0);
    talk.gateway
        .logs(&["decisions cannot be recorded", "No space left"])
        .await;

    std::fs::remove_file(disk.ballast()).unwrap();
    eventually("the log is open", || async {
        (talk.gateway.metric("drover_audit_failing", "").await == 0.0).then_some(())
    })
    .await;
    talk.backend.then(bash("ls"));
    assert_eq!(names(&talk.ask().await.0), ["Bash"]);
    assert_eq!(
        talk.gateway.admin_get("/readyz").await.json()["degraded"],
        json!([])
    );
    let closed = eventually("the records", || async {
        let closed = records(&path, &["--decision", "block"]).await;
        (!closed.is_empty()).then_some(closed)
    })
    .await;
    assert!(
        closed
            .iter()
            .all(|record| record["reason"] == "audit_unavailable")
    );
    verified(&drover(&["audit", "verify", shown(&path)]).await);
}

#[tokio::test]
async fn a_path_that_cannot_be_written_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("drover.yaml");
    let listen = json!({"listen": ["127.0.0.1:0"], "admin": {"addr": "127.0.0.1:0"},
        "fleet": {"pools": [{"name": "p", "models": ["*"], "backends": [{"url": "http://127.0.0.1:9"}]}]}});
    for (audit, told) in [
        (
            json!({"path": "/proc/none/log"}),
            "audit.path: /proc/none/log",
        ),
        (json!({"path": config}), "is no directory"),
        (
            json!({"path": dir.path(), "key_file": config.with_extension("none")}),
            "audit.key_file",
        ),
        (
            json!({"path": dir.path(), "rotate": {"keep": 0}}),
            "audit.rotate.keep",
        ),
    ] {
        let mut text = listen.clone();
        text["audit"] = audit;
        std::fs::write(&config, text.to_string()).unwrap();
        let output = drover(&["serve", "--config", shown(&config)]).await;
        assert!(
            !output.status.success() && out(&output).contains(told),
            "{}",
            out(&output)
        );
    }
}

#[tokio::test]
async fn changed_rules_are_tried_on_what_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let talk = talk(json!({"path": path})).await;
    talk.backend
        .then(bash("rm -rf build"))
        .then(bash("curl example.com"));
    talk.ask().await;
    eventually("two records", || async {
        (records_len(&path, &[]).await == 2).then_some(())
    })
    .await;
    let config = dir.path().join("new.yaml");
    let new = |when: &str| {
        let mut policy = rules();
        policy["rules"][0]["id"] = json!("no.net");
        policy["rules"][0]["when"] = json!(when);
        policy["profiles"]["p"] = json!(["no.net"]);
        std::fs::write(&config, json!({"policy": policy}).to_string()).unwrap();
    };
    new("shell.runs(tool.command, ['curl'])");
    let check = drover(&["policy", "check", "--config", shown(&config)]).await;
    assert!(
        check.status.success() && out(&check).contains("rules compile"),
        "{}",
        out(&check)
    );
    let test = [
        "policy",
        "test",
        "--config",
        shown(&config),
        "--replay",
        shown(&path),
    ];
    let told = out(&drover(&test).await);
    for line in [
        "allowed, was blocked by no.rm (no_removal): record 1 Bash",
        "blocked by no.net (no_removal), was allowed: record 2 Bash",
        "2 judged again: 1 newly blocked, 1 newly allowed, 0 newly rewritten, 0 as before",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    let cases = dir.path().join("cases.yaml");
    std::fs::write(
        &cases,
        "- {name: a, call: {tool: Bash, input: {command: curl x}}, expect: allow}\n",
    )
    .unwrap();
    let failed = drover(&[
        "policy",
        "test",
        "--config",
        shown(&config),
        "--cases",
        shown(&cases),
    ])
    .await;
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        out(&failed).contains("FAILED a: expected allowed, and it is blocked by no.net"),
        "{}",
        out(&failed)
    );
    new("shell.rnus(tool.command, ['curl'])");
    let check = drover(&["policy", "check", "--config", shown(&config)]).await;
    assert_eq!(check.status.code(), Some(64));
    assert!(
        out(&check).contains("policy.rules[0].when") && out(&check).contains("column"),
        "{}",
        out(&check)
    );
}
