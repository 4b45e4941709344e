//! What a command really runs: wrappers looked through, nested scripts read.

use super::code::{code, interpreter};
use super::options::{has, positionals, value};
use super::shells::{SHELLS, find, shell, sourced};
use super::vars::{self, Meaning};
use super::word::{Word, program};
use super::wrappers::{WRAPPERS, hides, pager};
use super::{Command, Cwd, Script, Stdin, git, parse_into};

/// What `xargs` adds may be anything.
pub(super) const MADE_ARGUMENTS: &str = "its arguments are made while it runs";

/// Where the line goes on after `command`, if that is a `cd`.
pub(super) fn change_of_directory(command: &Command) -> Option<Cwd> {
    let name = command.words.first()?.known()?;
    match name {
        "cd" | "pushd" => {
            let to = positionals(&command.words, &[]).first().copied();
            Some(match to.and_then(|to| command.words.get(to)) {
                Some(word) if word.text != "-" => git::enter(&command.cwd, word),
                _ => Cwd::Unknown,
            })
        }
        "popd" => Some(Cwd::Unknown),
        "builtin" | "command" => {
            let rest = Command {
                words: command.words[1..].to_vec(),
                ..command.clone()
            };
            change_of_directory(&rest)
        }
        _ => None,
    }
}

/// Add `command`, or what it runs, to `script`.
pub(super) fn expand(mut command: Command, depth: u32, script: &mut Script) {
    if command.words.is_empty() {
        if !command.writes.is_empty() {
            command.words.push(Word::fixed(":"));
            script.commands.push(command);
        }
        return;
    }
    let Some(name) = command.program() else {
        script.commands.push(command);
        return;
    };
    // `git-push` is `git push` by another name.
    if let Some(sub) = name.strip_prefix("git-").filter(|sub| !sub.is_empty()) {
        let words = [Word::fixed("git"), Word::fixed(sub)];
        command.words.splice(..1, words);
        return expand(command, depth, script);
    }
    if name == "exec" && command.words.len() == 1 && command.stdin != Stdin::Given {
        return script.unknown("what it reads is replaced");
    }
    if matches!(name.as_str(), "time" | "strace" | "ltrace")
        && let Some(file) = value(&command.words, Some("-o"), "--output")
    {
        command.writes.push(file);
    }
    if let Some((_, valued, own)) = WRAPPERS.iter().find(|(wrapper, ..)| *wrapper == name) {
        return inner(command, positionals_from(valued, *own), depth, script);
    }
    if let Some(why) = hides(&name, &command.words) {
        return script.unknown(why);
    }
    match name.as_str() {
        "sort" if value(&command.words, None, "--compress-program").is_some() => {
            let line = value(&command.words, None, "--compress-program");
            nested(line.as_ref(), &command, depth, script);
            script.commands.push(command);
        }
        "man" | "bat" if pager(&command.words).is_some() => {
            let line = pager(&command.words);
            nested(line.as_ref(), &command, depth, script);
            script.commands.push(command);
        }
        "env" => env(command, depth, script),
        "command" if has(&command.words, "-v") || has(&command.words, "-V") => {
            script.commands.push(command);
        }
        "command" => inner(command, positionals_from(&[], 0), depth, script),
        "xargs" => {
            command.open = true;
            let valued = &[
                "-I",
                "-n",
                "-P",
                "-L",
                "-d",
                "-a",
                "-s",
                "-E",
                "-i",
                "--max-args",
            ];
            fill_in(&mut command);
            inner(command, positionals_from(valued, 0), depth, script);
        }
        "fd" | "fdfind" => find(command, depth, script),
        "eval" => joined(&command, 1, depth, script),
        "watch" => {
            let at = positionals(&command.words, &["-n", "--interval"]);
            match at.first() {
                Some(at) => joined(&command, *at, depth, script),
                None => script.commands.push(command),
            }
        }
        "flock" | "script" | "su" => scripted(command, depth, script),
        "trap" => {
            let at = positionals(&command.words, &[]).first().copied();
            let body = at.and_then(|at| command.words.get(at)).cloned();
            nested(body.as_ref(), &command, depth, script);
        }
        "." | "source" => sourced(command, script),
        "find" => find(command, depth, script),
        name if SHELLS.contains(&name) => shell(command, depth, script),
        name => {
            if let Some(flags) = interpreter(name) {
                code(&mut command, flags);
            }
            if name == "git"
                && let Some(line) = git::script(&command.words)
            {
                nested(Some(&line), &command, depth, script);
            }
            inner_shell(&command, depth, script);
            script.commands.push(command);
        }
    }
}

/// Finds the first word of the wrapped command.
fn positionals_from(valued: &'static [&'static str], own: usize) -> impl Fn(&[Word]) -> usize {
    move |words| {
        let mut at = 1;
        while let Some(word) = words.get(at) {
            if word.text == "--" {
                at += 1;
                break;
            }
            if !word.is_option() {
                break;
            }
            at += if valued.contains(&word.text.as_str()) {
                2
            } else {
                1
            };
        }
        at + own
    }
}

