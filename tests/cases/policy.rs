//! Policy on the wire: what agents may do, in every dialect, streamed and whole.

use serde_json::{Value, json};

use crate::support::agent::talk::{Talk, call, everywhere, last, names};
use crate::support::agent::{Heard, Item, Protocol};
use crate::support::script::{delta, role, tool_call};
use crate::support::*;

/// A policy whose sessions work in `/r`.
fn policy(more: Value) -> (&'static str, Value) {
    let mut policy = json!({"root": "/r"});
    for (key, value) in more.as_object().unwrap() {
        policy[key] = value.clone();
    }
    ("policy", policy)
}

fn bash(command: &str) -> Reply {
    call("Bash", &json!({"command": command}))
}

/// Several calls in one answer.
fn batch(calls: &[(&str, Value)]) -> Reply {
    let mut reply = Reply::stream().event(&role());
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let id = format!("c{index}");
        reply = reply.event(&tool_call(index, &id, name, &arguments.to_string()));
    }
    reply.ends("tool_calls")
}

fn arguments(heard: &Heard) -> Vec<Value> {
    let calls = heard.calls.iter();
    calls
        .map(|(_, _, arguments)| serde_json::from_str(arguments).unwrap())
        .collect()
}

everywhere! {
    async fn a_commit_waits_for_its_reviews(protocol: Protocol, stream: bool) {
        let rules = policy(json!({"profiles": {"p": ["commit.parallel_review"]}, "profile": "p"}));
        let mut talk = Talk::new(protocol, stream, &[rules]).await;
        talk.backend.then(bash("git commit -m x")).then(bash("git diff"));
        let (heard, asked) = talk.ask().await;
        assert_eq!(arguments(&heard), [json!({"command": "git diff"})], "the commit never arrives");
        assert_eq!(asked.len(), 2);
        let told = asked[1]["messages"].as_array().unwrap();
        let [.., made, result] = told.as_slice() else { panic!("{told:?}") };
        assert!(made["tool_calls"][0]["function"]["arguments"].as_str().unwrap().contains("git commit"));
        assert_eq!(result["role"], "tool");
        assert!(last(&asked[1]).contains("parallel_review_required"), "{result}");
        assert_eq!(asked[0]["tools"], asked[1]["tools"], "the prompt keeps its beginning");
        for agent in ["code-reviewer", "security-auditor", "architect-reviewer"] {
            talk.act("Task", json!({"subagent_type": agent}), "fine");
        }
        talk.backend.then(bash("git commit -m x"));
        let (heard, asked) = talk.ask().await;
        assert_eq!((arguments(&heard), asked.len()), (vec![json!({"command": "git commit -m x"})], 1));
        let blocked = talk.gateway.metric("drover_policy_decisions_total", r#"decision="block",mode="enforce",rule="commit.parallel_review""#).await;
        assert_eq!(blocked, 1.0);
        talk.gateway.logs(&["rule=commit.parallel_review tool=Bash decision=block reason=parallel_review_required"]).await;
    }
}

everywhere! {
    async fn a_plan_writes_nothing(protocol: Protocol, stream: bool) {
        let rules = policy(json!({"profiles": {"p": ["tools.read_only"]}}));
        let talk = Talk::new(protocol, stream, &[rules]).await;
        talk.backend.then(call("Write", &json!({"file_path": "/r/a"}))).then(Reply::says(&["This is the plan."]));
        let request = talk.protocol.request("m", "You plan.", &talk.items, &[], talk.stream);
        let request = request.header("x-session-id", "s").header("x-drover-profile", "p");
        let heard = talk.protocol.read(&talk.gateway.ask(&request).await, talk.stream);
        assert_eq!((heard.text.as_str(), names(&heard)), ("This is the plan.", vec![]));
        // Without the profile the same call passes.
        talk.backend.then(call("Write", &json!({"file_path": "/r/a"})));
        let (heard, _) = talk.ask().await;
        assert_eq!(names(&heard), ["Write"]);
        let unknown = talk.protocol.request("m", "You plan.", &talk.items, &[], talk.stream);
        let response = talk.gateway.ask(&unknown.header("x-drover-profile", "nope")).await;
        assert_eq!(response.status, 400);
    }
}

everywhere! {
    async fn calls_are_moved_into_the_worktree(protocol: Protocol, stream: bool) {
        let rules = policy(json!({"profile": "autoaccept"}));
        let mut talk = Talk::new(protocol, stream, &[rules]).await;
        talk.backend.then(call("Write", &json!({"file_path": "src/a"}))).then(Reply::says(&["Right."]));
        let (heard, asked) = talk.ask().await;
        assert!(names(&heard).is_empty());
        assert!(last(&asked[1]).contains("worktree_not_in_use"));
        talk.bash("git worktree add '.worktrees/a b'", "");
        let moved = [
            ("Write", json!({"file_path": "src/../src/a"}), json!({"file_path": "/r/.worktrees/a b/src/a"})),
            ("Edit", json!({"file_path": "/r/src/a"}), json!({"file_path": "/r/.worktrees/a b/src/a"})),
            ("Write", json!({"file_path": "link/../src/./a"}), json!({"file_path": "/r/.worktrees/a b/src/a"})),
            ("Bash", json!({"command": "touch \"x y\""}), json!({"command": "cd '/r/.worktrees/a b' && touch \"x y\""})),
            ("Bash", json!({"command": "rm '/r/src/x y'"}), json!({"command": "cd '/r/.worktrees/a b' && rm '/r/.worktrees/a b/src/x y'"})),
            ("Bash", json!({"command": "for f in a; do rm /r/src/../b; done"}),
                json!({"command": "cd '/r/.worktrees/a b' && for f in a; do rm '/r/.worktrees/a b/b'; done"})),
        ];
        for (name, from, to) in moved {
            talk.backend.then(call(name, &from));
            let (heard, asked) = talk.ask().await;
            assert_eq!((arguments(&heard), asked.len()), (vec![to], 1));
        }
        for stays in ["cd .. && rm x", "rm ../../src/x"] {
            talk.backend.then(bash(stays)).then(Reply::says(&["I stop."]));
            let (heard, asked) = talk.ask().await;
            assert!(names(&heard).is_empty() && asked.len() == 2, "{stays}: {heard:?}");
        }
    }
}

everywhere! {
    async fn patches_are_moved_into_the_worktree_too(protocol: Protocol, stream: bool) {
        let settings = [policy(json!({"profile": "autoaccept"})), ("guard.preset", json!("off"))];
        let mut talk = Talk::new(protocol, stream, &settings).await;
        talk.bash("git worktree add '.worktrees/a b'", "");
        let patch = |file: &str| json!({"input": format!("*** Begin Patch\n*** Delete File: {file}\n*** End Patch")});
        talk.backend.then(call("apply_patch", &patch("link/../src/./a")));
        let (heard, asked) = talk.ask().await;
        assert_eq!((arguments(&heard), asked.len()), (vec![patch("/r/.worktrees/a b/src/a")], 1));
    }
}

everywhere! {
    async fn the_allowed_calls_of_a_batch_go_on(protocol: Protocol, stream: bool) {
        let rules = policy(json!({"profiles": {"p": ["tools.read_only"]}, "profile": "p"}));
        let mut talk = Talk::new(protocol, stream, &[rules]).await;
        let read = json!({"file_path": "/r/a"});
        talk.backend.then(batch(&[
            ("Write", read.clone()),
            ("Read", read.clone()),
            ("Edit", read.clone()),
            ("Bash", json!({"command": "ls"})),
        ]));
        let (heard, asked) = talk.ask().await;
        assert_eq!((names(&heard), asked.len()), (vec!["Read", "Bash"], 1));
        assert_eq!(arguments(&heard), [read, json!({"command": "ls"})]);
        // The model hears of the others with the next results, once.
        talk.read("/r/a", "text");
        talk.backend.then(Reply::says(&["Good."]));
        let (_, asked) = talk.ask().await;
        let told = asked[0]["messages"].to_string();
        assert!(told.contains("`Write` was blocked") && told.contains("`Edit` was blocked"), "{told}");
    }
}

everywhere! {
    async fn a_model_that_insists_is_stopped(protocol: Protocol, stream: bool) {
        let rules = policy(json!({"profiles": {"p": ["tools.read_only"]}, "profile": "p"}));
        let talk = Talk::new(protocol, stream, &[rules]).await;
        talk.backend.always(call("Write", &json!({"file_path": "/r/a"})));
        let (heard, asked) = talk.ask().await;
        assert!(names(&heard).is_empty());
        assert_eq!(asked.len(), 4, "three denials");
        assert_eq!(asked[3]["messages"].to_string().matches("was blocked by policy").count(), 3);
        assert!(heard.text.contains("Policy blocked a call of `Write` (read_only"), "{heard:?}");
        assert_eq!(heard.stop, protocol.end_turn());
    }
}

fn deny(on_block: &str) -> (&'static str, Value) {
    policy(
        json!({"profile": "p", "profiles": {"p": ["no.rm"]}, "rules": [
        {"id": "no.rm", "on": "tool_call", "when": "shell.runs(tool.command, ['rm'])",
         "then": {"block": {"reason": "no_removal", "hint": "Ask.", "on_block": on_block}}}]}),
    )
}

everywhere! {
    async fn the_client_can_be_told_instead(protocol: Protocol, stream: bool) {
        let talk = Talk::new(protocol, stream, &[deny("tell_client")]).await;
        talk.backend.then(bash("rm -rf /"));
        let (heard, asked) = talk.ask().await;
        assert!(names(&heard).is_empty() && asked.len() == 1);
        assert!(heard.text.contains("no_removal") && heard.stop == protocol.end_turn(), "{heard:?}");
    }
}

#[tokio::test]
async fn or_get_an_error() {
    for protocol in Protocol::ALL {
        for stream in [true, false] {
            let talk = Talk::new(protocol, stream, &[deny("reject")]).await;
            talk.backend.then(bash("ls; bash -c 'rm -rf /'"));
            let request = protocol.request("m", "x", &talk.items, &[], stream);
            let response = talk.gateway.ask(&request).await;
            assert_eq!(
                response.status,
                403,
                "{protocol:?} {stream}: {}",
                response.text()
            );
            let text = response.text();
            assert!(
                text.contains("no_removal") && !text.contains("rm -rf"),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn requests_and_results_have_rules_too() {
    let rules = policy(
        json!({"profile": "p", "profiles": {"p": ["no.big", "no.leak"]}, "rules": [
        {"id": "no.big", "on": "request", "when": "request.model == 'big'", "then": {"block": {"reason": "too_dear"}}},
        {"id": "no.leak", "on": "tool_result", "when": "result.text.contains('TOP SECRET')", "then": {"block": {"reason": "leak"}}}]}),
    );
    for protocol in Protocol::ALL {
        let mut talk = Talk::new(protocol, true, std::slice::from_ref(&rules)).await;
        let request = protocol.request("big", "x", &talk.items, &[], true);
        let response = talk.gateway.ask(&request).await;
        assert_eq!(response.status, 403);
        assert!(response.text().contains("too_dear"));
        talk.read("/r/a", "TOP SECRET plans");
        talk.read("/r/b", "fine");
        talk.backend.then(Reply::says(&["Good."]));
        let (_, asked) = talk.ask().await;
        let told = asked[0]["messages"].to_string();
        assert!(
            !told.contains("TOP SECRET")
                && told.contains("withheld by policy (leak")
                && told.contains("fine"),
            "{told}"
        );
    }
}

everywhere! {
    async fn a_turn_ends_when_its_tests_ran(protocol: Protocol, stream: bool) {
        let gate = json!({"id": "g", "on": "completion", "require": [{"when": "session.tests_ran", "blocker": "tests_not_run", "hint": "Run them."}]});
        let rules = policy(json!({"profile": "p", "profiles": {"p": ["g"]}, "rules": [gate]}));
        let mut talk = Talk::new(protocol, stream, &[rules]).await;
        talk.backend.then(Reply::says(&["All done."])).then(bash("cargo test"));
        let (heard, asked) = talk.ask().await;
        assert_eq!((arguments(&heard), asked.len()), (vec![json!({"command": "cargo test"})], 2));
        assert!(last(&asked[1]).contains("tests_not_run: Run them."), "{asked:?}");
        talk.bash("cargo test", "test result: ok. 3 passed");
        talk.backend.then(Reply::says(&["All is well now."]));
        let (heard, asked) = talk.ask().await;
        assert_eq!((heard.text.as_str(), asked.len()), ("All is well now.", 1));
        // Stale after an edit; a model that does not listen is let go, visibly.
        talk.act("Edit", json!({"file_path": "/r/a"}), "done");
        talk.backend.always(Reply::says(&["Finished."]));
        let (heard, asked) = talk.ask().await;
        assert_eq!(asked.len(), 3, "two rounds");
        assert!(heard.text.contains("Finished.") && heard.text.contains("[policy] The turn ended with open requirements: tests_not_run."), "{heard:?}");
        let exhausted = talk.gateway.metric("drover_policy_decisions_total", r#"decision="gate_exhausted""#).await;
        assert_eq!(exhausted, 1.0);
    }
}

everywhere! {
    /// Gates and loop protection together: what a gate still wants holds no session that is to come to its end.
    async fn no_gate_holds_a_turn_that_loop_protection_ends(protocol: Protocol, stream: bool) {
        let gate = json!({"id": "g", "on": "completion", "require": [{"when": "session.tests_ran", "blocker": "tests_not_run", "hint": "Run them."}]});
        let rules = policy(json!({"profile": "p", "profiles": {"p": ["g"]}, "rules": [gate]}));
        let settings = [rules, ("guard.loops.finalize_session_hard_cap", json!(1))];
        let mut talk = Talk::new(protocol, stream, &settings).await;
        talk.backend.always(Reply::says(&["That is all."]));
        for _ in 0..9 {
            talk.bash("ls", "a b");
        }
        let (heard, asked) = talk.ask().await;
        assert_eq!(asked[0]["tool_choice"], "none", "loop protection ends the turn");
        assert_eq!((heard.text.as_str(), asked.len()), ("That is all.", 1));
    }
}

everywhere! {
    async fn without_guards_calls_are_held_to_their_rules_all_the_same(protocol: Protocol, stream: bool) {
        for preset in ["off", "observe", "strict"] {
            let rules = policy(json!({"profiles": {"p": ["tools.read_only"]}, "profile": "p"}));
            let talk = Talk::new(protocol, stream, &[rules, ("guard.preset", json!(preset))]).await;
            let first = json!([{"index": 0, "id": "c", "type": "function", "function": {"name": "Bash", "arguments": "{\"comm"}}]);
            let rest = json!([{"index": 0, "function": {"arguments": "and\": \"echo x > a\"}"}}]);
            let reply = Reply::stream().event(&role())
                .event(&delta(json!({"tool_calls": first})))
                .event(&delta(json!({"tool_calls": rest})))
                .ends("tool_calls");
            talk.backend.then(reply).then(Reply::says(&["Well."]));
            let (heard, asked) = talk.ask().await;
            assert_eq!((heard.text.as_str(), names(&heard), asked.len()), ("Well.", vec![], 2), "{preset}");
        }
    }
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_is_seen() {
    let rules = policy(
        json!({"profiles": {"p": {"rules": ["tools.read_only"], "mode": "dry_run"}}, "profile": "p"}),
    );
    let talk = Talk::new(Protocol::Anthropic, true, &[rules]).await;
    talk.backend
        .then(call("Write", &json!({"file_path": "/r/a"})));
    let (heard, asked) = talk.ask().await;
    assert_eq!((names(&heard), asked.len()), (vec!["Write"], 1));
    let decided = "rule=tools.read_only tool=Write decision=block reason=read_only mode=dry_run";
    talk.gateway.logs(&[decided]).await;
}

#[tokio::test]
async fn the_session_view_shows_what_policy_knows() {
    let rules = policy(json!({"profiles": {"p": ["tools.read_only"]}, "profile": "p"}));
    let mut talk = Talk::new(Protocol::OpenAi, true, &[rules]).await;
    talk.bash("git worktree add w", "");
    talk.push(&Item::User("plan".into()));
    talk.backend
        .then(call("Write", &json!({"file_path": "/r/a"})))
        .then(Reply::says(&["Well."]));
    talk.ask().await;
    let sessions = talk.gateway.admin_get("/api/sessions").await.json();
    let id = sessions["sessions"][0]["id"].as_str().unwrap().to_owned();
    let view = talk
        .gateway
        .admin_get(&format!("/api/sessions/{id}"))
        .await
        .json();
    assert_eq!(view["policy"]["denials"], 1, "{view}");
    assert_eq!(view["policy"]["captures"]["worktree"], "/r/w");
    let kinds = view["interventions"].to_string();
    assert!(kinds.contains("policy_block"), "{kinds}");
}
