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

/// The simple commands of `line`, if it is made of plain words, single-quoted words, and double-quoted
/// words without `$`, backquote and backslash, joined by `&&`, `||`, `;`, `|`. Anything else is left
/// to the grammar.
pub(super) fn commands(line: &str) -> Option<Vec<(Join, Vec<Word>)>> {
    let bytes = line.as_bytes();
    let mut done = Vec::with_capacity(2);
    let mut words: Vec<Word> = Vec::with_capacity(8);
    let mut join = Join::Start;
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
            _ => {
                let (word, end) = word(line, at)?;
                if words.is_empty() && (is_keyword(&word.text) || is_assignment(&word.text)) {
                    return None;
                }
                words.push(word);
                at = end;
                continue;
            }
        };
        if words.is_empty() {
            return None;
        }
        done.push((join, std::mem::take(&mut words)));
        join = next.0;
        at += next.1;
    }
    match words.is_empty() {
        false => done.push((join, words)),
        true if join == Join::Then => {}
        true => return None,
    }
    Some(done)
}

/// The word at `start`, and where it ends.
fn word(line: &str, start: usize) -> Option<(Word, usize)> {
    let bytes = line.as_bytes();
    let mut text = String::new();
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {}
            b'_' | b'-' | b'.' | b'/' | b':' | b'=' | b'@' | b'%' | b'+' | b',' | b'^' => {}
            b'\'' | b'"' => {
                let end = at + 1 + line[at + 1..].find(char::from(byte))?;
                let inside = &line[at + 1..end];
                if byte == b'"' && inside.contains(['$', '`', '\\', '!']) {
                    return None;
                }
                text.push_str(inside);
                at = end + 1;
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
        fixed: true,
        span: Some(start..at),
    };
    Some((word, at))
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
