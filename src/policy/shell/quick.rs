//! Most command lines are plain words, in lists, pipes, loops and conditions; they need no grammar.

mod heredoc;
mod words;

use super::word::Word;
use words::Words;

/// What stands between a command and the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    /// It is the first one.
    Start,
    And,
    Or,
    Then,
    Pipe,
}

/// A piece of a line.
#[derive(Debug)]
pub(super) enum Step {
    Command(Simple),
    /// What may run or not, once or often, begins.
    Begin(Join),
    /// It ends.
    End,
}

/// A command of plain words.
#[derive(Debug)]
pub(super) struct Simple {
    pub(super) join: Join,
    pub(super) words: Vec<Word>,
    /// Files its output is redirected into.
    pub(super) writes: Vec<Word>,
    /// Its input is redirected.
    pub(super) reads: bool,
    /// The here-document it reads.
    pub(super) text: Option<String>,
    /// Its output goes into a pipe.
    pub(super) pipes: bool,
    /// Commands that run while its words are made.
    pub(super) inner: Vec<Simple>,
}

impl Simple {
    fn new(join: Join) -> Self {
        Self {
            join,
            words: Vec::with_capacity(8),
            writes: Vec::new(),
            reads: false,
            text: None,
            pipes: false,
            inner: Vec::new(),
        }
    }
}

/// Loops and conditions inside one another.
const MAX_NESTING: u32 = 8;

/// The pieces of `line`, if it is made of plain words, quoted words and variables, without backquotes and
/// backslashes, joined by `&&`, `||`, `;`, `|` and ends of lines, in `for`, `while` and `if`, with output and
/// input redirected to files, and with here-documents that stand for themselves. Anything else is left to
/// the grammar.
pub(super) fn steps(line: &str) -> Option<Vec<Step>> {
    let mut reader = Reader {
        words: Words { line, at: 0 },
        steps: Vec::with_capacity(2),
        nesting: 0,
    };
    reader.list(Join::Start, &[])?;
    Some(reader.steps)
}

struct Reader<'a> {
    words: Words<'a>,
    steps: Vec<Step>,
    nesting: u32,
}

