//! What a command line changes, and where.

use super::options::{has, positionals, value};
use super::programs::{CHECKS, GIT_READS, GIT_RECORDS, READS};
use super::word::Word;
use super::{Command, Cwd, Script, git};
use crate::policy::path;

/// How much a command changes; the greatest of a line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It looks at things.
    Read,
    /// It builds or tests: what it writes is made again at will.
    Check,
    /// It changes what a repository records, not its files.
    Repository,
    /// It changes files, or nobody knows that it does not.
    Edit,
}

/// What a line amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects {
    /// The greatest effect.
    pub effect: Effect,
    /// What it writes, seen from where it runs: files, or the directory a command works in.
    pub paths: Vec<String>,
    /// Paths that come up in commands nobody knows: it may change them.
    pub mentions: Vec<String>,
    /// It writes to places nobody knows.
    pub unknown_paths: bool,
}

/// What `script` changes.
pub fn effects(script: &Script) -> Effects {
    let mut all = Effects::none();
    for command in &script.commands {
        of_command(command, &mut all);
    }
    if script.unknown.is_some() {
        all.effect = Effect::Edit;
        all.unknown_paths = true;
    }
    all
}

fn of_command(command: &Command, all: &mut Effects) {
    of_program(command, all);
    for file in &command.writes {
        if !file.known().is_some_and(is_device) {
            all.raise(Effect::Edit);
            all.write(&command.cwd, file);
        }
    }
}

/// Files that `command` makes, as far as they are known.
pub(super) fn made(command: &Command) -> Vec<String> {
    let makes = matches!(
        command.program().as_deref(),
        Some("tee" | "cp" | "mv" | "ln" | "install" | "dd" | "rsync")
    );
    let mut all = Effects::none();
    if makes {
        of_program(command, &mut all);
    }
    for file in &command.writes {
        all.write(&command.cwd, file);
    }
    all.paths
}

fn of_program(command: &Command, all: &mut Effects) {
    let Some(name) = command.program() else {
        all.raise(Effect::Edit);
        all.unknown_paths = true;
        return;
    };
    let words = command.words.as_slice();
    match name.as_str() {
        "git" => of_git(command, all),
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
            let skip = usize::from(!has(words, "-e") && !has(words, "-f"));
            all.files(command, &["-e", "-f"], skip, usize::MAX);
        }
        "sed" if !words.iter().any(|w| writes_in_sed(&w.text)) => {}
        "awk" | "gawk" | "mawk"
            if !words
                .iter()
                .any(|w| w.text.contains(['>', '|']) || w.text.contains("system")) => {}
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
        "curl"
            if !["-o", "-O", "--output", "--remote-name"]
                .iter()
                .any(|o| has(words, o)) => {}
        "apply_patch" | "applypatch" => all.patch(command),
        name if READS.contains(&name) => {}
        name if is_check(name, words) => all.raise(Effect::Check),
        _ if command.code.as_deref().is_some_and(is_harmless) && !in_place(&name, words) => {}
        _ => {
            all.place(command.cwd.clone());
            all.mentioned(command);
        }
    }
}

impl Effects {
    fn none() -> Self {
        Self {
            effect: Effect::Read,
            paths: Vec::new(),
            mentions: Vec::new(),
            unknown_paths: false,
        }
    }

    fn raise(&mut self, effect: Effect) {
        self.effect = self.effect.max(effect);
    }

    fn write(&mut self, cwd: &Cwd, file: &Word) {
        match (cwd, file.known()) {
            (_, Some(file)) if file.starts_with('/') => self.add(path::normalize(file)),
            (Cwd::At(dir), Some(file)) => self.add(path::resolve(dir, file)),
            _ => self.unknown_paths = true,
        }
    }

    fn add(&mut self, path: String) {
        if !self.paths.contains(&path) {
            self.paths.push(path);
        }
    }

    /// It may change anything where it works.
    fn place(&mut self, cwd: Cwd) {
        self.raise(Effect::Edit);
        match cwd {
            Cwd::At(dir) => self.add(dir),
            Cwd::Unknown => self.unknown_paths = true,
        }
    }

