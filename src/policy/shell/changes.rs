//! What programs change.

use super::effect::{Effect, Effects};
use super::options::{has, positionals, value};
use super::programs::{CHECKS, GIT_READS, GIT_RECORDS, READS};
use super::word::Word;
use super::{Command, Cwd, git, outputs, sed};

pub(super) fn of_program(command: &Command, all: &mut Effects) {
    let Some(name) = command.program() else {
        all.raise(Effect::Edit);
        all.unknown_paths = true;
        return;
    };
    let words = command.words.as_slice();
    match name.as_str() {
        "git" => of_git(command, all),
        "find" | "sort" | "uniq" | "xxd" | "yq" | "sed" | "tree" | "go" | "awk" | "gawk"
        | "mawk" | "nawk"
            if of_text_tool(&name, command, all) => {}
        "rm" | "rmdir" | "tee" | "unlink" | "shred" | "mkfifo" => {
            all.files(command, &[], 0, usize::MAX)
        }
        "mkdir" => all.files(command, &["-m"], 0, usize::MAX),
        "touch" => all.files(command, &["-d", "-t", "-r"], 0, usize::MAX),
        "truncate" => all.files(command, &["-s", "-r"], 0, usize::MAX),
        "chmod" | "chown" | "chgrp" => all.files(command, &[], 1, usize::MAX),
        "mv" => all.copied(command, true),
        "cp" | "ln" | "install" | "rsync" => all.copied(command, false),
        "dd" => {
            all.raise(Effect::Edit);
            for word in words {
                if let Some(file) = word.text.strip_prefix("of=") {
                    let file = Word {
                        text: file.to_owned(),
                        ..word.clone()
                    };
                    all.write(&command.cwd, &file);
                }
            }
        }
        "curl" if !outputs::curl_writes(words) => {}
        "curl" => {
            let dir = value(words, None, "--output-dir");
            let cwd = dir.map_or_else(|| command.cwd.clone(), |dir| git::enter(&command.cwd, &dir));
            outputs::of_curl(words).for_each(|file| all.write(&cwd, &file));
            all.place(cwd);
            all.mentioned(command);
        }
        "patch" => {
            let dir = value(words, Some("-d"), "--directory");
            let cwd = dir.map_or_else(|| command.cwd.clone(), |dir| git::enter(&command.cwd, &dir));
            all.place(cwd);
            all.mentioned(command);
        }
        "apply_patch" | "applypatch" => all.patch(command),
        name if READS.contains(&name) => {}
        name if is_check(name, words) => {
            all.raise(Effect::Check);
            for file in outputs::of_check(name, words) {
                all.raise(Effect::Edit);
                all.write(&command.cwd, &file);
            }
        }
        _ if command.code.as_deref().is_some_and(is_harmless) && !in_place(&name, words) => {}
        _ => {
            all.place(command.cwd.clone());
            all.mentioned(command);
        }
    }
}

/// Programs that read text, and change something when they are told to. Whether it is told here what
/// they change.
fn of_text_tool(name: &str, command: &Command, all: &mut Effects) -> bool {
    let words = command.words.as_slice();
    match name {
        "find"
            if words.iter().any(|w| {
                matches!(
                    w.text.as_str(),
                    "-delete" | "-fprint" | "-fls" | "-fprintf" | "-fprint0"
                )
            }) =>
        {
            all.files(command, &["-maxdepth"], 0, 1);
        }
        "find" => {}
        "sort" => {
            if let Some(file) = value(words, Some("-o"), "--output") {
                all.raise(Effect::Edit);
                all.write(&command.cwd, &file);
            }
        }
        "uniq" | "xxd" if positionals(words, &["-f", "-s", "-w", "-l", "-c", "-g"]).len() > 1 => {
            all.files(command, &["-f", "-s", "-w", "-l", "-c", "-g"], 1, 1);
        }
        "yq" if has(words, "-i") || has(words, "--inplace") => {
            all.place(command.cwd.clone());
            all.mentioned(command);
        }
        "sed"
            if has(words, "-i")
                || words
                    .iter()
                    .any(|w| w.text.starts_with("-i") || w.text.starts_with("--in-place")) =>
        {
            all.unknown_paths |= sed::writes(words);
            let skip = usize::from(!has(words, "-e") && !has(words, "-f"));
            all.files(command, &["-e", "-f"], skip, usize::MAX);
        }
        "sed" if !sed::writes(words) => {}
        "sed" => {
            all.raise(Effect::Edit);
            all.unknown_paths = true;
        }
        "tree" if value(words, Some("-o"), "--output").is_some() => {
            let file = value(words, Some("-o"), "--output").unwrap_or_else(Word::unknown);
            all.raise(Effect::Edit);
            all.write(&command.cwd, &file);
        }
        "go" if has(words, "-w") => {
            all.raise(Effect::Edit);
            all.unknown_paths = true;
        }
        "awk" | "gawk" | "mawk" | "nawk" if words.iter().any(|w| prints_into(&w.text)) => {
            all.raise(Effect::Edit);
            all.unknown_paths = true;
        }
        "awk" | "gawk" | "mawk" | "nawk" if !words[1..].iter().any(may_change_in_awk) => {}
        _ => return false,
    }
    true
}

