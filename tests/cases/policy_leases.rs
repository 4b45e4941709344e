//! Leases: sessions take turns on what they commit to, push, merge, start and deploy.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::talk::{Talk, everywhere, last, names};
use crate::support::agent::{Heard, Item, Protocol};
use crate::support::script::{role, text, tool_call};
use crate::support::*;

/// Nothing but leases, with these windows.
fn rules(leases: Value) -> (&'static str, Value) {
    let policy = json!({"root": "/r", "profile": "p", "profiles": {"p": ["deploy.bucket"]}, "leases": leases});
    ("policy", policy)
}

fn bash(id: &str, command: &str) -> Reply {
    let arguments = json!({"command": command}).to_string();
    let reply = Reply::stream().event(&role());
    reply
        .event(&tool_call(0, id, "Bash", &arguments))
        .ends("tool_calls")
}

/// What the client got is carried out, with this result.
fn answered(talk: &mut Talk, heard: &Heard, result: &str) {
    for (id, name, arguments) in &heard.calls {
        let (id, name, arguments) = (id.clone(), name.clone(), arguments.clone());
        let text = result.to_owned();
        talk.push(&Item::Call {
            id: id.clone(),
            name,
            arguments,
        });
        talk.push(&Item::Result { id, text });
    }
}

/// The same gateway, seen by another session.
fn other(talk: &mut Talk, session: &'static str, items: &mut Vec<String>) {
    std::mem::swap(&mut talk.items, items);
    talk.session = session;
}

