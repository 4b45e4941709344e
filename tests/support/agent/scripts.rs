//! What agents do.

use serde_json::json;

use super::run::Asked;

/// What the model does.
#[derive(Clone, Debug)]
pub(crate) enum Move {
    Call(&'static str, String),
    Say(String),
}

/// One agent.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    /// The model's move in turn `n`, counted from 0.
    pub(crate) model: fn(usize, &Asked<'_>) -> Move,
    /// What the call of turn `n` returns.
    pub(crate) world: fn(usize) -> String,
    /// Turns after which the agent has done its work.
    pub(crate) turns: usize,
    /// The turn after which the earlier system ended it (`reference` table), for loops of its kinds.
    pub(crate) earlier: Option<usize>,
    /// Sends every request twice.
    pub(crate) retries: bool,
    /// Compacts its history when it has more items than this.
    pub(crate) compacts: Option<usize>,
    /// Sends the same words when the model ends, so many times.
    pub(crate) nags: usize,
    /// Tools it offers; all of them when empty.
    pub(crate) tools: &'static [&'static str],
}

const PLAIN: Script = Script {
    name: "",
    model: |_, _| Move::Say(String::new()),
    world: |_| String::new(),
    turns: 60,
    earlier: None,
    retries: false,
    compacts: None,
    nags: 0,
    tools: &[],
};

fn bash(command: String) -> Move {
    Move::Call("Bash", json!({"command": command}).to_string())
}

fn read(path: String) -> Move {
    Move::Call("Read", json!({"file_path": path}).to_string())
}

fn edit(old: usize, new: usize) -> Move {
    let arguments = json!({"file_path": "src/a.rs", "old_string": format!("v{old}"), "new_string": format!("v{new}")});
    Move::Call("Edit", arguments.to_string())
}

const UPDATED: &str = "The file src/a.rs has been updated.";

fn step(n: usize, _: &Asked<'_>) -> Move {
    bash(format!("step {n}"))
}

/// Turns of an agent that does useful work.
pub(crate) const HEALTHY_TURNS: usize = 500;

/// Agents that do useful work.
pub(crate) fn healthy() -> Vec<Script> {
    let healthy = Script {
        turns: HEALTHY_TURNS,
        ..PLAIN
    };
    vec![
        Script {
            name: "useful work",
            model: step,
            world: |n| format!("did {n}"),
            ..healthy
        },
        Script {
            name: "test, fix, test",
            model: |n, _| match n % 2 {
                0 => edit(n, n + 1),
                _ => bash("cargo test".into()),
            },
            // Six fixes in a row change nothing in the outcome.
            world: |n| match n % 2 {
                0 => UPDATED.into(),
                _ => format!(
                    "{} passed; {} failed; finished in {}.{}s",
                    n / 12,
                    50 - n / 12,
                    n,
                    n % 10
                ),
            },
            ..healthy
        },
        Script {
            name: "polling, output changes",
            model: |_, _| bash("sleep 5; gh run view 7".into()),
            world: |n| format!("job {n} of 500 done after {n}s"),
            ..healthy
        },
        Script {
            name: "read-only research",
            model: |n, _| match n % 3 {
                0 => read(format!("src/f{n}.rs")),
                1 => bash(format!("grep -rn symbol_{n} src")),
                _ => read(format!("docs/p{n}.md")),
            },
            world: |n| match n % 6 {
                1 => String::new(),
                _ => format!("contents of part {n}"),
            },
            ..healthy
        },
        Script {
            name: "compacts its history",
            model: step,
            world: |n| format!("did {n}"),
            compacts: Some(40),
            ..healthy
        },
        Script {
            name: "retries every request",
            model: step,
            world: |n| format!("did {n}"),
            retries: true,
            ..healthy
        },
    ]
}

/// Agents that go round in circles.
pub(crate) fn looping() -> Vec<Script> {
    vec![
        Script {
            name: "same call",
            model: |_, _| bash("ls".into()),
            world: |_| "a  b".into(),
            earlier: Some(10),
            ..PLAIN
        },
        Script {
            name: "same call, one tool only",
            model: |_, _| bash("ls".into()),
            world: |_| "a  b".into(),
            earlier: Some(10),
            tools: &["Bash"],
            ..PLAIN
        },
        Script {
            name: "same file read",
            model: |_, _| read("src/a.rs".into()),
            world: |_| "fn main() {}".into(),
            earlier: Some(10),
            ..PLAIN
        },
        Script {
            name: "two calls in turns",
            model: |n, _| match n % 2 {
                0 => bash("ls".into()),
                _ => edit(1, 2),
            },
            world: |n| match n % 2 {
                0 => "a  b".into(),
                _ => UPDATED.into(),
            },
            earlier: Some(17),
            ..PLAIN
        },
        Script {
            name: "two calls, no other tool",
            model: |n, _| match n % 2 {
                0 => bash("ls".into()),
                _ => edit(1, 2),
            },
            world: |n| match n % 2 {
                0 => "a  b".into(),
                _ => UPDATED.into(),
            },
            earlier: Some(17),
            tools: &["Bash", "Edit"],
            ..PLAIN
        },
        Script {
            name: "distinct, fruitless",
            model: |n, _| bash(format!("grep -rn thing_{n} src")),
            world: |_| String::new(),
            earlier: Some(24),
            ..PLAIN
        },
        Script {
            name: "distinct, always the same error",
            model: |n, _| read(format!("src/missing_{n}.rs")),
            world: |n| format!("Error: no file src/missing_{n}.rs"),
            earlier: Some(24),
            ..PLAIN
        },
        Script {
            name: "edit and revert",
            model: |n, _| match n % 4 {
                0 => edit(1, 2),
                2 => edit(2, 1),
                _ => bash("make test".into()),
            },
            world: |n| match n % 4 {
                0 | 2 => UPDATED.into(),
                k => format!("{k} failed in {n}.1s"),
            },
            earlier: Some(24),
            ..PLAIN
        },
        Script {
            name: "polling, nothing changes",
            model: |_, _| bash("sleep 5; gh run view 7".into()),
            world: |n| format!("queued for {n}s"),
            ..PLAIN
        },
        Script {
            name: "ignores hints, writes calls as text",
            model: |_, asked| match asked.may_call() {
                true => bash("ls".into()),
                false => Move::Say(
                    r#"<tool_call>{"name":"Bash","arguments":{"command":"ls"}}</tool_call>"#.into(),
                ),
            },
            world: |_| "a  b".into(),
            earlier: Some(10),
            ..PLAIN
        },
        Script {
            name: "ignores hints, is told to go on for ever",
            model: |_, _| bash("ls".into()),
            world: |_| "a  b".into(),
            turns: 200,
            nags: 100,
            tools: &["Bash"],
            ..PLAIN
        },
        Script {
            name: "same call, every request twice",
            model: |_, _| bash("ls".into()),
            world: |_| "a  b".into(),
            retries: true,
            earlier: Some(10),
            ..PLAIN
        },
        Script {
            name: "same call, compacts its history",
            model: |_, _| bash("ls".into()),
            world: |_| "a  b".into(),
            compacts: Some(5),
            ..PLAIN
        },
    ]
}
