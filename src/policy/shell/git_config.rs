//! What git is told its commands mean.

use super::Command;
use super::git::command_at;
use super::word::Word;

/// Sections of its configuration that name no program and no command.
pub(super) const HARMLESS: &[&str] = &[
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
pub(super) const INERT: &[&str] = &[
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
    own || glued
        || (sets && (rest.iter().any(|word| is_decisive(&word.text)) || sets_program(rest)))
}

/// `section.key=value` that changes nothing about what is run.
pub(super) fn is_harmless(setting: &str) -> bool {
    let (key, value) = setting.split_once('=').unwrap_or((setting, "true"));
    let key = key.to_ascii_lowercase();
    let section = key.split('.').next().unwrap_or_default();
    let inert = INERT.contains(&value) || value.bytes().all(|b| b.is_ascii_digit());
    let runs = key.ends_with("driver") || key.ends_with("cmd") || key.ends_with("helper");
    (HARMLESS.contains(&section) && !runs) || (inert && section != "alias")
}

/// Keys whose values are programs, or further configuration.
pub(super) fn is_decisive(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with("alias.")
        || key.starts_with("include")
        || key.starts_with("url.")
        || (key.starts_with("remote.") && key.ends_with(".push"))
        || matches!(
            key.as_str(),
            "core.fsmonitor"
                | "core.hookspath"
                | "core.sshcommand"
                | "diff.external"
                | "init.templatedir"
        )
}

/// Keys whose values name a program, which may be one of a single plain word.
pub(super) fn is_program(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let last = key.rsplit('.').next().unwrap_or_default();
    key.starts_with("pager.")
        || matches!(
            last,
            "pager"
                | "editor"
                | "askpass"
                | "clean"
                | "smudge"
                | "process"
                | "textconv"
                | "driver"
                | "cmd"
                | "command"
                | "program"
                | "helper"
                | "uploadpack"
                | "receivepack"
                | "vcs"
                | "packobjectshook"
        )
}

/// Whether `git config` sets a program to more than the name of one.
pub(super) fn sets_program(rest: &[Word]) -> bool {
    let plain = |word: &Word| {
        let letter = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        word.fixed && word.text.chars().all(letter)
    };
    let at = rest.iter().position(|word| is_program(&word.text));
    at.is_some_and(|at| rest.get(at + 1).is_some_and(|value| !plain(value)))
}

/// Commands that come with git, and those that everybody adds; any other may be an alias.
pub(super) const KNOWN: &[&str] = &[
    "add",
    "am",
    "annotate",
    "apply",
    "archive",
    "bisect",
    "blame",
    "branch",
    "bugreport",
    "bundle",
    "cat-file",
    "check-attr",
    "check-ignore",
    "check-mailmap",
    "check-ref-format",
    "checkout",
    "checkout-index",
    "cherry",
    "cherry-pick",
    "citool",
    "clean",
    "clone",
    "column",
    "commit",
    "commit-graph",
    "commit-tree",
    "config",
    "count-objects",
    "credential",
    "daemon",
    "describe",
    "diff",
    "diff-files",
    "diff-index",
    "diff-tree",
    "difftool",
    "fast-export",
    "fast-import",
    "fetch",
    "fetch-pack",
    "filter-branch",
    "filter-repo",
    "fmt-merge-msg",
    "for-each-ref",
    "for-each-repo",
    "format-patch",
    "fsck",
    "gc",
    "get-tar-commit-id",
    "grep",
    "gui",
    "hash-object",
    "help",
    "hook",
    "http-fetch",
    "http-push",
    "imap-send",
    "index-pack",
    "init",
    "instaweb",
    "interpret-trailers",
    "lfs",
    "log",
    "ls-files",
    "ls-remote",
    "ls-tree",
    "mailinfo",
    "mailsplit",
    "maintenance",
    "merge",
    "merge-base",
    "merge-file",
    "merge-index",
    "merge-tree",
    "mergetool",
    "mktag",
    "mktree",
    "multi-pack-index",
    "mv",
    "name-rev",
    "notes",
    "p4",
    "pack-objects",
    "pack-redundant",
    "pack-refs",
    "patch-id",
    "prune",
    "prune-packed",
    "pull",
    "push",
    "quiltimport",
    "range-diff",
    "read-tree",
    "rebase",
    "receive-pack",
    "reflog",
    "refs",
    "remote",
    "repack",
    "replace",
    "request-pull",
    "rerere",
    "reset",
    "restore",
    "rev-list",
    "rev-parse",
    "revert",
    "rm",
    "send-email",
    "send-pack",
    "shortlog",
    "show",
    "show-branch",
    "show-index",
    "show-ref",
    "sparse-checkout",
    "stage",
    "stash",
    "status",
    "stripspace",
    "submodule",
    "subtree",
    "svn",
    "switch",
    "symbolic-ref",
    "tag",
    "unpack-file",
    "unpack-objects",
    "update-index",
    "update-ref",
    "update-server-info",
    "upload-archive",
    "upload-pack",
    "var",
    "verify-commit",
    "verify-pack",
    "verify-tag",
    "version",
    "whatchanged",
    "worktree",
    "write-tree",
];

/// Whether what `command` tells git to do may be an alias of the repository's.
pub(super) fn may_be_alias(command: &Command) -> bool {
    let name = command
        .words
        .get(command_at(&command.words))
        .and_then(Word::known);
    name.is_some_and(|name| !name.is_empty() && !KNOWN.contains(&name))
}
