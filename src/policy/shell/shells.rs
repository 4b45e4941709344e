//! Shells and what they are given to run; programs that run one for each file.

use super::expand::{MADE_ARGUMENTS, expand, nested};
use super::word::Word;
use super::{Command, Script, Stdin, parse_into};

pub(super) const SHELLS: &[&str] = &[
    "sh", "bash", "zsh", "dash", "ksh", "ash", "fish", "rbash", "mksh",
];

pub(super) fn shell(command: Command, depth: u32, script: &mut Script) {
    let mut at = 1;
    while let Some(word) = command.words.get(at) {
        if !word.fixed {
            return script.unknown("it runs text that is made while it runs");
        }
        let text = word.text.as_str();
        if !(text.starts_with('-') || text.starts_with('+')) || text == "-" || text == "--" {
            break;
        }
        let cluster = text.starts_with('-') && !text.starts_with("--");
        if let Some(line) = text.strip_prefix("--command=") {
            return nested(Some(&Word::fixed(line)), &command, depth, script);
        }
        if cluster && text.contains('s') && !text.contains('c') {
            // The words that follow are arguments to what is read.
            at = command.words.len();
            break;
        }
        if matches!(text, "--rcfile" | "--init-file") {
            return script.unknown("it reads a script at its start");
        }
        if (cluster && text.contains('c')) || text == "--command" {
            let line = command.words[at + 1..]
                .iter()
                .find(|word| !word.is_option());
            if line.is_none() && command.open {
                return script.unknown(MADE_ARGUMENTS);
            }
            return nested(line, &command, depth, script);
        }
        let valued = matches!(text, "-O" | "+O" | "-o" | "+o");
        at += if valued { 2 } else { 1 };
    }
    let file = command
        .words
        .get(at)
        .filter(|word| word.text != "-" && word.text != "--");
    match file {
        Some(word) if !word.fixed || is_stream(&word.text) => {
            script.unknown("it runs text that is made while it runs");
        }
        Some(_) => script.commands.push(command),
        None if command.open => script.unknown(MADE_ARGUMENTS),
        None => match &command.stdin {
            Stdin::Text(text) => parse_into(&text.clone(), command.cwd, depth + 1, script),
            Stdin::Unknown => script.unknown("it pipes text into a shell"),
            Stdin::Given => script.commands.push(command),
        },
    }
}

/// Files that are what a process is given, not what stands on the disk.
pub(super) fn is_stream(path: &str) -> bool {
    path.starts_with("/dev/") || path.starts_with("/proc/")
}

pub(super) fn sourced(command: Command, script: &mut Script) {
    let known = command.words.get(1).and_then(Word::known);
    match known {
        Some(file) if !is_stream(file) => script.commands.push(command),
        _ => script.unknown("it runs text that is made while it runs"),
    }
}

pub(super) fn find(command: Command, depth: u32, script: &mut Script) {
    let fd = command.program().is_some_and(|name| name.starts_with("fd"));
    let runs = |word: &Word| match fd {
        true => matches!(word.text.as_str(), "-x" | "-X" | "--exec" | "--exec-batch"),
        false => matches!(word.text.as_str(), "-exec" | "-execdir" | "-ok" | "-okdir"),
    };
    let mut rest = command.words.as_slice();
    while let Some(at) = rest.iter().position(runs) {
        let after = &rest[at + 1..];
        let end = after
            .iter()
            .position(|word| word.text == ";" || word.text == "+");
        let end = end.unwrap_or(after.len());
        let mut inner = Command::new(after[..end].to_vec(), command.cwd.clone());
        // What is found stands where `{}` does; elsewhere the words are as written.
        inner.open = false;
        inner
            .words
            .iter_mut()
            .filter(|word| word.text == "{}")
            .for_each(|word| word.fixed = false);
        expand(inner, depth + 1, script);
        rest = &after[end..];
    }
    script.commands.push(command);
}
