//! What rules ask about a command line.

use super::expand::MADE;
use super::options::has;
use super::word::{Word, program};
use super::{Command, Script, Stdin, git};

/// It cannot be told; why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown(pub &'static str);

/// Whether the answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Unknown(&'static str),
}

/// Programs whose arguments are data to them, never commands.
const READERS: &[&str] = &[
    "echo",
    "printf",
    "grep",
    "egrep",
    "fgrep",
    "rg",
    "ag",
    "ack",
    "cat",
    "ls",
    "head",
    "tail",
    "less",
    "more",
    "wc",
    "sort",
    "uniq",
    "cut",
    "tr",
    "diff",
    "test",
    "[",
    "which",
    "type",
    "man",
    "jq",
    "yq",
    "touch",
    "mkdir",
    "rm",
    "cp",
    "mv",
    "chmod",
    "cd",
    "git",
    "true",
    "false",
    ":",
    "export",
    "tee",
    "find",
    "gh",
    "basename",
    "dirname",
    "realpath",
    "stat",
    "file",
    "sleep",
    "kill",
    "date",
    "cargo",
    "command",
    "fd",
    "tree",
    "apply_patch",
    "bat",
];

/// Whether the arguments of `command` are data to it.
pub(super) fn only_reads(command: &Command) -> bool {
    command
        .program()
        .is_some_and(|name| READERS.contains(&name.as_str()))
}

/// Whether the line runs one of `patterns`: `git commit`, `cargo test`, `git push --force`. Options of
/// the program may stand anywhere; options in a pattern must be there.
///
/// # Errors
/// [`Unknown`] when it may, and nobody can tell.
pub fn runs<P: AsRef<str>>(script: &Script, patterns: &[P]) -> Result<bool, Unknown> {
    let mut unknown = script.unknown;
    for pattern in patterns {
        let pattern: Vec<&str> = pattern.as_ref().split_whitespace().collect();
        for command in &script.commands {
            match of_command(command, &pattern) {
                Answer::Yes => return Ok(true),
                Answer::No => {}
                Answer::Unknown(why) => unknown = unknown.or(Some(why)),
            }
        }
    }
    unknown.map_or(Ok(false), |why| Err(Unknown(why)))
}

/// Whether every command of the line is one of `patterns`.
///
/// # Errors
/// [`Unknown`] as [`runs`].
pub fn only<P: AsRef<str>>(script: &Script, patterns: &[P]) -> Result<bool, Unknown> {
    if let Some(why) = script.unknown {
        return Err(Unknown(why));
    }
    let matches = |command: &Command| {
        let mut patterns = patterns.iter();
        let plain = command.writes.is_empty();
        plain
            && patterns.any(|pattern| {
                let pattern: Vec<&str> = pattern.as_ref().split_whitespace().collect();
                directly(command, &pattern) == Answer::Yes
            })
    };
    Ok(!script.commands.is_empty() && script.commands.iter().all(matches))
}

/// The `index`th word after the first command that is `pattern` that is no option nor an option's
/// value.
///
/// # Errors
/// [`Unknown`] when such a command may run, or the word is not known.
pub fn arg(script: &Script, pattern: &str, index: usize) -> Result<Option<String>, Unknown> {
    let words: Vec<&str> = pattern.split_whitespace().collect();
    for command in &script.commands {
        if directly(command, &words) != Answer::Yes {
            continue;
        }
        let rest = after(command, &words);
        let valued: &[&str] = match pattern {
            "git worktree add" => &["-b", "-B", "--reason"],
            "git commit" => &[
                "-m",
                "-F",
                "-C",
                "-c",
                "-t",
                "--message",
                "--author",
                "--date",
            ],
            _ => &[],
        };
        let places = super::options::positionals(rest, valued);
        let found = places.get(index).and_then(|at| rest.get(*at));
        return match found {
            None => Ok(None),
            Some(word) => word
                .known()
                .map(|word| Some(word.to_owned()))
                .ok_or(Unknown(MADE_WORD)),
        };
    }
    script.unknown.map_or(Ok(None), |why| Err(Unknown(why)))
}

