//! Programs that a line writes and then runs.

use super::code::interpreter;
use super::shells::SHELLS;
use super::word::{Word, program};
use super::{Command, Cwd, Script, effect};
use crate::policy::path;

/// A line that writes a script and runs it runs what nobody has read.
pub(super) fn spot_own_scripts(script: &mut Script) {
    let mut written: Vec<String> = Vec::new();
    // Programs that may be found by their names alone.
    let mut named: Vec<String> = Vec::new();
    let mut runs_it = false;
    for command in &script.commands {
        runs_it |= !written.is_empty() && runs_one_of(command, &written);
        written.extend(effect::made(command));
        named.extend(effect::made_names(command));
    }
    let by_name = |command: &Command| {
        let name = command.words.first().and_then(Word::known);
        name.is_some_and(|name| !name.contains('/') && named.iter().any(|made| made == name))
    };
    if !named.is_empty() && script.commands.iter().any(by_name) {
        return script.unknown("it writes a program and runs it");
    }
    // A group's output is noted with its first command, which may come after those that run it.
    let runs_it = runs_it
        || (!written.is_empty() && script.commands.iter().any(|c| runs_one_of(c, &written)));
    if runs_it {
        script.unknown("it writes a script and runs it");
    }
}

pub(super) fn runs_one_of(command: &Command, written: &[String]) -> bool {
    let Some(first) = command.words.first().and_then(Word::known) else {
        return false;
    };
    let is = |word: &str| {
        let seen = match (&command.cwd, word.starts_with('/')) {
            (Cwd::At(dir), false) => path::resolve(dir, word),
            _ => path::normalize(word),
        };
        written.contains(&seen)
    };
    let name = program(first);
    let interprets = SHELLS.contains(&name.as_str())
        || matches!(first, "." | "source")
        || interpreter(&name).is_some();
    let by_path = first.contains('/') && is(first);
    by_path || (interprets && command.words[1..].iter().filter_map(Word::known).any(is))
}
