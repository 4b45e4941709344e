//! What a command really runs: wrappers looked through, nested scripts read.

use super::git;
use super::options::{has, positionals, value};
use super::word::{Word, program};
use super::{Command, Cwd, Script, Stdin, parse_into};

/// Programs that run the command that follows, with their options that take a value, and how many
/// words of their own come first.
const WRAPPERS: &[(&str, &[&str], usize)] = &[
    ("builtin", &[], 0),
    ("exec", &["-a"], 0),
    ("nohup", &[], 0),
    ("time", &["-f", "-o", "--format", "--output"], 0),
    ("setsid", &[], 0),
    ("nice", &["-n", "--adjustment"], 0),
    ("ionice", &["-c", "-n", "-p", "--class"], 0),
    ("stdbuf", &["-i", "-o", "-e"], 0),
    (
        "sudo",
        &["-u", "-g", "-h", "-p", "-C", "-D", "-R", "-T", "-U"],
        0,
    ),
    ("doas", &["-u", "-C"], 0),
    ("timeout", &["-s", "-k", "--signal", "--kill-after"], 1),
    ("gtimeout", &["-s", "-k", "--signal", "--kill-after"], 1),
    ("chroot", &["--userspec", "--groups"], 1),
    ("unbuffer", &[], 0),
    ("busybox", &[], 0),
    ("rtk", &[], 0),
    ("caffeinate", &["-t", "-w"], 0),
    ("strace", &["-e", "-o", "-p", "-s"], 0),
    ("ltrace", &["-e", "-o", "-p", "-s"], 0),
    ("faketime", &["-f"], 1),
    ("dbus-run-session", &[], 0),
    ("xvfb-run", &["-n", "-s", "-e", "-f"], 0),
    ("proxychains", &["-f"], 0),
    ("proxychains4", &["-f"], 0),
    ("coproc", &[], 0),
    ("!", &[], 0),
];

const SHELLS: &[&str] = &[
    "sh", "bash", "zsh", "dash", "ksh", "ash", "fish", "rbash", "mksh",
];

/// Interpreters, and their options that take code.
const INTERPRETERS: &[(&str, &[&str])] = &[
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
    ("r", &["-e"]),
    ("rscript", &["-e"]),
];

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
    if let Some((_, valued, own)) = WRAPPERS.iter().find(|(wrapper, ..)| *wrapper == name) {
        return inner(command, positionals_from(valued, *own), depth, script);
    }
    match name.as_str() {
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
            inner(command, positionals_from(valued, 0), depth, script);
        }
        "parallel" => script.unknown("it makes up commands for `parallel`"),
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
            let body = command.words.get(1).cloned();
            nested(body.as_ref(), &command, depth, script);
        }
        "." | "source" => sourced(command, script),
        "find" => find(command, depth, script),
        "alias" => script.unknown("it gives a command another name"),
        name if SHELLS.contains(&name) => shell(command, depth, script),
        name => {
            if let Some(flags) = interpreter(name) {
                code(&mut command, flags);
            }
            if name == "git"
                && let Some(line) = git::script(&command.words)
            {
                let line = line.clone();
                nested(Some(&line), &command, depth, script);
            }
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

fn env(mut command: Command, depth: u32, script: &mut Script) {
    let split = value(&command.words, Some("-S"), "--split-string").cloned();
    if let Some(line) = split {
        return nested(Some(&line), &command, depth, script);
    }
    if let Some(dir) = value(&command.words, Some("-C"), "--chdir") {
        command.cwd = git::enter(&command.cwd, dir);
    }
    let start = |words: &[Word]| {
        let mut at = positionals_from(&["-u", "-C", "--unset", "--chdir"], 0)(words);
        while words.get(at).is_some_and(|word| word.text.contains('=')) {
            at += 1;
        }
        at
    };
    let decisive = |word: &Word| {
        word.text.starts_with("PATH=")
            || word.text.starts_with("BASH_ENV=")
            || word.text.starts_with("GIT_CONFIG")
    };
    if command.words.iter().any(decisive) {
        script.unknown("it sets a variable that changes what is run");
    }
    inner(command, start, depth, script);
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

fn nested(line: Option<&Word>, command: &Command, depth: u32, script: &mut Script) {
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
    if let Some(line) = value(&command.words, Some("-c"), "--command").cloned() {
        return nested(Some(&line), &command, depth, script);
    }
    if command.program().as_deref() == Some("flock") {
        return inner(command, positionals_from(&["-w", "-E"], 1), depth, script);
    }
    script.commands.push(command);
}

fn shell(command: Command, depth: u32, script: &mut Script) {
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
        if (cluster && text.contains('c')) || text == "--command" {
            let line = command.words[at + 1..]
                .iter()
                .find(|word| !word.is_option());
            return nested(line, &command, depth, script);
        }
        let valued = matches!(text, "-O" | "+O" | "-o" | "+o" | "--rcfile" | "--init-file");
        at += if valued { 2 } else { 1 };
    }
    let file = command
        .words
        .get(at)
        .filter(|word| word.text != "-" && word.text != "--");
    match file {
        Some(word) if !word.fixed || word.text.starts_with("/dev/") => {
            script.unknown("it runs text that is made while it runs");
        }
        Some(_) => script.commands.push(command),
        None => match &command.stdin {
            Stdin::Text(text) => parse_into(&text.clone(), command.cwd, depth + 1, script),
            Stdin::Unknown => script.unknown("it pipes text into a shell"),
            Stdin::Given => script.commands.push(command),
        },
    }
}

fn sourced(command: Command, script: &mut Script) {
    let known = command.words.get(1).and_then(Word::known);
    match known {
        Some(file) if !file.starts_with("/dev/") => script.commands.push(command),
        _ => script.unknown("it runs text that is made while it runs"),
    }
}

fn find(command: Command, depth: u32, script: &mut Script) {
    let runs = |word: &Word| matches!(word.text.as_str(), "-exec" | "-execdir" | "-ok" | "-okdir");
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

fn interpreter(name: &str) -> Option<&'static [&'static str]> {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let found = INTERPRETERS.iter().find(|(program, _)| *program == base);
    found.map(|(_, flags)| *flags)
}

/// Note the code that an interpreter is given on its command line or as its input.
fn code(command: &mut Command, flags: &[&str]) {
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
        if flags.contains(&word.text.as_str()) || flags.iter().any(cluster) {
            from_words = true;
            if let Some(next) = words.get(at + 1) {
                code.push_str(&next.text);
                code.push('\n');
                if !next.fixed {
                    code.push_str(MADE);
                }
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

/// A line that writes a script and runs it runs what nobody has read.
pub(super) fn spot_own_scripts(script: &mut Script) {
    let written: Vec<&str> = script
        .commands
        .iter()
        .flat_map(|command| {
            let tee = command.program().as_deref() == Some("tee");
            let files = if tee { &command.words[1..] } else { &[] };
            command.writes.iter().chain(files)
        })
        .filter_map(Word::known)
        .map(|path| path.strip_prefix("./").unwrap_or(path))
        .collect();
    if written.is_empty() {
        return;
    }
    let runs_it = script.commands.iter().any(|command| {
        let name = command
            .words
            .first()
            .and_then(Word::known)
            .unwrap_or_default();
        let is = |path: &str| written.contains(&path.strip_prefix("./").unwrap_or(path));
        let interprets = SHELLS.contains(&program(name).as_str())
            || matches!(name, "." | "source")
            || interpreter(&program(name)).is_some();
        is(name) || (interprets && command.words[1..].iter().filter_map(Word::known).any(is))
    });
    if runs_it {
        script.unknown("it writes a script and runs it");
    }
}
