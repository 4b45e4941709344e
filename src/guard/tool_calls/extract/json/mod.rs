//! A scanner for JSON that arrives in pieces, forgiving where models slip.
//!
//! It finds where a value ends and where the members of the outermost object lie, without building
//! anything. Single quotes, raw line breaks in strings, trailing commas and bare words pass: making
//! strict JSON of them is the repair's job.

use std::ops::Range;

/// Scans one object or array.
#[derive(Debug)]
pub(super) struct JsonScan {
    at: usize,
    begin: usize,
    stack: Vec<u8>,
    state: State,
    key: Range<usize>,
    value: usize,
    /// Start of the word being read, and whether it is a key.
    word: (usize, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Colon,
    Comma,
    Text { quote: u8, key: bool },
    Word,
    Complete,
}

/// What the scanner came upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// The text ends first.
    More,
    /// A member of the outermost object: key with its quotes, value.
    Member(Range<usize>, Range<usize>),
    /// An element of the outermost array.
    Element(Range<usize>),
    /// The value ended before this offset.
    Complete(usize),
    /// What stands at this offset fits nowhere.
    Confused(usize),
    /// `...` where a value or key should be: a sample, not data.
    Placeholder,
}

impl JsonScan {
    /// A scanner for the object or array whose opening bracket is at `begin`.
    pub(super) fn new(begin: usize) -> Self {
        Self {
            at: begin,
            begin,
            stack: Vec::new(),
            state: State::Value,
            key: begin..begin,
            value: begin,
            word: (begin, false),
        }
    }

    /// How far the text was read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Where the value began.
    pub(super) fn begin(&self) -> usize {
        self.begin
    }

    /// Whether the text so far ends inside a string.
    pub(super) fn in_text(&self) -> bool {
        matches!(self.state, State::Text { .. })
    }

    /// Whether a value or key is expected now.
    pub(super) fn expects_item(&self) -> bool {
        matches!(
            self.state,
            State::Value | State::ValueOrEnd | State::KeyOrEnd
        )
    }

    /// The outermost member being read: its key, and where its value begins.
    pub(super) fn open_member(&self) -> Option<(Range<usize>, usize)> {
        let root = self.stack.first() == Some(&b'{');
        let inside = match self.stack.len() {
            0 => false,
            1 => match self.state {
                State::Text { key, .. } => !key,
                State::Word => !self.word.1,
                _ => false,
            },
            _ => true,
        };
        (root && inside).then(|| (self.key.clone(), self.value))
    }

    /// Where the element of the outermost array being read begins.
    pub(super) fn open_element(&self) -> Option<usize> {
        let inside = self.stack.first() == Some(&b'[') && self.stack.len() > 1;
        inside.then_some(self.value)
    }

    /// Whether a value just ended: closing brackets are all that may be missing.
    pub(super) fn after_value(&self) -> bool {
        matches!(self.state, State::Comma | State::Complete)
    }

    /// The next find in `src`, of which everything read before is still the same.
    pub(super) fn next(&mut self, src: &str) -> Scan {
        let bytes = src.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            let step = match self.state {
                State::Complete => return Scan::Complete(self.at),
                State::Text { quote, key } => self.text(bytes, quote, key),
                State::Word => self.word(bytes, byte),
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => {
                    self.at += 1;
                    None
                }
                State::Value | State::ValueOrEnd => self.item(byte),
                State::KeyOrEnd => self.key(byte),
                State::Colon if byte == b':' => {
                    self.at += 1;
                    self.state = State::Value;
                    None
                }
                State::Colon => Some(Scan::Confused(self.at)),
                State::Comma => self.comma(byte),
            };
            if let Some(scan) = step {
                return scan;
            }
        }
        match self.state {
            State::Complete => Scan::Complete(self.at),
            _ => Scan::More,
        }
    }

    fn text(&mut self, bytes: &[u8], quote: u8, key: bool) -> Option<Scan> {
        let rest = &bytes[self.at..];
        let Some(found) = memchr::memchr2(quote, b'\\', rest) else {
            self.at = bytes.len();
            return None;
        };
        if rest[found] == b'\\' {
            if found + 1 == rest.len() {
                // The escaped byte is not here yet: stay before the backslash.
                self.at += found;
                return Some(Scan::More);
            }
            self.at += found + 2;
            return None;
        }
        self.at += found + 1;
        if key {
            self.end_key();
            return None;
        }
        self.end_value()
    }

    fn word(&mut self, bytes: &[u8], byte: u8) -> Option<Scan> {
        if is_word(byte) {
            self.at += 1;
            return None;
        }
        let (start, key) = self.word;
        if bytes[start..self.at].iter().all(|&b| b == b'.') {
            return Some(Scan::Placeholder);
        }
        if key {
            self.end_key();
            return None;
        }
        self.end_value()
    }

    fn item(&mut self, byte: u8) -> Option<Scan> {
        if byte == b']' && self.state == State::ValueOrEnd {
            return self.close(byte);
        }
        let start = self.at;
        if self.stack.len() <= 1 {
            self.value = start;
        }
        self.at += 1;
        match byte {
            b'{' | b'[' => {
                self.stack.push(byte);
                self.state = if byte == b'{' {
                    State::KeyOrEnd
                } else {
                    State::ValueOrEnd
                };
            }
            b'"' | b'\'' if !self.stack.is_empty() => {
                self.state = State::Text {
                    quote: byte,
                    key: false,
                };
            }
            _ if is_word(byte) && !self.stack.is_empty() => {
                self.word = (start, false);
                self.state = State::Word;
            }
            _ => {
                self.at = start;
                return Some(Scan::Confused(start));
            }
        }
        None
    }

    fn key(&mut self, byte: u8) -> Option<Scan> {
        match byte {
            b'}' => return self.close(byte),
            b'"' | b'\'' => {
                self.state = State::Text {
                    quote: byte,
                    key: true,
                }
            }
            _ if is_word(byte) => {
                self.word = (self.at, true);
                self.state = State::Word;
            }
            _ => return Some(Scan::Confused(self.at)),
        }
        if self.stack.len() == 1 {
            self.key = self.at..self.at;
        }
        self.at += 1;
        None
    }

    fn end_key(&mut self) {
        if self.stack.len() == 1 {
            self.key.end = self.at;
        }
        self.state = State::Colon;
    }

    fn comma(&mut self, byte: u8) -> Option<Scan> {
        match (byte, self.stack.last()) {
            (b',', Some(b'{')) => self.state = State::KeyOrEnd,
            (b',', Some(_)) => self.state = State::ValueOrEnd,
            (b'}' | b']', _) => return self.close(byte),
            _ => return Some(Scan::Confused(self.at)),
        }
        self.at += 1;
        None
    }

    fn close(&mut self, byte: u8) -> Option<Scan> {
        let open = if byte == b'}' { b'{' } else { b'[' };
        if self.stack.last() != Some(&open) {
            return Some(Scan::Confused(self.at));
        }
        self.stack.pop();
        self.at += 1;
        if self.stack.is_empty() {
            self.state = State::Complete;
            return Some(Scan::Complete(self.at));
        }
        self.end_value()
    }

    fn end_value(&mut self) -> Option<Scan> {
        self.state = State::Comma;
        if self.stack.len() != 1 {
            return None;
        }
        let value = self.value..self.at;
        Some(match self.stack[0] {
            b'{' => Scan::Member(self.key.clone(), value),
            _ => Scan::Element(value),
        })
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.' | b'$')
}

#[cfg(test)]
mod tests;