everywhere! {
    async fn one_session_at_a_time_pushes_to_a_branch(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[rules(json!({"set": "safe"}))]).await;
        let mut others = talk.items.clone();
        talk.backend.then(bash("a1", "git push origin main"));
        let (first, _) = talk.ask().await;
        assert_eq!(names(&first), ["Bash"]);

        other(&mut talk, "another", &mut others);
        talk.backend.then(bash("b1", "cd src && git push -u origin HEAD:main")).then(Reply::says(&["Later."]));
        let (heard, asked) = talk.ask().await;
        assert_eq!((names(&heard), heard.text.as_str(), asked.len()), (vec![], "Later.", 2));
        let told = last(&asked[1]);
        assert!(told.contains("lease_held by ") && told.contains("retry_after ") && told.contains("try again in "), "{told}");
        assert!(!told.contains("the session") && !told.contains("will be blocked as well"), "{told}");
        // Another branch is free.
        talk.backend.then(bash("b2", "git push origin topic"));
        assert_eq!(names(&talk.ask().await.0), ["Bash"]);

        other(&mut talk, "the session", &mut others);
        talk.backend.then(bash("a2", "git push origin main")).then(Reply::says(&["Done."]));
        let (heard, asked) = talk.ask().await;
        assert!(names(&heard).is_empty());
        let told = last(&asked[1]);
        assert!(told.contains("coalesced_with ") && told.contains("nothing is left to do"), "{told}");
        answered(&mut talk, &first, "main -> main");
        talk.backend.then(Reply::says(&["Pushed."]));
        talk.ask().await;

        // Its result has freed the branch, long before the window's end.
        other(&mut talk, "another", &mut others);
        talk.backend.then(bash("b3", "git push origin main"));
        assert_eq!(names(&talk.ask().await.0), ["Bash"]);
        for (outcome, count) in [("granted", 3.0), ("held", 1.0), ("coalesced", 1.0), ("done", 1.0)] {
            let counted = talk.gateway.metric("drover_policy_leases_total", &format!(r#"outcome="{outcome}""#)).await;
            assert_eq!(counted, count, "{outcome}");
        }
        let decided = |what| [r#"rule=deploy.bucket tool=Bash"#, what];
        talk.gateway.logs(&decided(r#"decision=lease reason=\"push to branch main\""#)).await;
        talk.gateway.logs(&decided(r#"decision=block reason=\"lease_held by"#)).await;
    }
}

everywhere! {
    async fn worktrees_do_not_meet(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[rules(json!({"set": "safe"}))]).await;
        let mut others = talk.items.clone();
        talk.bash("git worktree add .worktrees/a -b feature/a", "");
        talk.backend.then(bash("a1", "cd .worktrees/a && git commit -m x && git push"));
        assert_eq!(names(&talk.ask().await.0), ["Bash"]);
        other(&mut talk, "another", &mut others);
        talk.bash("git worktree add .worktrees/b", "");
        talk.backend.then(bash("b1", "git -C .worktrees/b commit -m x && git -C .worktrees/b push"));
        assert_eq!(names(&talk.ask().await.0), ["Bash"]);
        // The branch is the same, whatever it is called.
        talk.backend.then(bash("b2", "git push origin feature/a")).then(Reply::says(&["No."]));
        let (heard, asked) = talk.ask().await;
        assert!(names(&heard).is_empty() && last(&asked[1]).contains("lease_held"), "{asked:?}");
        // Nobody knows where this goes: it waits for everybody.
        talk.backend.then(bash("b3", "git push origin \"$BRANCH\"")).then(Reply::says(&["No."]));
        let (heard, asked) = talk.ask().await;
        assert!(names(&heard).is_empty() && last(&asked[1]).contains("lease_held"), "{asked:?}");
    }
}

everywhere! {
    async fn of_a_batch_the_others_go_on(protocol: Protocol, stream: bool) {
        for preset in ["standard", "strict", "off"] {
            let talk = Talk::new(protocol, stream, &[rules(json!({})), ("guard.preset", json!(preset))]).await;
            let reply = Reply::stream().event(&role()).event(&text("Now. "));
            let calls = ["git push origin main", "ls", "git push origin main", "gh workflow run ci.yml", "pwd"];
            let reply = calls.iter().enumerate().fold(reply, |reply, (n, command)| {
                let arguments = json!({"command": command}).to_string();
                reply.event(&tool_call(n, &format!("c{n}"), "Bash", &arguments))
            });
            talk.backend.then(reply.ends("tool_calls"));
            let (heard, asked) = talk.ask().await;
            let commands: Vec<Value> = heard.calls.iter().map(|(_, _, a)| serde_json::from_str(a).unwrap()).collect();
            let expected = ["git push origin main", "ls", "gh workflow run ci.yml", "pwd"];
            let expected: Vec<Value> = expected.iter().map(|command| json!({"command": command})).collect();
            assert_eq!((commands, asked.len()), (expected, 1), "{preset}");
            assert_eq!(heard.text.trim(), "Now.", "{preset}");
        }
    }
}

everywhere! {
    async fn a_call_that_never_arrived_gives_its_lease_back(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[rules(json!({"set": "safe"})), ("fleet.resume", json!(false))]).await;
        let mut others = talk.items.clone();
        let arguments = json!({"command": "git push origin main"}).to_string();
        let begun = Reply::stream().event(&role()).event(&tool_call(0, "a1", "Bash", &arguments));
        // The backend dies after the call.
        talk.backend.always(begun.reset());
        let request = protocol.request("m", "You are an agent.", &talk.items, &[], stream).header("x-session-id", talk.session);
        let failed = talk.gateway.ask(&request).await;
        assert!(stream || failed.status >= 500, "{}", failed.status);
        talk.gateway.idle().await;
        other(&mut talk, "another", &mut others);
        talk.backend.always(bash("b1", "git push origin main"));
        assert_eq!(names(&talk.ask().await.0), ["Bash"]);
    }
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_lease_back() {
    let talk = Talk::new(Protocol::OpenAi, true, &[rules(json!({"set": "safe"}))]).await;
    let arguments = json!({"command": "git push origin main"}).to_string();
    let begun = Reply::stream()
        .event(&role())
        .event(&tool_call(0, "a1", "Bash", &arguments));
    talk.backend.then(begun.event(&text(" ")).hang());
    let request = Protocol::OpenAi.request("m", "You are an agent.", &talk.items, &[], true);
    let mut client = talk.gateway.connect().await;
    client
        .send(&request.clone().header("x-session-id", "leaves"))
        .await;
    eventually("the lease", || async {
        let granted = talk
            .gateway
            .metric("drover_policy_leases_total", r#"outcome="granted""#)
            .await;
        (granted == 1.0).then_some(())
    })
    .await;
    drop(client);
    talk.gateway.idle().await;
    talk.backend.then(bash("b1", "git push origin main"));
    assert_eq!(names(&talk.ask().await.0), ["Bash"]);
}

#[tokio::test]
async fn a_session_that_ends_has_no_leases() {
    let settings = [
        rules(json!({"set": "safe"})),
        ("limits.session_ttl", json!("300ms")),
    ];
    let mut talk = Talk::new(Protocol::OpenAi, true, &settings).await;
    let mut others = talk.items.clone();
    talk.backend
        .then(bash("a1", "kubectl --context prod apply -f x.yaml"));
    assert_eq!(names(&talk.ask().await.0), ["Bash"]);
    other(&mut talk, "another", &mut others);
    tokio::time::sleep(Duration::from_millis(700)).await;
    talk.backend
        .then(bash("b1", "kubectl --context prod delete -f x.yaml"));
    assert_eq!(names(&talk.ask().await.0), ["Bash"]);
}

#[tokio::test]
async fn a_session_that_is_pushed_out_has_none_either() {
    let settings = [
        rules(json!({"set": "safe"})),
        ("limits.max_sessions", json!(1)),
    ];
    let mut talk = Talk::new(Protocol::OpenAi, true, &settings).await;
    let mut others = talk.items.clone();
    talk.backend.then(bash("a1", "git push origin main"));
    assert_eq!(names(&talk.ask().await.0), ["Bash"]);
    other(&mut talk, "another", &mut others);
    talk.backend.then(Reply::says(&["Hello."]));
    talk.ask().await;
    eventually("the end of the first", || async {
        let ended = talk
            .gateway
            .metric("drover_policy_leases_total", r#"outcome="session_ended""#)
            .await;
        (ended == 1.0).then_some(())
    })
    .await;
    talk.backend.then(bash("b1", "git push origin main"));
    assert_eq!(names(&talk.ask().await.0), ["Bash"]);
}

#[tokio::test]
async fn a_dry_run_holds_nobody_up_and_is_seen() {
    let mut policy = rules(json!({})).1;
    policy["profiles"]["p"] = json!({"rules": ["deploy.bucket"], "mode": "dry_run"});
    let mut talk = Talk::new(Protocol::OpenAi, true, &[("policy", policy)]).await;
    let mut others = talk.items.clone();
    for session in ["one", "two"] {
        other(&mut talk, session, &mut others);
        talk.backend.then(bash(session, "git push origin main"));
        assert_eq!(names(&talk.ask().await.0), ["Bash"]);
    }
    let held = r#"decision=block reason=\"lease_held by"#;
    talk.gateway.logs(&[held, "mode=dry_run"]).await;
}

/// What policy knows is in the store: neither facts nor leases end with the process.
#[tokio::test]
async fn a_gateway_that_is_killed_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = json!({"kind": "file", "path": dir.path().join("store")});
    let policy = json!({"root": "/r", "profile": "p", "profiles": {"p": ["deploy.bucket", "commit.parallel_review", "worktree.route"]},
        "leases": {"set": "safe"}});
    let settings = [("policy", policy), ("store", store)];
    for protocol in Protocol::ALL {
        let sessions: [&'static str; 2] = match protocol {
            Protocol::OpenAi => ["a", "b"],
            Protocol::Anthropic => ["c", "d"],
            Protocol::Responses => ["e", "f"],
        };
        let mut talk = Talk::new(protocol, true, &settings).await;
        talk.session = sessions[0];
        let human = talk.items.clone();
        let branch = sessions[0];
        talk.bash(&format!("git worktree add .worktrees/{branch}"), "");
        for agent in ["code-reviewer", "security-auditor", "architect-reviewer"] {
            talk.act("Task", json!({"subagent_type": agent}), "fine");
        }
        // From its worktree: who holds a lease is a session in a working tree.
        let push = format!("git -C .worktrees/{branch} push origin {branch}");
        talk.backend.then(bash(&format!("{branch}1"), &push));
        let (first, _) = talk.ask().await;
        assert_eq!(names(&first), ["Bash"]);

        // Dropping it sends SIGKILL.
        drop(talk);
        let mut talk = Talk::new(protocol, true, &settings).await;
        let mut others = human.clone();
        talk.session = sessions[1];
        talk.backend
            .then(bash(&format!("{branch}2"), &push))
            .then(Reply::says(&["Later."]));
        let (heard, asked) = talk.ask().await;
        assert!(
            names(&heard).is_empty() && last(&asked[1]).contains("lease_held"),
            "{asked:?}"
        );

        // The client has compacted: the transcript tells of no worktree, no review and no push.
        other(&mut talk, sessions[0], &mut others);
        talk.backend
            .then(bash(&format!("{branch}3"), "git commit -m x"));
        let (heard, asked) = talk.ask().await;
        let expected = format!("cd /r/.worktrees/{branch} && git commit -m x");
        assert_eq!(names(&heard), ["Bash"], "{asked:?}");
        let made: Value = serde_json::from_str(&heard.calls[0].2).unwrap();
        assert_eq!(
            (made["command"].as_str(), asked.len()),
            (Some(expected.as_str()), 1)
        );

        // The push's result frees what the process before had taken for it, the commit's its own.
        answered(&mut talk, &heard, "done");
        answered(&mut talk, &first, "done");
        talk.backend.then(Reply::says(&["Good."]));
        talk.ask().await;
        other(&mut talk, sessions[1], &mut others);
        talk.backend.then(bash(&format!("{branch}4"), &push));
        assert_eq!(names(&talk.ask().await.0), ["Bash"]);
    }
}
