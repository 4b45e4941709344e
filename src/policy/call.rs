//! One tool call as rules see it.

use std::sync::Arc;

use once_cell::sync::OnceCell;
use serde_json::Value;

use super::command_line::{self, UNREADABLE};
use super::shell::{self, Deploy, Effect, Script, Unknown};
use super::tools::{Class, Tools};
use super::{arguments, lease, patch, path};
use crate::turn::folded_name;

/// Arguments that name the directory a command runs in.
pub(super) const CWD_KEYS: &[&str] = &[
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

/// [`PATH_KEYS`] and lists of such, however they are spelt.
const PATH_NAMES: &[&str] = &[
    "filepath",
    "path",
    "notebookpath",
    "targetfile",
    "absolutepath",
    "relativepath",
    "relativeworkspacepath",
    "file",
    "filename",
    "dirpath",
    "directorypath",
    "oldpath",
    "newpath",
    "oldfilepath",
    "newfilepath",
    "outputpath",
    "source",
    "destination",
    "uri",
    "paths",
    "files",
    "filepaths",
];

/// Editors whose argument `command` may say `view`.
const VIEWERS: &[&str] = &["strreplaceeditor", "strreplacebasededittool", "editor"];

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
    /// Why nobody can tell what its arguments say.
    pub(super) fault: Option<arguments::Fault>,
    reach: OnceCell<Reach>,
    deploys: OnceCell<Result<Vec<Deploy>, Unknown>>,
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
        let (input, fault) = arguments::read(arguments);
        let class = match tools.class(name) {
            // Whatever it is called, it is told a command line.
            Class::Other if command_line::has_command(&input) => Class::Shell,
            class => class,
        };
        let command = match class {
            Class::Shell if fault.is_some() => UNREADABLE.to_owned(),
            Class::Shell => command_line::command(&input),
            _ => String::new(),
        };
        Self {
            name,
            class,
            input,
            command,
            fault,
            reach: OnceCell::new(),
            deploys: OnceCell::new(),
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

    /// A path as tools read it. What only the client's machine can tell (`~`, a drive) stays as it is:
    /// no absolute path can be compared with it.
    fn at_root(&self, path: &str) -> String {
        let path = path.trim();
        let path = path.strip_prefix("file://").unwrap_or(path);
        let drive = path.as_bytes().get(1) == Some(&b':');
        if path.starts_with('~') || drive || path.contains("..\\") {
            return path::normalize(path);
        }
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
        let mut paths: Vec<String> = paths.collect();
        for path in effects
            .mentions
            .iter()
            .map(|path| path::resolve(&cwd, path))
        {
            let ours = self
                .root
                .is_none_or(|root| path::within(&path, root) == Some(true));
            if (ours || path.starts_with("/etc/")) && !paths.contains(&path) {
                paths.push(path);
            }
        }
        Reach {
            effect: effects.effect,
            paths,
            unknown: effects.unknown_paths,
        }
    }

    fn file_paths(&self) -> Vec<String> {
        let mut named = Vec::new();
        named_paths(&self.input, false, &mut named);
        let mut paths: Vec<String> = named.into_iter().map(|path| self.at_root(path)).collect();
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

    /// What it commits, pushes, merges, starts or deploys.
    ///
    /// # Errors
    /// [`Unknown`] when it may, and nobody can tell.
    pub fn deploys(&self) -> Result<&[Deploy], Unknown> {
        let deploys = self.deploys.get_or_init(|| match self.class {
            Class::Shell => shell::deploys(&self.script()),
            _ => Ok(lease::of_tool(self)),
        });
        deploys.as_deref().map_err(|why| *why)
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
            && VIEWERS.contains(&folded_name(call.name).as_str())
            && call.input.get("command").and_then(Value::as_str) == Some("view");
        if views { &LOOKING } else { self }
    }
}

/// Every text under a key that names a path, wherever it stands; `named`: `value` is under one.
fn named_paths<'v>(value: &'v Value, named: bool, found: &mut Vec<&'v str>) {
    match value {
        Value::String(path) if named => found.push(path),
        Value::Array(items) => items
            .iter()
            .for_each(|item| named_paths(item, named, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let names = PATH_NAMES.contains(&folded_name(key).as_str());
                named_paths(value, names, found);
            }
        }
        _ => {}
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
