//! One tool call as rules see it.

use std::sync::Arc;

use once_cell::sync::OnceCell;
use serde_json::Value;

use super::shell::{self, Effect, Script};
use super::tools::{Class, Tools};
use super::{patch, path};

/// Arguments that hold a command line, by the names agents give them.
pub(super) const COMMAND_KEYS: &[&str] = &["command", "cmd", "script", "chars", "commands"];

/// Arguments that name the directory a command runs in.
const CWD_KEYS: &[&str] = &[
    "workdir",
    "cwd",
    "working_directory",
    "directory",
    "dir_path",
    "dir",
];

/// Arguments that hold a file's name.
pub(super) const PATH_KEYS: &[&str] = &[
    "file_path",
    "filePath",
    "path",
    "notebook_path",
    "target_file",
    "absolute_path",
    "file",
    "filename",
    "dir_path",
    "old_path",
    "new_path",
    "source",
    "destination",
    "uri",
];

/// Arguments that hold a patch.
pub(super) const PATCH_KEYS: &[&str] = &["input", "patch", "patchText", "patch_text", "diff"];

/// Arguments that name a kind of subagent.
const AGENT_KEYS: &[&str] = &[
    "subagent_type",
    "agent_type",
    "agent",
    "agent_id",
    "agent_name",
    "name",
];

/// See the module's documentation.
#[derive(Debug)]
pub struct Call<'a> {
    /// The tool's name.
    pub name: &'a str,
    /// What it is for.
    pub class: Class,
    /// Its arguments.
    pub input: Value,
    /// The command line of a shell's call; empty for others.
    pub command: String,
    reach: OnceCell<Reach>,
    root: Option<&'a str>,
}

/// What a call changes.
#[derive(Debug)]
struct Reach {
    effect: Effect,
    paths: Vec<String>,
    unknown: bool,
}

impl<'a> Call<'a> {
    /// A call of `name` with `arguments`; paths are told from `root`, where that is known.
    pub fn new(tools: &Tools, name: &'a str, arguments: &str, root: Option<&'a str>) -> Self {
        let input: Value = serde_json::from_str(arguments).unwrap_or(Value::Null);
        let class = tools.class(name);
        let command = match class {
            Class::Shell => command(&input).unwrap_or_default(),
            _ => String::new(),
        };
        Self {
            name,
            class,
            input,
            command,
            reach: OnceCell::new(),
            root,
        }
    }

    /// Its command line, parsed.
    pub fn script(&self) -> Arc<Script> {
        shell::parsed(&self.command)
    }

    /// Where its command line runs, seen from the root.
    pub fn cwd(&self) -> String {
        let given = CWD_KEYS
            .iter()
            .find_map(|key| self.input.get(key)?.as_str());
        let cwd = given.unwrap_or(".");
        self.at_root(cwd)
    }

    fn at_root(&self, path: &str) -> String {
        match self.root {
            Some(root) => path::resolve(root, path),
            None => path::normalize(path),
        }
    }

    fn reach(&self) -> &Reach {
        self.reach
            .get_or_init(|| match self.class {
                Class::Shell => self.shell_reach(),
                class => Reach {
                    effect: match class {
                        Class::Write => Effect::Edit,
                        Class::Other => Effect::Edit,
                        _ => Effect::Read,
                    },
                    paths: self.file_paths(),
                    unknown: false,
                },
            })
            .as_looking(self)
    }

    fn shell_reach(&self) -> Reach {
        let effects = shell::effects(&self.script());
        let cwd = self.cwd();
        let paths = effects.paths.iter().map(|path| path::resolve(&cwd, path));
        Reach {
            effect: effects.effect,
            paths: paths.collect(),
            unknown: effects.unknown_paths,
        }
    }

    fn file_paths(&self) -> Vec<String> {
        let named = PATH_KEYS
            .iter()
            .filter_map(|key| self.input.get(key)?.as_str());
        let mut paths: Vec<String> = named.map(|path| self.at_root(path)).collect();
        if self.class == Class::Write {
            let patches = PATCH_KEYS
                .iter()
                .filter_map(|key| self.input.get(key)?.as_str());
            for file in patches.flat_map(patch::files) {
                paths.push(self.at_root(&file));
            }
        }
        paths
    }

