//! Text of clients in logs.

use std::fmt;

use serde::Serialize;

/// Longest text a client can put into one field, in characters.
const MAX_CLIENT_TEXT: usize = 128;

/// Text chosen by a client, made safe for a log: at most 128 characters, without control
/// characters, which could fake lines or drive a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ClientText(String);

impl ClientText {
    /// Cleans and cuts `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut clean: String = text
            .chars()
            .take(MAX_CLIENT_TEXT)
            .map(|c| if is_unsafe(c) { '\u{fffd}' } else { c })
            .collect();
        if text.chars().nth(MAX_CLIENT_TEXT).is_some() {
            clean.push('…');
        }
        Self(clean)
    }

    /// Cleans and cuts a header value, which need not be UTF-8.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        // No more than the longest kept text in its widest encoding has to be decoded.
        let cut = bytes.len().min((MAX_CLIENT_TEXT + 1) * 4);
        Self::new(&String::from_utf8_lossy(&bytes[..cut]))
    }

    /// The cleaned text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientText {
    /// Quoted when it would not read as one word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() || self.0.contains([' ', '"', '=']) {
            write!(f, "{:?}", self.0)
        } else {
            f.write_str(&self.0)
        }
    }
}

/// Control characters, and the Unicode marks that reorder or hide text in a terminal
/// (<https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing>).
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_text_is_bounded_and_cannot_fake_a_line() {
        let text = ClientText::new(&"é".repeat(1000));
        assert_eq!(text.as_str().chars().count(), MAX_CLIENT_TEXT + 1);
        let text = ClientText::new("a\r\nb\u{1b}[31m\u{202e}c");
        assert!(!text.as_str().chars().any(is_unsafe), "{text:?}");
        assert_eq!(ClientText::from_bytes(b"ok\xff").as_str(), "ok\u{fffd}");
        assert_eq!(ClientText::new("two words").to_string(), "\"two words\"");
    }
}