/// All values of an option (`-m`, `--message`) of commands that are `pattern`, in order.
///
/// # Errors
/// [`Unknown`] when one is not known.
pub fn flags(script: &Script, pattern: &str, names: &[&str]) -> Result<Vec<String>, Unknown> {
    let words: Vec<&str> = pattern.split_whitespace().collect();
    let mut values = Vec::new();
    for command in script
        .commands
        .iter()
        .filter(|c| directly(c, &words) == Answer::Yes)
    {
        let rest = after(command, &words);
        for (at, word) in rest.iter().enumerate().skip(1) {
            let value = names.iter().find_map(|name| {
                if word.text == *name || is_cluster_of(&word.text, name) {
                    return rest.get(at + 1).map(|next| (next.text.clone(), next.fixed));
                }
                let glued = match name.starts_with("--") {
                    true => word.text.strip_prefix(*name)?.strip_prefix('='),
                    false => word
                        .text
                        .strip_prefix(*name)
                        .filter(|rest| !rest.is_empty()),
                };
                glued.map(|text| (text.to_owned(), word.fixed))
            });
            match value {
                Some((text, true)) => values.push(text),
                Some((_, false)) => return Err(Unknown(MADE_WORD)),
                None => {}
            }
        }
    }
    script.unknown.map_or(Ok(values), |why| Err(Unknown(why)))
}

/// `-am` ends in `-m`: the value of `-m` follows.
fn is_cluster_of(word: &str, name: &str) -> bool {
    let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphabetic());
    name.len() == 2
        && word.len() > 2
        && !word.starts_with("--")
        && word.starts_with('-')
        && letters(&word[1..])
        && word.ends_with(&name[1..])
        && word[1..word.len() - 1]
            .bytes()
            .all(|b| b"asvneqpz".contains(&b))
}

const MADE_WORD: &str = "a word is made while it runs";

/// The words from the last word of `pattern` on.
fn after<'a>(command: &'a Command, pattern: &[&str]) -> &'a [Word] {
    let last = pattern.last().copied().unwrap_or_default();
    let at = command.words.iter().position(|word| word.text == last);
    &command.words[at.unwrap_or(0)..]
}

fn of_command(command: &Command, pattern: &[&str]) -> Answer {
    if let Some(code) = &command.code {
        return of_code(code, pattern);
    }
    match directly(command, pattern) {
        Answer::No => {}
        answer => return answer,
    }
    let name = command.program().unwrap_or_default();
    if let "sed" | "gsed" | "awk" | "gawk" | "mawk" | "nawk" = name.as_str() {
        return of_filter(command, &name, pattern);
    }
    if READERS.contains(&name.as_str()) || pattern.first() == Some(&name.as_str()) {
        return Answer::No;
    }
    hidden(command, pattern)
}

/// Whether the command itself is `pattern`.
fn directly(command: &Command, pattern: &[&str]) -> Answer {
    let Some((wanted, rest)) = pattern.split_first() else {
        return Answer::No;
    };
    let Some(name) = command.program() else {
        return Answer::Unknown("the program's name is made while it runs");
    };
    if name != *wanted {
        return Answer::No;
    }
    let (flags, words): (Vec<&str>, Vec<&str>) =
        rest.iter().partition(|word| word.starts_with('-'));
    let answer = match name.as_str() {
        "git" if git::renames_commands(command) => {
            return Answer::Unknown("it gives a command of git another name");
        }
        "git" => in_order(
            &command.words[git::command_at(&command.words)..],
            &words,
            command.open,
            false,
        ),
        _ => in_order(&command.words[1..], &words, command.open, true),
    };
    match answer {
        Answer::Yes if flags.iter().all(|flag| has_flag(command, flag)) => Answer::Yes,
        Answer::Yes
            if command.open
                || command
                    .words
                    .iter()
                    .any(|word| !word.fixed && !word.text.starts_with(['/', '.']))
                    && !flags.is_empty() =>
        {
            Answer::Unknown(MADE_WORD)
        }
        Answer::Yes => Answer::No,
        answer => answer,
    }
}

fn has_flag(command: &Command, flag: &str) -> bool {
    let words = &command.words;
    if has(words, flag) {
        return true;
    }
    // The usual readers of options take any beginning of a long one.
    let short_for = |word: &Word| {
        let text = word.text.split('=').next().unwrap_or_default();
        text.len() > 3 && !WHOLE.contains(&text) && text.starts_with("--") && flag.starts_with(text)
    };
    if words.iter().skip(1).any(short_for) {
        return true;
    }
    // `git push origin +main` is forced, and so is a mirror.
    let forces = matches!(flag, "-f" | "--force") && command.program().as_deref() == Some("git");
    let rest = &words[git::command_at(words)..];
    let pushes = rest.first().is_some_and(|word| word.text == "push");
    forces
        && pushes
        && rest
            .iter()
            .any(|word| word.text.starts_with('+') || word.text == "--mirror")
}