impl Reader<'_> {
    /// Commands up to one of `ends`, and which of them it is; without any, to the end of the line.
    fn list(&mut self, first: Join, ends: &[&str]) -> Option<usize> {
        let mut join = first;
        let begun = self.steps.len();
        loop {
            self.words.skip_blanks();
            let may_pause = matches!(join, Join::Start | Join::Then);
            let Some(byte) = self.words.peek() else {
                let ended = join == Join::Then && ends.is_empty() && self.steps.len() > begun;
                return ended.then_some(0);
            };
            match byte {
                b'\n' if may_pause => {
                    self.words.at += 1;
                    continue;
                }
                b'#' if may_pause => {
                    self.words.skip_line();
                    continue;
                }
                _ => {}
            }
            let end = ends.iter().position(|end| self.words.keyword(end));
            if let Some(end) = end {
                let ended = join == Join::Then && self.steps.len() > begun;
                return ended.then_some(end);
            }
            self.command(join)?;
            self.words.skip_blanks();
            join = match self.words.pair() {
                (None, _) => return ends.is_empty().then_some(0),
                (Some(b'&'), Some(b'&')) => Join::And,
                (Some(b'|'), Some(b'|')) => Join::Or,
                (Some(b'|'), next) if next != Some(b'&') => Join::Pipe,
                (Some(b';'), next) if next != Some(b';') => Join::Then,
                (Some(b'\n'), _) => Join::Then,
                _ => return None,
            };
            self.words.at += match join {
                Join::And | Join::Or => 2,
                _ => 1,
            };
            if join == Join::Pipe {
                let Some(Step::Command(simple)) = self.steps.last_mut() else {
                    return None;
                };
                simple.pipes = true;
            }
        }
    }

    fn command(&mut self, join: Join) -> Option<()> {
        let compound = ["for", "if", "while", "until"];
        let Some(kind) = compound.iter().find(|kind| self.words.keyword(kind)) else {
            let simple = self.simple(join)?;
            self.steps.push(Step::Command(simple));
            return Some(());
        };
        if join == Join::Pipe || self.nesting >= MAX_NESTING {
            return None;
        }
        self.nesting += 1;
        self.steps.push(Step::Begin(join));
        match *kind {
            "for" => {
                self.words.items()?;
                self.list(Join::Start, &["done"])?;
            }
            "if" => self.condition()?,
            _ => {
                self.list(Join::Start, &["do"])?;
                self.list(Join::Then, &["done"])?;
            }
        }
        self.steps.push(Step::End);
        self.nesting -= 1;
        Some(())
    }

    /// What follows `if`.
    fn condition(&mut self) -> Option<()> {
        let mut join = Join::Start;
        loop {
            self.list(join, &["then"])?;
            join = Join::Then;
            match self.list(join, &["elif", "else", "fi"])? {
                0 => {}
                1 => {
                    self.list(join, &["fi"])?;
                    return Some(());
                }
                _ => return Some(()),
            }
        }
    }

    fn simple(&mut self, join: Join) -> Option<Simple> {
        let mut now = Simple::new(join);
        let mut delimiter = None;
        loop {
            self.words.skip_blanks();
            match self.words.pair() {
                (None | Some(b'\n' | b';' | b'|'), _) | (Some(b'&'), Some(b'&')) => break,
                (Some(b'<'), Some(b'<')) if delimiter.is_none() && !now.reads => {
                    delimiter = Some(self.words.delimiter()?);
                }
                (Some(b'0'..=b'9' | b'>' | b'<' | b'&'), _) if self.words.redirects() => {
                    self.redirect(&mut now)?;
                }
                // Behind a here-document the grammar counts words otherwise.
                _ if delimiter.is_some() => return None,
                _ => {
                    let word = self.words.word(&mut now.inner)?;
                    let is_first = now.words.is_empty();
                    if is_first && (is_keyword(&word.text) || word.text.contains('=')) {
                        return None;
                    }
                    now.words.push(word);
                }
            }
        }
        if let Some(delimiter) = delimiter {
            if now.reads {
                return None;
            }
            now.text = Some(self.words.heredoc(&delimiter)?.to_owned());
        }
        (!now.words.is_empty()).then_some(now)
    }

    /// Note one redirection of `now`.
    fn redirect(&mut self, now: &mut Simple) -> Option<()> {
        let bytes = self.words.line.as_bytes();
        let end = words::operator(bytes, self.words.at)?;
        if bytes.get(end) == Some(&b'&') {
            let digits = bytes[end + 1..]
                .iter()
                .take_while(|b| b.is_ascii_digit())
                .count();
            self.words.at = end + 1 + digits;
            let ends = self
                .words
                .peek()
                .is_none_or(|b| matches!(b, b' ' | b'\t' | b'\n' | b';' | b'|' | b'&'));
            return (digits > 0 && ends).then_some(());
        }
        self.words.at = end;
        self.words.skip_blanks();
        let file = self.words.word(&mut now.inner)?;
        match bytes[end - 1] {
            b'<' => now.reads |= file.known() != Some("/dev/stdin"),
            _ => now.writes.push(file),
        }
        Some(())
    }
}

/// Words that are none of a command where one begins.
pub(super) fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "then"
            | "else"
            | "elif"
            | "fi"
            | "for"
            | "while"
            | "until"
            | "do"
            | "done"
            | "case"
            | "esac"
            | "function"
            | "select"
            | "time"
            | "coproc"
            | "in"
            | "declare"
            | "typeset"
            | "export"
            | "readonly"
            | "local"
            | "unset"
    )
}

#[cfg(test)]
mod tests;
