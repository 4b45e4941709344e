//! What a command line changes, and where.

use super::changes::of_program;
use super::links::through_links;
use super::options::{positionals, value};
use super::word::Word;
use super::{Command, Cwd, Script};
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
    through_links(script, &mut all);
    all
}

/// The names of programs that `command` may make, wherever: they may be found by their names alone.
pub(super) fn made_names(command: &Command) -> Vec<String> {
    let makes = matches!(
        command.program().as_deref(),
        Some("tee" | "cp" | "mv" | "ln" | "install" | "rsync")
    );
    let last = command
        .words
        .last()
        .filter(|_| makes && command.words.len() > 1);
    let files = command.writes.iter().chain(last);
    let name = |word: &Word| {
        let (dir, name) = word.text.rsplit_once('/')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let in_path = dir.ends_with("bin") || !word.fixed;
        (in_path && !name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
    };
    files.filter_map(name).collect()
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

impl Effects {
    fn none() -> Self {
        Self {
            effect: Effect::Read,
            paths: Vec::new(),
            mentions: Vec::new(),
            unknown_paths: false,
        }
    }

    pub(super) fn raise(&mut self, effect: Effect) {
        self.effect = self.effect.max(effect);
    }

    pub(super) fn write(&mut self, cwd: &Cwd, file: &Word) {
        match (cwd, file.known()) {
            (_, Some(file)) if file.starts_with('/') => self.add(path::normalize(file)),
            (Cwd::At(dir), Some(file)) => self.add(path::resolve(dir, file)),
            _ => self.unknown_paths = true,
        }
    }

    pub(super) fn add(&mut self, path: String) {
        if !self.paths.contains(&path) {
            self.paths.push(path);
        }
    }

    /// It may change anything where it works.
    pub(super) fn place(&mut self, cwd: Cwd) {
        self.raise(Effect::Edit);
        match cwd {
            Cwd::At(dir) => self.add(dir),
            Cwd::Unknown => self.unknown_paths = true,
        }
    }

    /// The paths in its arguments, its code and what it reads.
    pub(super) fn mentioned(&mut self, command: &Command) {
        let stdin = match &command.stdin {
            super::Stdin::Text(text) => text.as_str(),
            _ => "",
        };
        let words = command.words.iter().skip(1).map(|word| word.text.as_str());
        // What an option is given may be a file's name without any `/`: `-C dir`, `--out=dir`, `-Pdir`.
        for (at, word) in command.words.iter().enumerate().skip(1) {
            let given = match word.text.strip_prefix('-') {
                None if at > 1 && command.words[at - 1].is_option() => word.text.as_str(),
                Some(option) if option.starts_with('-') => {
                    word.text.split_once('=').map_or("", |(_, value)| value)
                }
                Some(option) => option.get(1..).unwrap_or_default(),
                None => continue,
            };
            let letter = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            if let Cwd::At(dir) = &command.cwd
                && !given.is_empty()
                && !given.starts_with(['/', '-'])
                && given.chars().all(letter)
            {
                self.mention(path::resolve(dir, given));
            }
        }
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
            self.mention(seen);
        }
    }

    fn mention(&mut self, path: String) {
        if !self.mentions.contains(&path) {
            self.mentions.push(path);
        }
    }

    /// Its arguments but the first `skip` are files it changes, at most `most`.
    pub(super) fn files(&mut self, command: &Command, valued: &[&str], skip: usize, most: usize) {
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
    pub(super) fn copied(&mut self, command: &Command, moves: bool) {
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

    pub(super) fn patch(&mut self, command: &Command) {
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

fn is_device(path: &str) -> bool {
    matches!(
        path,
        "/dev/null" | "/dev/stdout" | "/dev/stderr" | "/dev/tty"
    ) || path.starts_with("/dev/fd/")
}