/// Options that are no beginning of another one.
const WHOLE: &[&str] = &[
    "--force",
    "--all",
    "--no-verify",
    "--delete",
    "--dry-run",
    "--hard",
];

/// sed and awk run programs where their scripts say so.
fn of_filter(command: &Command, name: &str, pattern: &[&str]) -> Answer {
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
fn runs_in_sed(script: &str) -> bool {
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

/// Whether `words` begin with `wanted`, options left out. With `loose`, a word after an option may be
/// its value.
fn in_order(words: &[Word], wanted: &[&str], open: bool, loose: bool) -> Answer {
    if wanted.is_empty() {
        return Answer::Yes;
    }
    // How many of `wanted` may have been matched so far; there is more than one possibility while
    // it is not known which words are values of options.
    let mut possible = vec![0];
    let mut after_option = false;
    let mut unknown = false;
    for word in words {
        if word.is_option() || (loose && word.text.starts_with('+')) {
            after_option = loose;
            continue;
        }
        let mut next = Vec::new();
        for matched in possible {
            match word.known() {
                None => unknown = true,
                Some(text) if text == wanted[matched] => next.push(matched + 1),
                Some(_) => {}
            }
            if after_option {
                next.push(matched);
            }
        }
        next.dedup();
        if next.contains(&wanted.len()) {
            return Answer::Yes;
        }
        possible = next;
        after_option = false;
        if possible.is_empty() {
            break;
        }
    }
    if unknown {
        Answer::Unknown(MADE_WORD)
    } else if open && !possible.is_empty() {
        Answer::Unknown("its arguments are made while it runs")
    } else {
        Answer::No
    }
}

/// Commands inside the arguments of a program that nobody knows.
fn hidden(command: &Command, pattern: &[&str]) -> Answer {
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
fn says(line: &str, pattern: &[&str]) -> bool {
    mentions(line, pattern)
        || (line.contains(['\'', '"', '\\', '$']) && {
            let script = super::parsed(line);
            let direct = |command: &Command| directly(command, pattern) == Answer::Yes;
            script.commands.iter().any(direct)
        })
}

/// Programs that run what they read as command lines, here or elsewhere.
fn feeds_a_shell(words: &[Word]) -> bool {
    let mut names = words.iter().filter_map(Word::known).map(program);
    let first = names.next().unwrap_or_default();
    matches!(first.as_str(), "ssh" | "at" | "batch" | "crontab")
        || names.any(|name| matches!(name.as_str(), "sh" | "bash" | "zsh" | "dash" | "ash"))
}

/// Whether the words of `pattern` come up in `text`, one after the other.
fn mentions(text: &str, pattern: &[&str]) -> bool {
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
const SPAWNS: &[&str] = &[
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
];

fn of_code(code: &str, pattern: &[&str]) -> Answer {
    if mentions(code, pattern) {
        return Answer::Yes;
    }
    if code.contains(MADE) || SPAWNS.iter().any(|word| code.contains(word)) {
        return Answer::Unknown("it runs programs from other code");
    }
    Answer::No
}

/// [`arg`] for a path: seen from where the line runs.
///
/// # Errors
/// [`Unknown`] as [`arg`], and when it is not known where the command runs.
pub fn path_arg(script: &Script, pattern: &str, index: usize) -> Result<Option<String>, Unknown> {
    let Some(found) = arg(script, pattern, index)? else {
        return Ok(None);
    };
    let words: Vec<&str> = pattern.split_whitespace().collect();
    let command = script
        .commands
        .iter()
        .find(|c| directly(c, &words) == Answer::Yes);
    let cwd = command.map(|command| match words.first() {
        Some(&"git") => git::cwd(command),
        _ => command.cwd.clone(),
    });
    match cwd {
        Some(super::Cwd::At(cwd)) => Ok(Some(crate::policy::path::resolve(&cwd, &found))),
        _ => Err(Unknown("the directory it runs in is not known")),
    }
}
