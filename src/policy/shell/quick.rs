//! Most command lines are plain words; they need no grammar.

use super::word::Word;

/// What stands between two simple commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    /// The first one.
    Start,
    And,
    Or,
    Then,
    Pipe,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Simple {
    pub(super) join: Join,
    pub(super) words: Vec<Word>,
    /// Files its output is redirected into.
    pub(super) writes: Vec<Word>,
    /// Its input is redirected.
    pub(super) reads: bool,
}

impl Simple {
    fn new(join: Join) -> Self {
        Self {
            join,
            words: Vec::with_capacity(8),
            writes: Vec::new(),
            reads: false,
        }
    }
}

/// The simple commands of `line`, if it is made of plain words, quoted words and variables, without
/// backquotes and backslashes, joined by `&&`, `||`, `;`, `|`, with their output and input redirected to
/// files. Anything else is left to the grammar.
pub(super) fn commands(line: &str) -> Option<Vec<Simple>> {
    let bytes = line.as_bytes();
    let mut done = Vec::with_capacity(2);
    let mut now = Simple::new(Join::Start);
    let mut at = 0;
    while at < bytes.len() {
        let next = match bytes[at] {
            b' ' | b'\t' => {
                at += 1;
                continue;
            }
            b'&' if bytes.get(at + 1) == Some(&b'&') => (Join::And, 2),
            b'|' if bytes.get(at + 1) == Some(&b'|') => (Join::Or, 2),
            b'|' if bytes.get(at + 1) != Some(&b'&') => (Join::Pipe, 1),
            b';' if bytes.get(at + 1) != Some(&b';') => (Join::Then, 1),
            b'0'..=b'9' | b'>' | b'<' | b'&' if operator(bytes, at).is_some() => {
                at = redirect(line, at, &mut now)?;
                continue;
            }
            _ => {
                let (word, end) = word(line, at)?;
                if now.words.is_empty() && (is_keyword(&word.text) || is_assignment(&word.text)) {
                    return None;
                }
                now.words.push(word);
                at = end;
                continue;
            }
        };
        if now.words.is_empty() {
            return None;
        }
        done.push(std::mem::replace(&mut now, Simple::new(next.0)));
        at += next.1;
    }
    match now.words.is_empty() {
        false => done.push(now),
        true if now.join == Join::Then && now.writes.is_empty() && !now.reads => {}
        true => return None,
    }
    Some(done)
}

/// Where the operator of a redirection ends that begins at `at`: `2>`, `>>`, `&>`, `<`.
fn operator(bytes: &[u8], at: usize) -> Option<usize> {
    let digits = bytes[at..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .count();
    let both = usize::from(digits == 0 && bytes[at] == b'&');
    let mut end = at + digits + both;
    match bytes.get(end)? {
        b'>' => {
            end += 1 + usize::from(bytes.get(end + 1) == Some(&b'>'));
            // `>|`, `>(` and the rest are for the grammar; `>&1` is told apart below.
            (!matches!(bytes.get(end), Some(b'|' | b'(' | b'>'))).then_some(end)
        }
        b'<' if both == 0 => {
            end += 1;
            (!matches!(bytes.get(end), Some(b'<' | b'(' | b'&' | b'>'))).then_some(end)
        }
        _ => None,
    }
}

/// Note one redirection of `now`, and tell where it ends.
fn redirect(line: &str, at: usize, now: &mut Simple) -> Option<usize> {
    let bytes = line.as_bytes();
    let end = operator(bytes, at)?;
    if bytes.get(end) == Some(&b'&') {
        let digits = bytes[end + 1..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        let after = end + 1 + digits;
        let ends = bytes
            .get(after)
            .is_none_or(|b| matches!(b, b' ' | b'\t' | b';' | b'|' | b'&'));
        return (digits > 0 && ends).then_some(after);
    }
    let blank = bytes[end..]
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    let (file, after) = word(line, end + blank)?;
    match bytes[end - 1] {
        b'<' => now.reads |= file.known() != Some("/dev/stdin"),
        _ => now.writes.push(file),
    }
    Some(after)
}

/// The word at `start`, and where it ends.
fn word(line: &str, start: usize) -> Option<(Word, usize)> {
    let bytes = line.as_bytes();
    let mut text = String::new();
    let mut fixed = true;
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {}
            b'_' | b'-' | b'.' | b'/' | b':' | b'=' | b'@' | b'%' | b'+' | b',' | b'^' => {}
            b'\'' | b'"' => {
                let end = at + 1 + line[at + 1..].find(char::from(byte))?;
                let inside = &line[at + 1..end];
                if byte == b'"' && inside.contains(['`', '\\', '!']) {
                    return None;
                }
                if byte == b'"' && inside.contains('$') {
                    let mut pieces = inside.split('$').skip(1);
                    if !pieces.all(|rest| variable(rest).is_some()) {
                        return None;
                    }
                    fixed = false;
                }
                text.push_str(inside);
                at = end + 1;
                continue;
            }
            b'$' => {
                let end = at + 1 + variable(&line[at + 1..])?;
                text.push_str(&line[at..end]);
                fixed = false;
                at = end;
                continue;
            }
            b' ' | b'\t' | b'&' | b'|' | b';' => break,
            _ => return None,
        }
        text.push(char::from(byte));
        at += 1;
    }
    if at == start {
        return None;
    }
    let word = Word {
        text,
        fixed,
        span: Some(start..at),
    };
    Some((word, at))
}

/// The length of `NAME` or `{NAME}` at the beginning of `rest`.
fn variable(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('{').unwrap_or(rest);
    let first = inside.bytes().next()?;
    if !first.is_ascii_alphabetic() && first != b'_' {
        return None;
    }
    let name = inside
        .bytes()
        .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let length = name.count();
    match rest.starts_with('{') {
        true => (inside.as_bytes().get(length) == Some(&b'}')).then_some(length + 2),
        false => Some(length),
    }
}

fn is_assignment(word: &str) -> bool {
    word.contains('=')
}

fn is_keyword(word: &str) -> bool {
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
