//! Ways around a policy, tried through the real gateway: no forbidden call arrives, and every
//! legitimate one does as it was made.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::agent::Protocol;
use crate::support::agent::talk::{Talk, call, everywhere, names};
use crate::support::script::{role, tool_call};
use crate::support::*;

const CORPUS: &str = include_str!("../fixtures/policy/around.yaml");

#[derive(Deserialize)]
struct Corpus {
    forbidden: Vec<Entry>,
    legitimate: Vec<Entry>,
}

/// A command line, or a tool with its arguments.
#[derive(Deserialize)]
struct Entry {
    sh: Option<String>,
    tool: Option<String>,
    input: Option<String>,
}

impl Entry {
    fn call(&self) -> (String, String) {
        match &self.sh {
            Some(line) => ("Bash".to_owned(), json!({"command": line}).to_string()),
            None => (self.tool.clone().unwrap(), self.input.clone().unwrap()),
        }
    }
}

fn rules() -> Value {
    let runs = r#"tool.class == "shell" && shell.runs(tool.command, ["git commit", "git push --force",
        "git push -f", "git reset --hard", "terraform apply", "kubectl delete"])"#;
    let out = r#"tool.mutates && tool.paths.exists(p, path.within(p, "/r/locked") ||
        !(path.within(p, "/r") || path.within(p, "/tmp") || path.within(p, "/dev")))"#;
    let block = |reason: &str| json!({"block": {"reason": reason, "hint": "Leave it."}});
    json!({"root": "/r", "profile": "p", "profiles": {"p": ["no.words", "no.places"]}, "rules": [
        {"id": "no.words", "on": "tool_call", "when": runs, "then": block("forbidden_command")},
        {"id": "no.places", "on": "tool_call", "when": out, "then": block("forbidden_place")}]})
}

/// A model that makes the call it is given, and stops when it hears that it was blocked.
async fn tempted(protocol: Protocol, stream: bool) -> (Talk, Arc<Mutex<Reply>>) {
    // Nothing but policy judges the calls.
    let settings = [("policy", rules()), ("guard.preset", json!("off"))];
    let talk = Talk::new(protocol, stream, &settings).await;
    let next = Arc::new(Mutex::new(Reply::says(&["Nothing."])));
    let made = Arc::clone(&next);
    talk.backend.plays(true, move |body| {
        let heard = String::from_utf8_lossy(body).contains("was blocked by policy");
        match heard {
            true => Reply::says(&["I stop."]),
            false => made.lock().clone(),
        }
    });
    (talk, next)
}

fn raw((name, arguments): &(String, String)) -> Reply {
    let reply = Reply::stream().event(&role());
    let reply = reply.event(&tool_call(0, "c", name, arguments));
    reply.ends("tool_calls")
}

