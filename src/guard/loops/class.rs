//! What kind of work a call does, as far as its name and arguments tell.

use serde_json::Value;

use crate::turn::folded_name;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Looks at something and changes nothing.
    Read,
    /// Changes something.
    Change,
    /// Waits for something that goes on by itself.
    Wait,
    /// The configuration says that it may be asked again and again.
    Polling,
    /// Cannot be told.
    Other,
}

/// Tools that only read, by the names the common agents give them.
const READ_ONLY: &[&str] = &[
    "read",
    "readfile",
    "glob",
    "grep",
    "search",
    "listfiles",
    "listdir",
    "ls",
    "viewfile",
    "codebasesearch",
    "filesearch",
    "grepsearch",
];

/// Tools that run a command.
const SHELLS: &[&str] = &[
    "bash",
    "shell",
    "localshell",
    "terminal",
    "runcommand",
    "executecommand",
    "execcommand",
    "runshellcommand",
    "runterminalcmd",
    "runinterminal",
    "exec",
];

/// Words in a tool's name that say it changes something.
const CHANGING: &[&str] = &[
    "write",
    "edit",
    "multiedit",
    "patch",
    "create",
    "replace",
    "insert",
    "delete",
    "remove",
    "move",
    "rename",
    "commit",
    "save",
    "update",
    "add",
    "set",
    "send",
    "post",
    "put",
    "apply",
    "submit",
    "publish",
    "upload",
    "install",
    "append",
];

/// Words in a tool's name that say it asks how something is going.
const WAITING: &[&str] = &[
    "wait", "sleep", "poll", "output", "status", "await", "monitor",
];

/// Commands that change files or repositories.
const CHANGING_COMMANDS: &[&str] = &[
    "mv", "cp", "mkdir", "rm", "rmdir", "touch", "chmod", "chown", "ln", "tee", "patch",
    "truncate", "install", "unzip", "tar",
];

/// The same, told by the word after it.
const CHANGING_PAIRS: &[(&str, &[&str])] = &[
    (
        "git",
        &[
            "add",
            "commit",
            "push",
            "pull",
            "merge",
            "rebase",
            "checkout",
            "switch",
            "restore",
            "reset",
            "apply",
            "am",
            "cherry-pick",
            "revert",
            "stash",
            "tag",
            "mv",
            "rm",
            "clone",
            "fetch",
        ],
    ),
    ("npm", &["install", "i", "ci", "uninstall"]),
    ("pnpm", &["install", "add", "remove"]),
    ("yarn", &["add", "install", "remove"]),
    ("pip", &["install", "uninstall"]),
    ("cargo", &["add", "remove", "install", "fmt", "fix"]),
    ("apt-get", &["install", "update", "remove"]),
    ("sed", &["-i"]),
];

/// The kind of the call of `name` with these arguments, where they could be read.
pub(super) fn kind(name: &str, arguments: Option<&Value>) -> Kind {
    let folded = folded_name(name);
    if SHELLS.contains(&folded.as_str()) {
        return arguments
            .and_then(command)
            .map_or(Kind::Other, |c| of_command(&c));
    }
    if is_read_only(name) {
        return Kind::Read;
    }
    let words = words(name);
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    if has(CHANGING) {
        Kind::Change
    } else if has(WAITING) {
        Kind::Wait
    } else {
        Kind::Other
    }
}

/// Whether the tool called `name` only reads.
pub(super) fn is_read_only(name: &str) -> bool {
    READ_ONLY.contains(&folded_name(name).as_str())
}

/// What a reading call reads: a path or pattern.
pub(super) fn target(arguments: &Value) -> Option<&str> {
    ["file_path", "filePath", "path", "pattern", "query"]
        .iter()
        .find_map(|key| arguments.get(key)?.as_str())
}

/// The command line of a shell call.
fn command(arguments: &Value) -> Option<String> {
    let value = arguments.get("command").or_else(|| arguments.get("cmd"))?;
    match value {
        Value::String(line) => Some(line.clone()),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            match words.as_slice() {
                // `["bash", "-lc", "real command"]`
                [_, flag, line] if flag.starts_with('-') && flag.ends_with('c') => {
                    Some((*line).to_owned())
                }
                words => Some(words.join(" ")),
            }
        }
        _ => None,
    }
}

fn of_command(line: &str) -> Kind {
    let mut waits = false;
    for part in line.split(['\n', ';', '|', '&']) {
        let mut words = part
            .split_whitespace()
            .skip_while(|word| *word == "sudo" || word.contains('='));
        let Some(first) = words.next() else { continue };
        let first = first.rsplit('/').next().unwrap_or(first);
        let second = words.next().unwrap_or_default();
        let pair = CHANGING_PAIRS.iter().find(|(name, _)| *name == first);
        let changes = CHANGING_COMMANDS.contains(&first)
            || pair.is_some_and(|(_, seconds)| seconds.contains(&second))
            || redirects(part);
        if changes {
            return Kind::Change;
        }
        waits |= matches!(first, "sleep" | "wait" | "ps" | "pgrep");
    }
    if waits { Kind::Wait } else { Kind::Other }
}

/// Whether the output goes to a file (`2>&1` and `>/dev/null` are none).
fn redirects(part: &str) -> bool {
    let mut rest = part;
    while let Some(at) = rest.find('>') {
        let target = rest[at + 1..].trim_start_matches('>').trim_start();
        let is_fd = rest[..at].ends_with('2');
        if !is_fd && !target.is_empty() && !target.starts_with("/dev/") && !target.starts_with('=')
        {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// The words of `apply_patch`, `applyPatch`, `mcp__files__write-file`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower = false;
    for c in name.chars() {
        let breaks = !c.is_alphanumeric() || (c.is_uppercase() && lower);
        if breaks {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        lower = c.is_lowercase();
    }
    words
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("Read", json!({}), Kind::Read)]
    #[case("list_files", json!({}), Kind::Read)]
    #[case("Grep", json!({}), Kind::Read)]
    #[case("Edit", json!({}), Kind::Change)]
    #[case("TodoWrite", json!({}), Kind::Change)]
    #[case("apply_patch", json!({}), Kind::Change)]
    #[case("mcp__github__create_issue", json!({}), Kind::Change)]
    #[case("BashOutput", json!({}), Kind::Wait)]
    #[case("get_status", json!({}), Kind::Wait)]
    #[case("settings", json!({}), Kind::Other)]
    #[case("Bash", json!({"command": "ls -l"}), Kind::Other)]
    #[case("Bash", json!({"command": "cargo test 2>&1 | tail -5"}), Kind::Other)]
    #[case("Bash", json!({"command": "git commit -m x"}), Kind::Change)]
    #[case("Bash", json!({"command": "cd a && git add ."}), Kind::Change)]
    #[case("Bash", json!({"command": "git status"}), Kind::Other)]
    #[case("Bash", json!({"command": "echo a > b"}), Kind::Change)]
    #[case("Bash", json!({"command": "make >/dev/null 2>&1"}), Kind::Other)]
    #[case("Bash", json!({"command": "sleep 5; cat log"}), Kind::Wait)]
    #[case("shell", json!({"command": ["bash", "-lc", "mv a b"]}), Kind::Change)]
    #[case("shell", json!({"command": ["rm", "a"]}), Kind::Change)]
    fn kinds_are_told_by_name_and_command(
        #[case] name: &str,
        #[case] arguments: Value,
        #[case] expected: Kind,
    ) {
        assert_eq!(kind(name, Some(&arguments)), expected);
    }
}
