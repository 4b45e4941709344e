//! Whether a command is what a pattern says.

use super::expand::MADE_ARGUMENTS;
use super::hidden::{hidden, of_code, of_filter};
use super::options::has;
use super::query::{Answer, MADE_WORD};
use super::word::{Word, program};
use super::{Command, git, git_config};

/// Programs whose arguments are data to them, never commands.
pub(super) const READERS: &[&str] = &[
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

pub(super) fn of_command(command: &Command, pattern: &[&str]) -> Answer {
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
    if pattern
        .first()
        .is_some_and(|program| renames(command, &name, program))
    {
        return Answer::Unknown("it gives a command another name");
    }
    let configures = name == "cargo" && has(&command.words, "--config");
    if (READERS.contains(&name.as_str()) && !configures) || pattern.first() == Some(&name.as_str())
    {
        return Answer::No;
    }
    hidden(command, pattern)
}

/// Whether it copies or links the program `wanted` from where programs are.
pub(super) fn renames(command: &Command, name: &str, wanted: &str) -> bool {
    if !matches!(name, "cp" | "ln" | "mv" | "install" | "rsync" | "ditto") {
        return false;
    }
    command.words.iter().skip(1).any(|word| {
        let found = !word.fixed
            && ["which", "command -v", "type -p"]
                .iter()
                .any(|how| word.text.contains(how));
        let from_bin = word.text.contains("/bin/") && program(&word.text) == wanted;
        from_bin || (found && word.text.contains(wanted))
    })
}

/// Whether the command itself is `pattern`.
pub(super) fn directly(command: &Command, pattern: &[&str]) -> Answer {
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
        "git" if git_config::renames_commands(command) => {
            return Answer::Unknown("it gives a command of git another name");
        }
        "git" if git_config::may_be_alias(command) => {
            return Answer::Unknown("it may be an alias of git");
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

pub(super) fn has_flag(command: &Command, flag: &str) -> bool {
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
pub(super) const WHOLE: &[&str] = &[
    "--force",
    "--all",
    "--no-verify",
    "--delete",
    "--dry-run",
    "--hard",
];

/// Whether `words` begin with `wanted`, options left out. With `loose`, a word after an option may be
/// its value.
pub(super) fn in_order(words: &[Word], wanted: &[&str], open: bool, loose: bool) -> Answer {
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
        Answer::Unknown(MADE_ARGUMENTS)
    } else {
        Answer::No
    }
}
