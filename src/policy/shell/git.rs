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

/// Where its command works: `-C` and `--work-tree` followed.
pub fn cwd(command: &Command) -> Cwd {
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

/// A working tree that comes or goes; its path is seen from where git works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worktree {
    /// `git worktree add`.
    Added {
        /// Where.
        path: String,
        /// The branch checked out in it, where it is named.
        branch: Option<String>,
    },
    /// `git worktree remove`.
    Removed {
        /// Which.
        path: String,
    },
}

/// What `command` does to working trees.
pub fn worktree(command: &Command) -> Option<Worktree> {
    let rest = command.words.get(command_at(&command.words)..)?;
    if rest.first()?.text != "worktree" {
        return None;
    }
    let places = super::options::positionals(rest, &["-b", "-B", "--reason"]);
    let word = |n: usize| rest.get(*places.get(n)?)?.known().map(str::to_owned);
    let path = word(1)?;
    match rest.get(*places.first()?)?.text.as_str() {
        "add" => {
            let new = super::options::value(rest, Some("-b"), "-b");
            let new = new.or_else(|| super::options::value(rest, Some("-B"), "-B"));
            let new = new.and_then(|word| word.known().map(str::to_owned));
            Some(Worktree::Added {
                path,
                branch: new.or_else(|| word(2)),
            })
        }
        "remove" => Some(Worktree::Removed { path }),
        _ => None,
    }
}

/// Whether another branch may be checked out after `command`.
pub fn moves_head(command: &Command) -> bool {
    let at = command_at(&command.words);
    let name = command.words.get(at).map_or("", |word| word.text.as_str());
    matches!(name, "checkout" | "switch" | "bisect" | "rebase" | "pull")
}