pub(super) fn of_git(command: &Command, all: &mut Effects) {
    let at = git::command_at(&command.words);
    let rest = &command.words[at..];
    let Some(name) = rest.first() else { return };
    let Some(name) = name.known() else {
        return all.place(git::cwd(command));
    };
    let second = rest.get(1).map_or("", |word| word.text.as_str());
    let lists = match name {
        "branch" | "tag" => rest[1..].iter().all(|w| {
            matches!(
                w.text.as_str(),
                "-a" | "-r" | "-v" | "-vv" | "-l" | "--list" | "--show-current" | "--all"
            )
        }),
        "remote" => matches!(second, "" | "-v" | "show" | "get-url"),
        "stash" => matches!(second, "list" | "show"),
        "worktree" => second == "list",
        "log" | "show" | "diff" | "archive" | "shortlog" | "diff-tree"
            if value(rest, None, "--output").is_some() || name == "archive" && has(rest, "-o") =>
        {
            false
        }
        "symbolic-ref" => positionals(rest, &["-m"]).len() < 2 && !has(rest, "-d"),
        "reflog" => !matches!(second, "expire" | "delete"),
        "config" => ["--get", "--list", "-l", "--get-all", "get", "list"].contains(&second),
        name => GIT_READS.contains(&name),
    };
    if lists {
        return;
    }
    if !GIT_RECORDS.contains(&name) {
        let dir = value(rest, None, "--directory").filter(|_| matches!(name, "apply" | "am"));
        let cwd = git::cwd(command);
        all.place(dir.map_or(cwd.clone(), |dir| git::enter(&cwd, &dir)));
        return all.mentioned(command);
    }
    all.raise(Effect::Repository);
    // Worktrees, remotes and references belong to the repository, wherever one stands in it.
    if matches!(name, "add" | "commit") {
        match git::cwd(command) {
            Cwd::At(dir) => all.add(dir),
            Cwd::Unknown => all.unknown_paths = true,
        }
    }
}

pub(super) fn is_check(name: &str, words: &[Word]) -> bool {
    let found = CHECKS.iter().find(|(program, _)| *program == name);
    let Some((_, commands)) = found else {
        return false;
    };
    if commands.is_empty() {
        return !has(words, "--fix") && !has(words, "--write");
    }
    let first = words[1..]
        .iter()
        .find(|word| !word.text.starts_with(['-', '+']) || commands.contains(&word.text.as_str()));
    let fixes = has(words, "--fix") || has(words, "--write");
    if let Some(at) = words
        .iter()
        .position(|word| matches!(word.text.as_str(), "run" | "run-script"))
    {
        // A project's own script is what its name says.
        let script = words[at + 1..].iter().find(|word| !word.is_option());
        let harmless = ["test", "lint", "build", "check", "type", "spec"];
        return script
            .and_then(Word::known)
            .is_some_and(|name| harmless.iter().any(|start| name.starts_with(start)));
    }
    !fixes
        && first
            .and_then(Word::known)
            .is_some_and(|word| commands.contains(&word))
}

/// `print … > file`, in a script of awk.
pub(super) fn prints_into(script: &str) -> bool {
    script.match_indices("print").any(|(at, _)| {
        let rest = &script[at..];
        let end = rest.find([';', '}', '\n']).unwrap_or(rest.len());
        rest[..end].contains('>')
    })
}

/// Whether a word of awk's may be one that changes something: it runs programs, edits in place, or is
/// elsewhere.
pub(super) fn may_change_in_awk(word: &Word) -> bool {
    let text = word.text.replace("||", "");
    text.contains('|')
        || text.contains("system")
        || text.contains("inplace")
        || text.starts_with("-f")
        || text.starts_with("--file")
}

/// `perl -pi -e …` writes the files it reads.
pub(super) fn in_place(name: &str, words: &[Word]) -> bool {
    let edits = |word: &Word| {
        let cluster = word.text.strip_prefix('-').unwrap_or_default();
        let flags = cluster.split('.').next().unwrap_or_default();
        !flags.starts_with(['-', 'M', 'r']) && flags.contains('i')
    };
    (name.starts_with("perl") || name.starts_with("ruby")) && words[1..].iter().any(edits)
}

/// Code that only computes and prints.
pub(super) fn is_harmless(code: &str) -> bool {
    const TOUCHES: &[&str] = &[
        "open",
        "write",
        "remove",
        "unlink",
        "rename",
        "mkdir",
        "rmtree",
        "shutil",
        "os.",
        "system",
        "subprocess",
        "exec",
        "spawn",
        "fs.",
        "require",
        "Path",
        "File",
        "`",
        "eval",
        "import(",
        "\u{0}",
        "socket",
        "urllib",
        "fetch",
        "http",
        "__",
        "getattr",
        "qx",
        "truncate",
        "chmod",
    ];
    !TOUCHES.iter().any(|word| code.contains(word))
}