    /// The paths in its arguments, its code and what it reads.
    fn mentioned(&mut self, command: &Command) {
        let stdin = match &command.stdin {
            super::Stdin::Text(text) => text.as_str(),
            _ => "",
        };
        let words = command.words.iter().skip(1).map(|word| word.text.as_str());
        let apart = |c: char| c.is_whitespace() || "'\"`=:,;()<>[]{}|&".contains(c);
        for token in words.chain([stdin]).flat_map(|text| text.split(apart)) {
            // An option's value may stick to its letter: `-C/r`.
            let glued = token.starts_with('-').then(|| token.get(2..)).flatten();
            let path = glued.filter(|rest| rest.starts_with('/')).unwrap_or(token);
            let absolute = path.starts_with('/') && !path.starts_with("//");
            let seen = match &command.cwd {
                _ if absolute => path::normalize(path),
                Cwd::At(dir) if path == ".." || (path.contains('/') && !path.starts_with('/')) => {
                    path::resolve(dir, path)
                }
                _ => continue,
            };
            if !self.mentions.contains(&seen) {
                self.mentions.push(seen);
            }
        }
    }

    /// Its arguments but the first `skip` are files it changes, at most `most`.
    fn files(&mut self, command: &Command, valued: &[&str], skip: usize, most: usize) {
        self.raise(Effect::Edit);
        let places = positionals(&command.words, valued);
        let files: Vec<&Word> = places
            .iter()
            .skip(skip)
            .take(most)
            .map(|at| &command.words[*at])
            .collect();
        if files.is_empty() || command.open {
            return self.place(command.cwd.clone());
        }
        for file in files {
            self.write(&command.cwd, file);
        }
    }

    /// It makes its last argument (`-t`: that directory); with `moves` the others go.
    fn copied(&mut self, command: &Command, moves: bool) {
        self.raise(Effect::Edit);
        let target = value(&command.words, Some("-t"), "--target-directory");
        let places = positionals(&command.words, &["-t", "-m", "-o", "-g", "-S", "-e"]);
        let files: Vec<&Word> = places.iter().map(|at| &command.words[*at]).collect();
        let Some((last, others)) = files.split_last() else {
            return self.place(command.cwd.clone());
        };
        match target {
            Some(ref target) => self.write(&command.cwd, target),
            None => self.write(&command.cwd, last),
        }
        if moves {
            others
                .iter()
                .for_each(|file| self.write(&command.cwd, file));
            if target.is_some() {
                self.write(&command.cwd, last);
            }
        }
        if others.is_empty() && target.is_none() || command.open {
            self.place(command.cwd.clone());
        }
    }

    fn patch(&mut self, command: &Command) {
        self.raise(Effect::Edit);
        let text = match &command.stdin {
            super::Stdin::Text(text) => Some(text.as_str()),
            _ => command.words.get(1).and_then(Word::known),
        };
        match text.map(crate::policy::patch::files) {
            Some(files) if !files.is_empty() => {
                for file in files {
                    self.write(&command.cwd, &Word::fixed(file));
                }
            }
            _ => self.unknown_paths = true,
        }
    }
}

fn of_git(command: &Command, all: &mut Effects) {
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
        all.place(git::cwd(command));
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

fn is_device(path: &str) -> bool {
    matches!(
        path,
        "/dev/null" | "/dev/stdout" | "/dev/stderr" | "/dev/tty"
    ) || path.starts_with("/dev/fd/")
}

fn is_check(name: &str, words: &[Word]) -> bool {
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

/// A `w` or `e` command in a sed script writes files or runs programs.
fn writes_in_sed(script: &str) -> bool {
    let ends = |flags: &str| flags.bytes().any(|b| b == b'w' || b == b'e');
    let substitutes = script
        .rsplit('/')
        .next()
        .filter(|_| script.starts_with("s/"));
    substitutes.is_some_and(ends)
        || script.starts_with("w ")
        || script.contains(";w ")
        || script.contains("/w ")
}

/// `perl -pi -e …` writes the files it reads.
fn in_place(name: &str, words: &[Word]) -> bool {
    let edits = |word: &Word| {
        let cluster = word.text.strip_prefix('-').unwrap_or_default();
        let flags = cluster.split('.').next().unwrap_or_default();
        !flags.starts_with(['-', 'M', 'r']) && flags.contains('i')
    };
    (name.starts_with("perl") || name.starts_with("ruby")) && words[1..].iter().any(edits)
}

/// Code that only computes and prints.
fn is_harmless(code: &str) -> bool {
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
