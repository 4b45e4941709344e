//! Command lines: which programs one would run, and what it would change.
//!
//! A grammar finds the commands of a line wherever they stand: in lists, pipes, subshells,
//! substitutions, functions. Wrappers (`env`, `sudo`, `xargs`, `bash -c`, here-documents fed to a
//! shell) are looked through. What cannot be known before it runs is said to be unknown, never
//! guessed: rules that must hold take unknown for a reason to block.

mod changes;
mod code;
mod deploy;
mod effect;
mod expand;
mod git;
mod git_config;
mod hidden;
mod links;
mod matching;
mod options;
mod outputs;
mod platforms;
mod programs;
mod query;
mod quick;
mod sed;
mod shells;
mod tree;
mod vars;
mod word;
mod wrappers;
mod written;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

pub use deploy::{Deploy, Place, deploys};
pub use effect::{Effect, Effects, effects};
pub use git::{Worktree, cwd as git_cwd, moves_head, worktree};
pub use query::{Pattern, Unknown, arg, flags, only, path_arg, runs, runs_any};
pub use word::{Word, program, quote};

/// What C's escapes in `text` stand for; none when one is not known.
pub(super) fn unescape(text: &str) -> Option<String> {
    word::ansi(text)
}

/// Longest command line that is parsed, in bytes.
const MAX_LINE: usize = 256 << 10;

/// Pipe characters in one line.
const MAX_PIPES: usize = 1000;

/// Scripts inside scripts that are looked into.
const MAX_DEPTH: u32 = 6;

/// Commands of one line that are looked at.
const MAX_COMMANDS: usize = 2000;

/// Where a command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cwd {
    /// In this directory, seen from where the line runs (`.`).
    At(String),
    /// Nobody knows.
    Unknown,
}

/// What a command reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// What the line is given.
    #[default]
    Given,
    /// This text.
    Text(String),
    /// Text nobody knows: another command's output, or one with substitutions.
    Unknown,
}

/// One program that is run.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its name and arguments, wrappers taken away.
    pub words: Vec<Word>,
    /// Where it runs.
    pub cwd: Cwd,
    /// What it reads.
    pub stdin: Stdin,
    /// Files its output is redirected into.
    pub writes: Vec<Word>,
    /// It gets further arguments nobody knows (`xargs`).
    pub open: bool,
    /// Code of another language that it runs.
    pub code: Option<String>,
}

impl Command {
    fn new(words: Vec<Word>, cwd: Cwd) -> Self {
        Self {
            words,
            cwd,
            stdin: Stdin::Given,
            writes: Vec::new(),
            open: false,
            code: None,
        }
    }

    /// The program's name; none when nobody knows it.
    pub fn program(&self) -> Option<String> {
        self.words.first()?.known().map(program)
    }
}

/// A command line.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Every program it runs, in order, those of nested scripts included.
    pub commands: Vec<Command>,
    /// Why there may be more than `commands` tells.
    pub unknown: Option<&'static str>,
}

impl Script {
    fn unknown(&mut self, why: &'static str) {
        self.unknown.get_or_insert(why);
    }
}

thread_local! {
    /// The last lines read: a call's line is asked about by every rule.
    static LAST: RefCell<VecDeque<(String, Arc<Script>)>> = const { RefCell::new(VecDeque::new()) };
}

/// Lines remembered; a call has one, and rules may make another.
const REMEMBERED: usize = 4;

/// [`parse`], remembering the last lines.
pub fn parsed(line: &str) -> Arc<Script> {
    LAST.with_borrow_mut(|last| {
        if let Some((_, script)) = last.iter().find(|(known, _)| known == line) {
            return Arc::clone(script);
        }
        let script = Arc::new(parse(line));
        if last.len() >= REMEMBERED {
            last.pop_back();
        }
        last.push_front((line.to_owned(), Arc::clone(&script)));
        script
    })
}

/// Read a command line.
pub fn parse(line: &str) -> Script {
    let mut script = Script::default();
    parse_into(line, Cwd::At(".".to_owned()), 0, &mut script);
    if line.contains("\\\n") {
        // The grammar ends a word where its line goes on; a shell does not.
        let joined = line.replace("\\\n", "");
        parse_into(&joined, Cwd::At(".".to_owned()), 1, &mut script);
    }
    written::spot_own_scripts(&mut script);
    script
}

/// Read `line`, which runs in `cwd`, as a script nested `depth` deep.
fn parse_into(line: &str, cwd: Cwd, depth: u32, script: &mut Script) {
    // The grammar takes a time that grows with the square of a pipe's length.
    if line.len() > MAX_LINE || line.bytes().filter(|b| *b == b'|').count() > MAX_PIPES {
        return script.unknown("it is too long");
    }
    if depth > MAX_DEPTH || script.commands.len() > MAX_COMMANDS {
        return script.unknown("it is nested too deep");
    }
    match quick::steps(line) {
        Some(steps) => plain(steps, cwd, depth, script),
        None => tree::read(line, cwd, depth, script),
    }
}

/// Where a line stands, and where its parts have begun.
struct Standing {
    cwd: Cwd,
    /// Where the statement began that is read.
    begun: Cwd,
}

impl Standing {
    /// What comes after `join`, after what may have moved.
    fn join(&mut self, join: quick::Join) {
        use quick::Join;
        // The `cd` before may have failed, or has.
        if matches!(join, Join::Or | Join::Then) && self.cwd != self.begun {
            self.cwd = Cwd::Unknown;
        }
        if join == Join::Then {
            self.begun.clone_from(&self.cwd);
        }
    }
}

fn plain(steps: Vec<quick::Step>, cwd: Cwd, depth: u32, script: &mut Script) {
    if steps.len() > MAX_COMMANDS {
        return script.unknown("it has too many commands");
    }
    let begun = cwd.clone();
    let mut place = Standing { cwd, begun };
    let mut around: Vec<Standing> = Vec::new();
    for step in steps {
        match step {
            quick::Step::Command(simple) => {
                place.join(simple.join);
                simple_command(simple, &mut place.cwd, depth, script);
            }
            quick::Step::Begin(join) => {
                place.join(join);
                let (cwd, begun) = (place.cwd.clone(), place.cwd.clone());
                around.push(std::mem::replace(&mut place, Standing { cwd, begun }));
            }
            quick::Step::End => {
                let Some(before) = around.pop() else { continue };
                let inside = std::mem::replace(&mut place, before);
                if inside.cwd != place.cwd {
                    place.cwd = Cwd::Unknown;
                }
            }
        }
    }
}

/// One command, which stands in `cwd` and may leave it.
fn simple_command(simple: quick::Simple, cwd: &mut Cwd, depth: u32, script: &mut Script) {
    for inner in simple.inner {
        simple_command(inner, &mut cwd.clone(), depth, script);
    }
    let mut command = Command::new(simple.words, cwd.clone());
    command.writes = simple.writes;
    if depth > 0 {
        let words = command.words.iter_mut().chain(&mut command.writes);
        words.for_each(|word| word.span = None);
    }
    let piped = simple.join == quick::Join::Pipe;
    command.stdin = match simple.text {
        Some(text) => Stdin::Text(text),
        None if piped || simple.reads => Stdin::Unknown,
        None => Stdin::Given,
    };
    // What stands in a pipe moves nobody.
    if !piped
        && !simple.pipes
        && let Some(next) = expand::change_of_directory(&command)
    {
        *cwd = next;
    }
    expand::expand(command, depth, script);
}

#[cfg(test)]
mod tests;