everywhere! {
    async fn nobody_gets_around_and_honest_work_goes_on(protocol: Protocol, stream: bool) {
        let corpus: Corpus = serde_saphyr::from_str(CORPUS).unwrap();
        assert!(corpus.forbidden.len() >= 100 && corpus.legitimate.len() >= 80);
        let (talk, next) = tempted(protocol, stream).await;
        let mut wrong = Vec::new();
        for entry in &corpus.forbidden {
            let made = entry.call();
            *next.lock() = raw(&made);
            let (heard, asked) = talk.ask().await;
            if !heard.calls.is_empty() || asked.len() != 2 || heard.text != "I stop." {
                wrong.push(format!("got through: {made:?}"));
            }
        }
        for entry in &corpus.legitimate {
            let made = entry.call();
            *next.lock() = raw(&made);
            let (heard, asked) = talk.ask().await;
            // A whole answer in Anthropic's dialect has the arguments as JSON, not as text.
            let same = |arguments: &str| match (protocol, stream) {
                (Protocol::Anthropic, false) => {
                    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                    read(arguments) == read(&made.1)
                }
                _ => arguments == made.1,
            };
            let arrived = matches!(heard.calls.as_slice(), [(_, name, arguments)]
                if *name == made.0 && same(arguments));
            if !arrived || asked.len() != 1 {
                wrong.push(format!("did not arrive: {made:?} {:?}", asked.last().map(|a| a["messages"].as_array().unwrap().last().unwrap().to_string())));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// How a client names its tools and their arguments.
struct Names {
    shell: fn(&str) -> (&'static str, Value),
    write: fn(&str) -> (&'static str, Value),
    read: fn(&str) -> (&'static str, Value),
    review: fn(&str) -> (&'static str, Value),
}

fn patch(path: &str) -> Value {
    json!(format!(
        "*** Begin Patch\n*** Add File: {path}\n+x\n*** End Patch\n"
    ))
}

const CLAUDE_CODE: Names = Names {
    shell: |line| ("Bash", json!({"command": line, "description": "Runs"})),
    write: |path| ("Write", json!({"file_path": path, "content": "x"})),
    read: |path| ("Read", json!({"file_path": path})),
    review: |kind| {
        (
            "Task",
            json!({"subagent_type": kind, "description": "d", "prompt": "p"}),
        )
    },
};

const OPENCODE: Names = Names {
    shell: |line| ("bash", json!({"command": line, "description": "Runs"})),
    write: |path| {
        (
            "edit",
            json!({"filePath": path, "oldString": "a", "newString": "b"}),
        )
    },
    read: |path| ("read", json!({"filePath": path})),
    review: |kind| {
        (
            "task",
            json!({"subagent_type": kind, "description": "d", "prompt": "p"}),
        )
    },
};

const CODEX: Names = Names {
    shell: |line| {
        (
            "shell",
            json!({"command": ["bash", "-lc", line], "workdir": "/r"}),
        )
    },
    write: |path| ("apply_patch", json!({"input": patch(path)})),
    read: |path| ("view_image", json!({"path": path})),
    review: |kind| ("spawn_agent", json!({"agent_type": kind, "message": "m"})),
};

const CLINE: Names = Names {
    shell: |line| {
        (
            "execute_command",
            json!({"command": line, "requires_approval": false}),
        )
    },
    write: |path| ("write_to_file", json!({"path": path, "content": "x"})),
    read: |path| ("read_file", json!({"path": path})),
    review: |kind| {
        (
            "use_subagents",
            json!({"agent_name": kind, "prompt_1": "p"}),
        )
    },
};

everywhere! {
    async fn four_clients_have_the_same_rules(protocol: Protocol, stream: bool) {
        let policy = json!({"root": "/r", "profiles": {
            "p": ["commit.parallel_review", "worktree.enforce"]}, "profile": "p"});
        for client in [CLAUDE_CODE, OPENCODE, CODEX, CLINE] {
            let settings = [("policy", policy.clone()), ("guard.preset", json!("off"))];
            let mut talk = Talk::new(protocol, stream, &settings).await;
            let made = |(name, input): (&'static str, Value)| (call(name, &input), name, input);
            let commit = (client.shell)("git commit -m 'feat: x'");
            for (blocked, reason) in [
                ((client.write)("/r/src/a"), "worktree_not_in_use"),
                ((client.write)("src/../a"), "worktree_not_in_use"),
                ((client.shell)("echo x > src/a"), "worktree_not_in_use"),
                (commit.clone(), "worktree_not_in_use"),
            ] {
                let (reply, name, input) = made(blocked);
                talk.backend.then(reply).then(Reply::says(&["I stop."]));
                let (heard, asked) = talk.ask().await;
                assert_eq!((names(&heard), asked.len()), (vec![], 2), "{name} {input}");
                assert!(asked[1].to_string().contains(reason), "{name}: {asked:?}");
            }
            for allowed in [(client.read)("/r/src/a"), (client.shell)("git status && ls"), (client.write)("/tmp/a")] {
                let (reply, name, input) = made(allowed);
                talk.backend.then(reply);
                let (heard, asked) = talk.ask().await;
                assert_eq!((names(&heard), asked.len()), (vec![name], 1), "{input}");
            }
            let (name, input) = (client.shell)("git worktree add /r/w -b w");
            talk.act(name, input, "Preparing worktree");
            talk.backend.then(call(commit.0, &commit.1)).then(Reply::says(&["I stop."]));
            let (heard, asked) = talk.ask().await;
            assert!(names(&heard).is_empty());
            assert!(asked[1].to_string().contains("parallel_review_required"), "{}: {asked:?}", commit.0);
            for agent in ["code-reviewer", "security-auditor", "architect-reviewer"] {
                let (name, input) = (client.review)(agent);
                talk.act(name, input, "fine");
            }
            for (name, input) in [commit.clone(), (client.write)("/r/w/a")] {
                talk.backend.then(call(name, &input));
                let (heard, asked) = talk.ask().await;
                assert_eq!((names(&heard), asked.len()), (vec![name], 1), "{input}");
            }
        }
    }
}
