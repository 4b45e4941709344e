//! What rules ask about a command line.

use smallvec::SmallVec;

use super::matching::{directly, of_command};
use super::word::Word;
use super::{Command, Script, git};

/// It cannot be told; why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown(pub &'static str);

/// Whether the answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    Unknown(&'static str),
}

/// Whether the line runs one of `patterns`: `git commit`, `cargo test`, `git push --force`. Options of
/// the program may stand anywhere; options in a pattern must be there.
///
/// # Errors
/// [`Unknown`] when it may, and nobody can tell.
pub fn runs<P: AsRef<str>>(script: &Script, patterns: &[P]) -> Result<bool, Unknown> {
    let patterns: Vec<Pattern> = patterns
        .iter()
        .map(|pattern| Pattern::new(pattern.as_ref()))
        .collect();
    runs_any(script, &patterns)
}

/// Words that a command is compared with.
#[derive(Clone, Debug)]
pub struct Pattern(Vec<String>);

impl Pattern {
    /// Of words with white space between them.
    pub fn new(words: &str) -> Self {
        Self(words.split_whitespace().map(str::to_owned).collect())
    }
}

/// [`runs`], with patterns read beforehand.
///
/// # Errors
/// [`Unknown`] as [`runs`].
pub fn runs_any(script: &Script, patterns: &[Pattern]) -> Result<bool, Unknown> {
    let mut unknown = script.unknown;
    for pattern in patterns {
        let words: SmallVec<[&str; 4]> = pattern.0.iter().map(String::as_str).collect();
        for command in &script.commands {
            match of_command(command, &words) {
                Answer::Yes => return Ok(true),
                Answer::No => {}
                Answer::Unknown(why) => unknown = unknown.or(Some(why)),
            }
        }
    }
    unknown.map_or(Ok(false), |why| Err(Unknown(why)))
}

/// Whether `command` runs `pattern`, also hidden in its arguments.
///
/// # Errors
/// [`Unknown`] as [`runs`].
pub(super) fn one_runs(command: &Command, pattern: &str) -> Result<bool, Unknown> {
    let pattern: Vec<&str> = pattern.split_whitespace().collect();
    match of_command(command, &pattern) {
        Answer::Yes => Ok(true),
        Answer::No => Ok(false),
        Answer::Unknown(why) => Err(Unknown(why)),
    }
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

pub(super) const MADE_WORD: &str = "a word is made while it runs";

/// The words from the last word of `pattern` on.
fn after<'a>(command: &'a Command, pattern: &[&str]) -> &'a [Word] {
    let last = pattern.last().copied().unwrap_or_default();
    let at = command.words.iter().position(|word| word.text == last);
    &command.words[at.unwrap_or(0)..]
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
