//! Strings, quoted one way or the other, and the text that is rewritten around them.

use std::ops::Range;

use super::{Change, Changes, Fault, Unrepairable};

/// A copy of a text with some ranges replaced; copies nothing before the first replacement.
pub(super) struct Rewriter<'a> {
    /// The text as it came.
    pub(super) text: &'a str,
    out: String,
    copied: usize,
}

impl<'a> Rewriter<'a> {
    /// Rewrite `text` from byte `from` on.
    pub(super) fn new(text: &'a str, from: usize) -> Self {
        Self {
            text,
            out: String::new(),
            copied: from,
        }
    }

    /// Put `with` in place of `range`, which lies behind every range replaced so far.
    pub(super) fn replace(&mut self, range: Range<usize>, with: &str) {
        self.out.push_str(&self.text[self.copied..range.start]);
        self.out.push_str(with);
        self.copied = range.end;
    }

    /// The new text up to byte `end` of the old one.
    pub(super) fn finish(mut self, end: usize) -> String {
        self.replace(end..end, "");
        self.out
    }
}

/// What the backslashes of a string say about who wrote it.
#[derive(Default)]
struct Backslashes {
    /// One that starts no JSON escape: the writer did not escape backslashes, at least not here.
    literal: bool,
    /// Such a one right after a drive letter.
    path: bool,
    /// `\b` or `\f`: hardly ever meant as backspace or form feed, often as part of a pattern.
    control: bool,
    /// Any escape that a directory name could also start with.
    letter: bool,
}

impl Backslashes {
    /// Whether the same string holds escapes that may be none.
    fn ambiguous(&self) -> bool {
        self.literal && self.control || self.path && self.letter
    }
}

/// Read the string that starts at byte `start`, making it a JSON string; its end.
///
/// A backslash that starts no escape (RFC 8259 §7) is escaped, so that `\d` stays `\d`. Other
/// escapes mean what JSON says, unless that is doubtful.
///
/// # Errors
/// [`Unrepairable::Truncated`] when the text ends first.
pub(super) fn read(
    rewriter: &mut Rewriter<'_>,
    changes: &mut Changes,
    start: usize,
) -> Result<usize, Unrepairable> {
    let text = rewriter.text;
    let bytes = text.as_bytes();
    let quote = bytes[start];
    if quote == b'\'' {
        changes.note(Change::SingleQuotes);
        rewriter.replace(start..start + 1, "\"");
    }
    let mut seen = Backslashes::default();
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at = escape(rewriter, changes, &mut seen, at, quote)?,
            byte if byte == quote => {
                if quote == b'\'' {
                    rewriter.replace(at..at + 1, "\"");
                }
                if seen.ambiguous() {
                    let what = "a string whose backslashes are only partly escaped";
                    return Err(Fault::at(what, text, start));
                }
                return Ok(at + 1);
            }
            b'"' => {
                rewriter.replace(at..at + 1, "\\\"");
                at += 1;
            }
            byte if byte < 0x20 => {
                changes.note(Change::RawNewline);
                rewriter.replace(at..at + 1, &control_escape(byte));
                at += 1;
            }
            _ => at += 1,
        }
    }
    Err(Unrepairable::Truncated)
}

/// Read the backslash at byte `at` and what belongs to it; the position behind.
fn escape(
    rewriter: &mut Rewriter<'_>,
    changes: &mut Changes,
    seen: &mut Backslashes,
    at: usize,
    quote: u8,
) -> Result<usize, Unrepairable> {
    let bytes = rewriter.text.as_bytes();
    let next = *bytes.get(at + 1).ok_or(Unrepairable::Truncated)?;
    match next {
        b'"' | b'\\' | b'/' => return Ok(at + 2),
        b'b' | b'f' | b'n' | b'r' | b't' => {
            seen.control |= matches!(next, b'b' | b'f');
            seen.letter = true;
            return Ok(at + 2);
        }
        b'u' if bytes.get(at + 2..at + 6).is_some_and(is_hex) => {
            seen.letter = true;
            return Ok(at + 6);
        }
        b'\'' if quote == b'\'' => {
            rewriter.replace(at..at + 1, "");
            return Ok(at + 2);
        }
        _ => {}
    }
    changes.note(Change::InvalidEscape);
    rewriter.replace(at..at + 1, "\\\\");
    seen.literal = true;
    seen.path |= bytes[at - 1] == b':' && bytes[at - 2].is_ascii_alphabetic();
    Ok(at + 1)
}

fn is_hex(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_hexdigit)
}

/// A control character as JSON writes it.
fn control_escape(byte: u8) -> String {
    match byte {
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        _ => format!("\\u{byte:04x}"),
    }
}

/// The content of the string that starts at byte `start`, and its end.
///
/// # Errors
/// As [`read`], and for half a surrogate pair, which has no decoded form.
pub(super) fn decode(text: &str, start: usize) -> Result<(String, usize), Unrepairable> {
    let mut rewriter = Rewriter::new(text, start);
    // What is repaired here belongs to the encoding that is being undone.
    let end = read(&mut rewriter, &mut Changes::default(), start)?;
    match serde_json::from_str(&rewriter.finish(end)) {
        Ok(content) => Ok((content, end)),
        Err(_) => Err(Fault::at("half a surrogate pair", text, start)),
    }
}

/// The content of a string that lost its quotes, from byte `start` to the end of the text.
///
/// # Errors
/// As [`decode`], and for a quote that is not escaped.
pub(super) fn decode_bare(text: &str, start: usize) -> Result<String, Unrepairable> {
    let quoted = format!("\"{}\"", text[start..].trim_end());
    let (content, end) = decode(&quoted, 0)?;
    if end < quoted.len() {
        return Err(Fault::at(
            "quotes that are only partly escaped",
            text,
            start + end - 2,
        ));
    }
    Ok(content)
}
