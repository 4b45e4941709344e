//! git's own options, which stand between it and its command.

use super::word::Word;
use super::{Command, Cwd};
use crate::policy::path;

/// Options of git whose value is the next word.
const VALUED: &[&str] = &[
    "-C",
    "-c",
    "--git-dir",
    "--work-tree",
    "--namespace",
    "--exec-path",
    "--super-prefix",
    "--config-env",
    "--attr-source",
    "--shallow-file",
];

/// Where git's command stands among the words of `git …`, its own options skipped.
pub(super) fn command_at(words: &[Word]) -> usize {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        if !word.is_option() {
            break;
        }
        at += if VALUED.contains(&word.text.as_str()) {
            2
        } else {
            1
        };
    }
    at.min(words.len())
}

/// Sections of its configuration that name no program and no command.
const HARMLESS: &[&str] = &[
    "user",
    "color",
    "advice",
    "init",
    "safe",
    "log",
    "column",
    "gc",
    "fetch",
    "pull",
    "rebase",
    "merge",
    "http",
    "commit",
    "push",
    "status",
    "branch",
    "submodule",
    "pack",
    "index",
];

/// Values that run nothing worth a rule.
const INERT: &[&str] = &[
    "", "true", "false", "yes", "no", "on", "off", "auto", "always", "never", "cat", "less", ":",
    "input", "default", "simple", "current",
];

/// Whether it is told that some command means another one, or runs another one.
pub(super) fn renames_commands(command: &Command) -> bool {
    let words = &command.words;
    let at = command_at(words);
    let own = words[..at]
        .windows(2)
        .any(|pair| match pair[0].text.as_str() {
            "-c" => !pair[1].known().is_some_and(is_harmless),
            "--config-env" => true,
            _ => false,
        });
    let glued = words[..at].iter().any(|word| {
        let text = word.text.as_str();
        text.starts_with("--config-env=") || text.starts_with("--exec-path=")
    });
    let configures = words.get(at).is_some_and(|word| word.text == "config");
    let asks = |word: &Word| {
        let text = word.text.as_str();
        text.starts_with("--get") || matches!(text, "--list" | "-l" | "get" | "list" | "--unset")
    };
    let rest = words.get(at..).unwrap_or_default();
    let sets = configures && !rest.iter().any(asks);
    own || glued || (sets && rest.iter().any(|word| is_decisive(&word.text)))
}

/// `section.key=value` that changes nothing about what is run.
fn is_harmless(setting: &str) -> bool {
    let (key, value) = setting.split_once('=').unwrap_or((setting, "true"));
    let key = key.to_ascii_lowercase();
    let section = key.split('.').next().unwrap_or_default();
    let inert = INERT.contains(&value) || value.bytes().all(|b| b.is_ascii_digit());
    let runs = key.ends_with("driver") || key.ends_with("cmd") || key.ends_with("helper");
    (HARMLESS.contains(&section) && !runs) || (inert && section != "alias")
}

/// Keys whose values are programs, or further configuration.
fn is_decisive(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with("alias.")
        || key.starts_with("include")
        || (key.starts_with("remote.") && key.ends_with(".push"))
        || matches!(
            key.as_str(),
            "core.fsmonitor" | "core.hookspath" | "core.sshcommand" | "diff.external"
        )
}

/// Where its command works: `-C` and `--work-tree` followed.
pub(super) fn cwd(command: &Command) -> Cwd {
    let at = command_at(&command.words);
    let mut cwd = command.cwd.clone();
    for pair in command.words[..at].windows(2) {
        if matches!(pair[0].text.as_str(), "-C" | "--work-tree" | "--git-dir") {
            cwd = enter(&cwd, &pair[1]);
        }
    }
    for word in &command.words[..at] {
        let named = ["--work-tree=", "--git-dir="];
        let tree = named
            .iter()
            .find_map(|option| word.text.strip_prefix(option));
        if let Some(tree) = tree {
            let tree = Word {
                text: tree.to_owned(),
                ..word.clone()
            };
            cwd = enter(&cwd, &tree);
        }
    }
    cwd
}

/// Where `cd to` leads from `cwd`.
pub(super) fn enter(cwd: &Cwd, to: &Word) -> Cwd {
    match (cwd, to.known()) {
        (_, Some(to)) if to.starts_with('/') => Cwd::At(path::normalize(to)),
        (Cwd::At(from), Some(to)) => Cwd::At(path::resolve(from, to)),
        _ => Cwd::Unknown,
    }
}

/// The command line that a command of git is given to run.
pub(super) fn script(words: &[Word]) -> Option<Word> {
    let at = command_at(words);
    let rest = words.get(at..)?;
    let name = rest.first()?.text.as_str();
    let transport = |word: &&Word| word.text.starts_with("ext::");
    match name {
        "rebase" => super::options::value(rest, Some("-x"), "--exec"),
        "difftool" => super::options::value(rest, Some("-x"), "--extcmd"),
        "grep" => {
            let glued = |word: &Word| {
                let pager = word.text.strip_prefix("--open-files-in-pager=");
                pager
                    .or_else(|| word.text.strip_prefix("-O"))
                    .map(Word::fixed)
            };
            rest.iter().find_map(glued)
        }
        "submodule" => {
            let each = rest.iter().position(|word| word.text == "foreach")?;
            let line = &rest[each + 1..];
            joined(&line[line.iter().position(|word| !word.is_option())?..])
        }
        "bisect" if rest.get(1).is_some_and(|word| word.text == "run") => joined(&rest[2..]),
        "filter-branch" | "daemon" | "credential" | "remote-ext" => Some(Word::unknown()),
        _ if rest.iter().any(|word| transport(&word)) => Some(Word::unknown()),
        "push" | "send-pack" => super::options::value(rest, None, "--receive-pack")
            .or_else(|| super::options::value(rest, None, "--exec")),
        "fetch" | "pull" | "ls-remote" | "fetch-pack" => {
            super::options::value(rest, None, "--upload-pack")
        }
        "clone" => super::options::value(rest, Some("-u"), "--upload-pack"),
        _ => None,
    }
}

/// Words that run as a command: one is a line, several are its words.
fn joined(words: &[Word]) -> Option<Word> {
    match words {
        [] => None,
        [line] => Some(line.clone()),
        words => {
            let known: Option<Vec<_>> = words.iter().map(Word::known).collect();
            let quoted =
                |words: Vec<&str>| -> Vec<String> { words.into_iter().map(super::quote).collect() };
            Some(known.map_or_else(Word::unknown, |words| Word::fixed(quoted(words).join(" "))))
        }
    }
}
