//! Code of other languages.

use super::{Command, Stdin};

/// Interpreters, and their options that take code.
pub(super) const INTERPRETERS: &[(&str, &[&str])] = &[
    ("python", &["-c"]),
    ("pypy", &["-c"]),
    ("perl", &["-e", "-E"]),
    ("ruby", &["-e"]),
    ("node", &["-e", "--eval", "-p", "--print"]),
    ("nodejs", &["-e", "--eval", "-p", "--print"]),
    ("bun", &["-e", "--eval"]),
    ("deno", &["eval"]),
    ("php", &["-r"]),
    ("lua", &["-e"]),
    ("osascript", &["-e"]),
    ("expect", &["-c"]),
    ("tclsh", &[]),
    ("emacs", &["--eval", "-eval", "--execute"]),
    ("guile", &["-c"]),
    ("julia", &["-e", "-E"]),
    ("elixir", &["-e"]),
    ("erl", &["-eval"]),
    ("pwsh", &["-c", "-Command", "-EncodedCommand", "-e"]),
    ("powershell", &["-c", "-Command", "-EncodedCommand", "-e"]),
    ("groovy", &["-e"]),
    ("scala", &["-e"]),
    ("racket", &["-e"]),
    ("sbcl", &["--eval"]),
    ("ghc", &["-e"]),
    ("clojure", &["-e"]),
    ("bb", &["-e"]),
    ("nu", &["-c"]),
    ("xonsh", &["-c"]),
    ("tsx", &["-e", "--eval"]),
    ("m4", &[]),
    ("gdb", &["-ex", "-iex", "--eval-command"]),
    ("lldb", &["-o", "--one-line"]),
    ("r", &["-e"]),
    ("rscript", &["-e"]),
];

pub(super) fn interpreter(name: &str) -> Option<&'static [&'static str]> {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let found = INTERPRETERS.iter().find(|(program, _)| *program == base);
    found.map(|(_, flags)| *flags)
}

/// Note the code that an interpreter is given on its command line or as its input.
pub(super) fn code(command: &mut Command, flags: &[&str]) {
    let words = &command.words;
    let mut code = String::new();
    let mut from_words = false;
    for (at, word) in words.iter().enumerate().skip(1) {
        let cluster = |flag: &&str| {
            flag.len() == 2
                && word.text.len() > 2
                && !word.text.starts_with("--")
                && word.is_option()
                && word.text.ends_with(&flag[1..])
        };
        let glued = |flag: &&str| {
            let rest = word
                .text
                .strip_prefix(*flag)
                .filter(|rest| !rest.is_empty());
            rest.filter(|rest| flag.len() == 2 && rest.contains(|c: char| !c.is_ascii_alphabetic()))
        };
        if let Some(rest) = flags.iter().find_map(glued) {
            from_words = true;
            code.push_str(rest);
            code.push('\n');
            if !word.fixed {
                code.push_str(MADE);
            }
        } else if flags.contains(&word.text.as_str()) || flags.iter().any(cluster) {
            from_words = true;
            match words.get(at + 1) {
                Some(next) => {
                    code.push_str(&next.text);
                    code.push('\n');
                    if !next.fixed {
                        code.push_str(MADE);
                    }
                }
                None if command.open => code.push_str(MADE),
                None => {}
            }
        }
    }
    let has_file = words.iter().skip(1).any(|word| !word.is_option());
    match &command.stdin {
        Stdin::Text(text) if !from_words => {
            from_words = true;
            code.push_str(text);
        }
        Stdin::Unknown if !from_words && !has_file => {
            from_words = true;
            code.push_str(MADE);
        }
        _ => {}
    }
    command.code = from_words.then_some(code);
}

/// Stands in code for text that is made while it runs.
pub(super) const MADE: &str = "\u{0}";
