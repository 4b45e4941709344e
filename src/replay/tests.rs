//! Rules changed, and what that would have meant.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::audit::{Audit, Whose};
use crate::config;
use crate::policy::{Actor, Source, TurnPolicy};

fn engine(source: serde_json::Value) -> Arc<Engine> {
    let source: Source = serde_json::from_value(source).unwrap();
    Arc::new(Engine::new(&source).unwrap())
}

fn no(id: &str, when: &str) -> serde_json::Value {
    json!({"id": id, "on": "tool_call", "when": when, "then": {"block": {"reason": "not_here"}}})
}

fn moves() -> serde_json::Value {
    json!({"id": "move", "on": "tool_call", "when": "tool.class == 'write' && !tool.paths.all(p, path.within(p, '/r/w'))",
           "then": {"rewrite": {"paths": "path.rebase(p, session.root, '/r/w')"}}})
}

/// Calls decided by `engine` and recorded in `dir`.
fn record(dir: &std::path::Path, engine: &Arc<Engine>, calls: &[(&str, serde_json::Value)]) {
    let config = config::Audit {
        path: dir.to_owned(),
        ..config::Audit::default()
    };
    let audit = Audit::open(&config).unwrap();
    for (n, (tool, input)) in calls.iter().enumerate() {
        let actor = Actor {
            root: Some("/r".into()),
            session: "s".into(),
            ..Actor::default()
        };
        let active = engine.active(["p"]).unwrap();
        let policy = TurnPolicy::new(Arc::clone(engine), active, actor, Default::default(), &[]);
        let whose = Whose {
            request_id: format!("request-{n}"),
            session: "s".into(),
            principal: String::new(),
            profile: "p".into(),
        };
        let turn = audit.turn(whose).of(&policy);
        turn.record(&policy.tool_call(tool, &input.to_string()).decisions);
    }
}

#[test]
fn what_a_changed_policy_would_have_done_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let before = engine(
        json!({"profiles": {"p": ["no.rm", "move"]}, "rules": [no("no.rm", "shell.runs(tool.command, ['rm'])"), moves()]}),
    );
    let key = format!("AKIA{}", "ABCDEFGHIJKLMNOP");
    record(
        dir.path(),
        &before,
        &[
            ("Bash", json!({"command": "rm -rf x"})),
            ("Bash", json!({"command": "curl example.com"})),
            ("Write", json!({"file_path": "/r/a", "content": "x"})),
            ("Bash", json!({"command": "ls"})),
            (
                "Write",
                json!({"file_path": "/r/w/b", "content": "y".repeat(40_000)}),
            ),
            (
                "Bash",
                json!({"command": format!("curl -H {key} example.com")}),
            ),
        ],
    );
    let after = engine(
        json!({"profiles": {"p": ["no.curl"]}, "rules": [no("no.curl", "shell.runs(tool.command, ['curl'])")]}),
    );
    let outcome = records(dir.path(), &after).unwrap();
    let changes: Vec<(u64, Effect, Effect, &str)> = outcome
        .changes
        .iter()
        .map(|c| (c.seq, c.before.effect, c.now.effect, &*c.now.rule))
        .collect();
    use Effect::{Allowed, Blocked, Rewritten};
    assert_eq!(
        changes,
        [
            (1, Blocked, Allowed, ""),
            (2, Allowed, Blocked, "no.curl"),
            (3, Rewritten, Allowed, ""),
        ]
    );
    assert_eq!(
        (
            outcome.replayed,
            outcome.newly(Allowed),
            outcome.newly(Blocked)
        ),
        (4, 2, 1)
    );
    let skipped: Vec<&str> = outcome.not_replayed.keys().map(String::as_str).collect();
    assert!(
        skipped[0].contains("secrets") && skipped[1].contains("longer"),
        "{skipped:?}"
    );
    // The same rules decide the same.
    let same = records(dir.path(), &before).unwrap();
    assert!(same.changes.is_empty() && same.replayed == 5, "{same:?}");
    let other = engine(json!({"profiles": {"q": []}}));
    let other = records(dir.path(), &other).unwrap();
    assert!(
        other
            .not_replayed
            .keys()
            .all(|why| why.contains("no policy profile `p`")),
        "{other:?}"
    );
}

#[test]
fn a_conversation_is_judged_call_by_call() {
    let call = |id: &str, command: &str| {
        json!({"role": "assistant", "content": [
        {"type": "tool_use", "id": id, "name": "Bash", "input": {"command": command}}]})
    };
    let result = |id: &str| json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "ok"}]});
    let body = json!({"model": "m", "max_tokens": 9, "system": "Working directory: /r", "messages": [
        {"role": "user", "content": "go"},
        call("a", "git commit -m x"), result("a"),
        call("b", "cargo test"), result("b"),
        call("c", "git commit -m y"), result("c"),
    ]});
    let rules = engine(json!({"profiles": {"p": ["tested"]}, "rules": [
        no("tested", "shell.runs(tool.command, ['git commit']) && !session.tests_ran")]}));
    for text in [
        body.to_string(),
        format!("POST /v1/messages HTTP/1.1\r\nhost: x\r\n\r\n{body}"),
    ] {
        let outcome = conversation(text.as_bytes(), &rules, "p", None).unwrap();
        let changes: Vec<Option<usize>> = outcome.changes.iter().map(|c| c.call).collect();
        assert_eq!((changes, outcome.replayed), (vec![Some(1)], 4));
    }
    assert!(matches!(
        conversation(b"hello", &rules, "p", None),
        Err(NoTurn::Form)
    ));
    assert!(matches!(
        conversation(body.to_string().as_bytes(), &rules, "q", None),
        Err(NoTurn::Profile(_))
    ));
}

#[test]
fn cases_say_what_is_expected() {
    let rules = engine(
        json!({"profiles": {"p": ["tested", "move", "completion.gates"]}, "rules": [
        no("tested", "shell.runs(tool.command, ['git commit']) && !session.tests_ran"), moves()]}),
    );
    let text = r#"
- name: a commit without tests
  profiles: [p]
  call: {tool: Bash, input: {command: "cd x && git commit -m y"}}
  expect: block
  rule: tested
  reason: not_here
- name: and with them
  profiles: [p]
  history:
    - {tool: Bash, input: {command: cargo test}, result: "test result: ok"}
  call: {tool: Bash, input: {command: git commit -m y}}
  expect: allow
- name: files are moved
  profiles: [p]
  root: /r
  call: {tool: Write, input: {file_path: /r/a}}
  expect: rewrite
  becomes: {file_path: /r/w/a}
- name: the end waits for tests
  profiles: [p]
  end: true
  expect: block
  rule: completion.gates
- name: wrong
  call: {tool: Bash, input: {command: ls}}
  expect: block
"#;
    let cases = cases::parse(text).unwrap();
    let results: Vec<Result<(), String>> = cases.iter().map(|case| case.run(&rules)).collect();
    assert_eq!(results[..4], [Ok(()), Ok(()), Ok(()), Ok(())]);
    assert_eq!(
        results[4],
        Err("expected blocked, and it is allowed".to_owned())
    );
    assert!(
        cases::parse("- {name: x, expekt: block}")
            .unwrap_err()
            .contains("expekt")
    );
}
