//! What models put around the object: space, code fences, tags.

use super::{Change, Changes, Fault, Unrepairable};

/// Longest wrapper tag, in bytes.
const MAX_TAG: usize = 64;

/// Where the content starts: behind space, a code fence and tags.
pub(super) fn before(text: &str, changes: &mut Changes) -> usize {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        let space = &rest[..rest.len() - trimmed.len()];
        if !space.bytes().all(is_json_space) {
            changes.note(Change::Wrapper);
        }
        at += space.len();
        let fence = fence_length(trimmed);
        if fence > 0 {
            let info = if fence == 3 { &trimmed[fence..] } else { "" };
            let word = info
                .bytes()
                .take_while(|b| b.is_ascii_alphanumeric() || b"+-_".contains(b))
                .count();
            changes.note(Change::CodeFence);
            at += fence + word;
        } else if let Some(length) = tag_length(trimmed) {
            changes.note(Change::Wrapper);
            at += length;
        } else {
            return at;
        }
    }
}

/// Check that nothing but wrapping follows byte `at`.
pub(super) fn after(text: &str, mut at: usize, changes: &mut Changes) -> Result<(), Unrepairable> {
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (length, change) = match first {
            '}' | ']' => (1, Some(Change::CloserRemoved)),
            ',' => (1, Some(Change::TrailingComma)),
            '`' => (fence_length(rest), Some(Change::CodeFence)),
            '<' => (tag_length(rest).unwrap_or(0), Some(Change::Wrapper)),
            ' ' | '\t' | '\n' | '\r' => (1, None),
            c if c.is_whitespace() => (c.len_utf8(), Some(Change::Wrapper)),
            _ => (0, None),
        };
        if length == 0 {
            return Err(Fault::at("text after the object", text, at));
        }
        if let Some(change) = change {
            changes.note(change);
        }
        at += length;
    }
    Ok(())
}

/// Up to three backticks, fence or inline code.
fn fence_length(text: &str) -> usize {
    text.bytes().take(3).take_while(|b| *b == b'`').count()
}

/// Length of a tag such as `<arguments>`, `</tool_call>` or `<|end|>` at the start of `text`.
fn tag_length(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().take(MAX_TAG);
    if bytes.next() != Some(b'<') {
        return None;
    }
    let inside = bytes.take_while(|b| !b"<>{}\n".contains(b)).count();
    (inside > 0 && text.as_bytes().get(inside + 1) == Some(&b'>')).then_some(inside + 2)
}

/// RFC 8259 §2: the four characters that may stand between tokens.
pub(super) fn is_json_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