    /// The files it names or changes; for a command that may change anything, where it works.
    pub fn paths(&self) -> &[String] {
        &self.reach().paths
    }

    /// Whether it may also change files nobody knows of.
    pub fn has_unknown_paths(&self) -> bool {
        self.reach().unknown
    }

    /// Whether it changes anything.
    pub fn mutates(&self) -> bool {
        self.reach().effect >= Effect::Repository
    }

    /// Whether it changes files.
    pub fn edits(&self) -> bool {
        self.reach().effect == Effect::Edit
    }

    /// Every text in its arguments, a line each.
    pub fn text(&self) -> String {
        let mut all = String::new();
        let mut rest = vec![&self.input];
        while let Some(value) = rest.pop() {
            match value {
                Value::String(text) => {
                    all.push_str(text);
                    all.push('\n');
                }
                Value::Array(items) => rest.extend(items),
                Value::Object(fields) => rest.extend(fields.values()),
                _ => {}
            }
        }
        all
    }

    /// The kind of subagent it starts; empty for other tools.
    pub fn agent(&self) -> &str {
        if self.class != Class::Agent {
            return "";
        }
        let named = AGENT_KEYS
            .iter()
            .find_map(|key| self.input.get(key)?.as_str());
        named.unwrap_or_default()
    }
}

impl Reach {
    /// An editor that is asked to show a file only looks at it.
    fn as_looking(&self, call: &Call<'_>) -> &Self {
        static LOOKING: Reach = Reach {
            effect: Effect::Read,
            paths: Vec::new(),
            unknown: false,
        };
        let views = call.class == Class::Write
            && call.input.get("command").and_then(Value::as_str) == Some("view");
        if views { &LOOKING } else { self }
    }
}

/// The command line in a shell's arguments: a text, a list of words, or `["bash", "-lc", line]`.
fn command(input: &Value) -> Option<String> {
    let value = COMMAND_KEYS.iter().find_map(|key| input.get(key))?;
    match value {
        Value::String(line) => Some(line.clone()),
        Value::Array(words) => {
            let words: Option<Vec<String>> = words
                .iter()
                .map(|word| Some(shell::quote(word.as_str()?)))
                .collect();
            Some(words?.join(" "))
        }
        // Codex' `local_shell`: `{"action": {"command": […]}}` arrives flattened; anything else is
        // no command line, and said to be one that cannot be read.
        _ => Some("(".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn call<'a>(name: &'a str, input: &Value) -> Call<'a> {
        Call::new(&Tools::default(), name, &input.to_string(), Some("/r"))
    }

    #[rstest]
    #[case("Write", json!({"file_path": "/r/src/../a", "content": "x"}), &["/r/a"], true)]
    #[case("edit", json!({"filePath": "src/a"}), &["/r/src/a"], true)]
    #[case("apply_patch", json!({"input": "*** Update File: a\n*** Add File: b/c\n"}), &["/r/a", "/r/b/c"], true)]
    #[case("write_to_file", json!({"path": "x"}), &["/r/x"], true)]
    #[case("str_replace_based_edit_tool", json!({"command": "view", "path": "x"}), &[], false)]
    #[case("read_file", json!({"absolute_path": "/r/x"}), &["/r/x"], false)]
    #[case("Bash", json!({"command": "rm -f src/x && echo hi > /tmp/y"}), &["/r/src/x", "/tmp/y"], true)]
    #[case("exec_command", json!({"cmd": "touch a", "workdir": "/r/sub"}), &["/r/sub/a"], true)]
    #[case("shell", json!({"command": ["bash", "-lc", "cd sub && rm a"]}), &["/r/sub/a"], true)]
    #[case("shell", json!({"command": ["rm", "a b"]}), &["/r/a b"], true)]
    #[case("Bash", json!({"command": "ls -l | grep x"}), &[], false)]
    #[case("Bash", json!({"command": 5}), &[], true)]
    #[case("mcp__x__y", json!({}), &[], true)]
    fn paths_and_effects_are_those_of_the_tool(
        #[case] name: &str,
        #[case] input: Value,
        #[case] paths: &[&str],
        #[case] mutates: bool,
    ) {
        let call = call(name, &input);
        assert_eq!(call.paths(), paths);
        assert_eq!(call.mutates(), mutates);
    }
}
