//! Commands inside the arguments, the code and the input of other programs.

use super::code::MADE;
use super::matching::directly;
use super::query::Answer;
use super::word::{Word, program};
use super::{Command, Stdin};

/// sed and awk run programs where their scripts say so.
pub(super) fn of_filter(command: &Command, name: &str, pattern: &[&str]) -> Answer {
    let words = command.words.iter().skip(1);
    let runs = |word: &&Word| match name {
        "sed" | "gsed" => runs_in_sed(&word.text),
        _ => {
            let text = word.text.replace("||", "");
            word.text.contains('{') && (text.contains('|') || text.contains("system"))
        }
    };
    let mut answer = Answer::No;
    for word in words.filter(runs) {
        if mentions(&word.text, pattern) {
            return Answer::Yes;
        }
        answer = Answer::Unknown("it runs programs from other code");
    }
    answer
}

/// `1e command`, or `s/…/…/e`.
pub(super) fn runs_in_sed(script: &str) -> bool {
    script.split([';', '\n']).any(|part| {
        let part = part.trim_start_matches(|c: char| c.is_ascii_digit() || " ,$!{".contains(c));
        let part = match part.strip_prefix('/').and_then(|part| part.split_once('/')) {
            Some((_, rest)) => rest.trim_start(),
            None => part,
        };
        let flags = |part: &str| {
            let delimiter = part.strip_prefix('s')?.chars().next()?;
            let mut pieces = part.splitn(4, delimiter).skip(3);
            let flags = pieces.next()?;
            (!delimiter.is_alphanumeric()).then(|| flags.trim_end_matches('}').contains('e'))
        };
        part == "e" || part.starts_with("e ") || flags(part) == Some(true)
    })
}

/// Commands inside the arguments of a program that nobody knows.
pub(super) fn hidden(command: &Command, pattern: &[&str]) -> Answer {
    let words = &command.words;
    for (at, word) in words.iter().enumerate().skip(1) {
        if word.fixed && program(&word.text) == pattern[0] {
            let inner = Command {
                words: words[at..].to_vec(),
                ..command.clone()
            };
            match directly(&inner, pattern) {
                Answer::No => {}
                answer => return answer,
            }
        }
        let is_line = word.text.contains(char::is_whitespace);
        if is_line && says(&word.text, pattern) {
            return Answer::Yes;
        }
    }
    match &command.stdin {
        Stdin::Text(text) if says(text, pattern) => Answer::Yes,
        Stdin::Unknown if feeds_a_shell(words) => Answer::Unknown("it pipes text into a shell"),
        _ => Answer::No,
    }
}

/// Whether `line` is one, or has one in it, that runs `pattern`.
pub(super) fn says(line: &str, pattern: &[&str]) -> bool {
    mentions(line, pattern)
        || (line.contains(['\'', '"', '\\', '$']) && {
            let script = super::parsed(line);
            // Also behind a word of the program's own: `shell git …`, `!git …`.
            let runs = |command: &Command| {
                (0..command.words.len()).any(|at| {
                    let mut words = command.words[at..].to_vec();
                    let first = words[0]
                        .text
                        .trim_start_matches(['!', ':', '@', '-'])
                        .to_owned();
                    words[0].text = first;
                    let inner = Command {
                        words,
                        ..command.clone()
                    };
                    directly(&inner, pattern) == Answer::Yes
                })
            };
            script.commands.iter().any(runs)
        })
}

/// Programs that run what they read as command lines, here or elsewhere.
pub(super) fn feeds_a_shell(words: &[Word]) -> bool {
    let mut names = words.iter().filter_map(Word::known).map(program);
    let first = names.next().unwrap_or_default();
    matches!(first.as_str(), "ssh" | "at" | "batch" | "crontab")
        || names.any(|name| matches!(name.as_str(), "sh" | "bash" | "zsh" | "dash" | "ash"))
}

/// Whether the words of `pattern` come up in `text`, one after the other.
pub(super) fn mentions(text: &str, pattern: &[&str]) -> bool {
    let mut rest = text;
    pattern.iter().all(|word| match rest.find(word) {
        Some(at) => {
            rest = &rest[at + word.len()..];
            true
        }
        None => false,
    })
}

/// What in code of another language runs programs.
pub(super) const SPAWNS: &[&str] = &[
    "system",
    "popen",
    "subprocess",
    "exec",
    "spawn",
    "child_process",
    "Popen",
    "pty",
    "`",
    "qx",
    "%x",
    "passthru",
    "proc_open",
    "Open3",
    "eval",
    "getattr",
    "__import__",
    "fork",
    "base64",
    "fromhex",
    "decode(",
    "shell",
    "call-process",
    "start-process",
    "Start-Process",
    "Invoke-",
    "iex ",
    "syscmd",
    "open(\"|",
    "run(",
    "!",
];

pub(super) fn of_code(code: &str, pattern: &[&str]) -> Answer {
    if mentions(code, pattern) {
        return Answer::Yes;
    }
    if code.contains(MADE) || SPAWNS.iter().any(|word| code.contains(word)) {
        return Answer::Unknown("it runs programs from other code");
    }
    Answer::No
}
