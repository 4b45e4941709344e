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

/// Whether it is told that some command means another one.
pub(super) fn renames_commands(command: &Command) -> bool {
    let words = &command.words;
    let at = command_at(words);
    let own = words[..at].windows(2).any(|pair| {
        matches!(pair[0].text.as_str(), "-c" | "--config-env")
            && (!pair[1].fixed || is_alias(&pair[1].text))
    });
    let glued = words[..at]
        .iter()
        .any(|word| word.text.starts_with("--config-env="));
    let configures = words.get(at).is_some_and(|word| word.text == "config");
    own || glued || (configures && words[at..].iter().any(|word| is_alias(&word.text)))
}

fn is_alias(text: &str) -> bool {
    text.to_ascii_lowercase().starts_with("alias.")
}

/// Where its command works: `-C` and `--work-tree` followed.
pub(super) fn cwd(command: &Command) -> Cwd {
    let at = command_at(&command.words);
    let mut cwd = command.cwd.clone();
    for pair in command.words[..at].windows(2) {
        if matches!(pair[0].text.as_str(), "-C" | "--work-tree") {
            cwd = enter(&cwd, &pair[1]);
        }
    }
    for word in &command.words[..at] {
        if let Some(tree) = word.text.strip_prefix("--work-tree=") {
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

/// Commands of git that run a command line they are given, and the option that gives it.
pub(super) fn script(words: &[Word]) -> Option<&Word> {
    let at = command_at(words);
    let rest = words.get(at..)?;
    let name = rest.first()?.text.as_str();
    match name {
        "rebase" => super::options::value(rest, Some("-x"), "--exec").or_else(|| {
            let glued = |word: &&Word| word.text.starts_with("--exec=");
            rest.iter().find(glued)
        }),
        "submodule" => {
            let each = rest.iter().position(|word| word.text == "foreach")?;
            rest[each + 1..].iter().find(|word| !word.is_option())
        }
        _ => None,
    }
}