fn inner(mut command: Command, start: impl Fn(&[Word]) -> usize, depth: u32, script: &mut Script) {
    let at = start(&command.words);
    if at >= command.words.len() {
        if command.open && command.program().as_deref() != Some("xargs") {
            return script.unknown(MADE_ARGUMENTS);
        }
        if command.open && at == command.words.len() {
            // `xargs` alone echoes.
            command.open = false;
        }
        script.commands.push(command);
        return;
    }
    command.words.drain(..at);
    if depth > super::MAX_DEPTH {
        return script.unknown("it is nested too deep");
    }
    expand(command, depth + 1, script);
}

/// A program nobody knows that is given a shell with a line to run, or an interpreter with code.
fn inner_shell(command: &Command, depth: u32, script: &mut Script) {
    if super::matching::only_reads(command) || depth > super::MAX_DEPTH {
        return;
    }
    for at in 1..command.words.len().saturating_sub(1) {
        let Some(name) = command.words[at].known().map(program) else {
            continue;
        };
        let runs = SHELLS.contains(&name.as_str()) || interpreter(&name).is_some();
        let with_options = command.words[at + 1].is_option();
        if runs && with_options {
            let inner = Command {
                words: command.words[at..].to_vec(),
                writes: Vec::new(),
                ..command.clone()
            };
            return expand(inner, depth + 1, script);
        }
    }
}

/// Words of `xargs` that what it reads is put into are not known.
fn fill_in(command: &mut Command) {
    let place = value(&command.words, Some("-I"), "--replace");
    let place = place.map_or_else(|| "{}".to_owned(), |place| place.text);
    let filled = |word: &&mut Word| !place.is_empty() && word.text.contains(&place);
    // The option itself names the place too; it is taken away with the wrapper.
    let words = command.words.iter_mut().skip(1);
    words.filter(filled).for_each(|word| word.fixed = false);
}

fn env(mut command: Command, depth: u32, script: &mut Script) {
    if let Some(line) = value(&command.words, Some("-S"), "--split-string") {
        return nested(Some(&line), &command, depth, script);
    }
    if let Some(dir) = value(&command.words, Some("-C"), "--chdir") {
        command.cwd = git::enter(&command.cwd, &dir);
    }
    let start = |words: &[Word]| {
        let mut at = positionals_from(&["-u", "-C", "--unset", "--chdir"], 0)(words);
        while words.get(at).is_some_and(|word| word.text.contains('=')) {
            at += 1;
        }
        at
    };
    let own = start(&command.words).min(command.words.len());
    for word in &command.words[1..own.max(1)] {
        let Some((name, text)) = word.text.split_once('=') else {
            continue;
        };
        let set = Word {
            text: text.to_owned(),
            fixed: word.fixed,
            span: None,
        };
        assigned(name, Some(&set), &command.cwd, depth, script);
    }
    inner(command, start, depth, script);
}

/// A variable is set for what runs after.
pub(super) fn assigned(
    name: &str,
    value: Option<&Word>,
    cwd: &Cwd,
    depth: u32,
    script: &mut Script,
) {
    match (vars::meaning(name, value), value.map(Word::known)) {
        (Meaning::None, _) | (Meaning::Script, None) => {}
        (Meaning::Script, Some(Some(line))) => {
            parse_into(line, cwd.clone(), depth + 1, script);
        }
        _ => script.unknown("it sets a variable that changes what is run"),
    }
}

/// The words from `at` on are one script.
fn joined(command: &Command, at: usize, depth: u32, script: &mut Script) {
    let words = command.words.get(at..).unwrap_or_default();
    let known: Option<Vec<&str>> = words.iter().map(Word::known).collect();
    match known {
        Some(words) => parse_into(&words.join(" "), command.cwd.clone(), depth + 1, script),
        None => script.unknown("it runs text that is made while it runs"),
    }
}

pub(super) fn nested(line: Option<&Word>, command: &Command, depth: u32, script: &mut Script) {
    match line.map(Word::known) {
        Some(Some(line)) => {
            let line = line.strip_prefix("--exec=").unwrap_or(line);
            parse_into(line, command.cwd.clone(), depth + 1, script);
        }
        Some(None) => script.unknown("it runs text that is made while it runs"),
        None => {}
    }
}

/// `flock FILE -c LINE`, `script -c LINE`, `su -c LINE`; or `flock FILE COMMAND`.
fn scripted(command: Command, depth: u32, script: &mut Script) {
    if let Some(line) = value(&command.words, Some("-c"), "--command") {
        return nested(Some(&line), &command, depth, script);
    }
    if command.program().as_deref() == Some("flock") {
        return inner(command, positionals_from(&["-w", "-E"], 1), depth, script);
    }
    script.commands.push(command);
}
