//! Comparing the rest of a text with fixed strings while more of it may still come.

pub(super) use crate::guard::floor;

/// What the rest of the text begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The literal of this index.
    At(usize),
    /// A beginning of at least one literal; more text decides.
    Partial,
    /// None of them.
    No,
}

/// Which of `literals` `rest` begins with, the first listed first.
pub(super) fn look(rest: &str, literals: &[&str], ended: bool) -> Look {
    let rest = rest.as_bytes();
    let mut partial = false;
    for (index, literal) in literals.iter().enumerate() {
        let literal = literal.as_bytes();
        if rest.starts_with(literal) {
            return Look::At(index);
        }
        partial |= literal.starts_with(rest);
    }
    if partial && !ended {
        Look::Partial
    } else {
        Look::No
    }
}

/// Most white space between the parts of a call.
pub(super) const MAX_SPACE: usize = 256;

/// The offset of the first byte at or after `at` that is not white space, looking no further than
/// [`MAX_SPACE`] bytes.
pub(super) fn skip_space(src: &str, at: usize) -> usize {
    let rest = &src.as_bytes()[at..];
    let space = rest
        .iter()
        .take(MAX_SPACE)
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        .count();
    at + space
}

/// The offset after a code fence's opening at `at` and its language `json`, where there is one.
/// `None` while more text decides.
pub(super) fn skip_fence(src: &str, at: usize, ended: bool) -> Option<usize> {
    let after = match look(&src[at..], &["```"], ended) {
        Look::Partial => return None,
        Look::No => return Some(at),
        Look::At(_) => at + 3,
    };
    match look(&src[after..], &["json"], ended) {
        Look::Partial => None,
        Look::No => Some(skip_space(src, after)),
        Look::At(_) => Some(skip_space(src, after + 4)),
    }
}

/// The end of `src` without trailing white space, not before `start`.
pub(super) fn trim_end(src: &str, start: usize, end: usize) -> usize {
    start + src[start..end].trim_ascii_end().len()
}

/// Whether a tool's name may hold this byte.
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/') || byte >= 0x80
}

/// Longest name or header of a call, in bytes.
pub(super) const MAX_HEADER: usize = 256;

/// The first of `tokens` at or after `from`.
pub(super) fn find_first(src: &str, from: usize, tokens: &[&str]) -> Option<usize> {
    tokens
        .iter()
        .filter_map(|token| memchr::memmem::find(&src.as_bytes()[from..], token.as_bytes()))
        .min()
        .map(|at| from + at)
}

/// The first of `tokens` at or after `from` that ends the text or stands before a tag, else the last
/// one; and whether it stands before a tag.
pub(super) fn find_outer(src: &str, from: usize, tokens: &[&str]) -> (Option<usize>, bool) {
    let mut last = None;
    let mut at = from;
    while let Some(found) = find_first(src, at, tokens) {
        let here = tokens.iter().filter(|t| src[found..].starts_with(**t));
        at = found + here.map(|t| t.len()).max().unwrap_or(1);
        last = Some(found);
        match src.as_bytes().get(skip_space(src, at)) {
            Some(b'<') => return (last, true),
            None => break,
            Some(_) => {}
        }
    }
    (last, false)
}
