//! Plain words, one after the other.

use super::super::word::Word;
use super::Simple;

/// A line, and how far it is read.
pub(super) struct Words<'a> {
    pub(super) line: &'a str,
    pub(super) at: usize,
}

impl Words<'_> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    /// The next two bytes.
    pub(super) fn pair(&self) -> (Option<u8>, Option<u8>) {
        let next = self.line.as_bytes().get(self.at + 1);
        (self.peek(), next.copied())
    }

    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// To the end of this line of the text.
    pub(super) fn skip_line(&mut self) {
        let rest = &self.line[self.at..];
        self.at += rest.find('\n').unwrap_or(rest.len());
    }

    /// Whether the next word is `keyword`; it is read then.
    pub(super) fn keyword(&mut self, keyword: &str) -> bool {
        let Some(rest) = self.line[self.at..].strip_prefix(keyword) else {
            return false;
        };
        let ends = matches!(
            rest.bytes().next(),
            None | Some(b' ' | b'\t' | b'\n' | b';')
        );
        if ends {
            self.at += keyword.len();
        }
        ends
    }

    /// Whether a redirection begins here.
    pub(super) fn redirects(&self) -> bool {
        operator(self.line.as_bytes(), self.at).is_some()
    }

    /// `NAME in WORD …; do`: what the words are matters to nobody, as long as nothing runs to make them.
    pub(super) fn items(&mut self) -> Option<()> {
        self.skip_blanks();
        let name = variable(&self.line[self.at..]).filter(|_| self.peek() != Some(b'{'))?;
        self.at += name;
        self.skip_blanks();
        if !self.keyword("in") {
            return None;
        }
        loop {
            self.skip_blanks();
            match self.peek()? {
                b';' | b'\n' => break,
                _ => self.item()?,
            }
        }
        self.at += 1;
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n')) {
            self.at += 1;
        }
        self.keyword("do").then_some(())
    }

    /// One of them: a word, or one with globs and braces.
    fn item(&mut self) -> Option<()> {
        let begun = self.at;
        loop {
            match self.peek() {
                Some(b'*' | b'?' | b'{' | b'}') => self.at += 1,
                None | Some(b' ' | b'\t' | b'\n' | b';') => return (self.at > begun).then_some(()),
                Some(b'\'' | b'"') => {
                    let mut inner = Vec::new();
                    let quote = self.peek()?;
                    self.quoted(quote, &mut String::new(), &mut inner)?;
                    if !inner.is_empty() {
                        return None;
                    }
                }
                Some(b'$') => self.at += 1 + variable(&self.line[self.at + 1..])?,
                Some(byte) if is_bare(byte) || byte == b'~' => self.at += 1,
                _ => return None,
            }
        }
    }

    /// The word that begins here. Commands that run to make it are added to `inner`.
    pub(super) fn word(&mut self, inner: &mut Vec<Simple>) -> Option<Word> {
        let bytes = self.line.as_bytes();
        let start = self.at;
        let mut text = String::new();
        let mut fixed = true;
        // Bare so far: what a `~` here stands for is not known.
        let mut begins = true;
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                byte if is_bare(byte) => {}
                b'~' if !begins => {}
                b'\'' | b'"' => {
                    fixed &= self.quoted(byte, &mut text, inner)?;
                    begins = true;
                    continue;
                }
                b'$' => {
                    let length = 1 + variable(&self.line[self.at + 1..])?;
                    text.push_str(&self.line[self.at..self.at + length]);
                    self.at += length;
                    (fixed, begins) = (false, true);
                    continue;
                }
                b' ' | b'\t' | b'\n' | b'&' | b'|' | b';' => break,
                _ => return None,
            }
            text.push(char::from(byte));
            self.at += 1;
            begins = false;
        }
        (self.at > start).then_some(Word {
            text,
            fixed,
            span: Some(start..self.at),
        })
    }

    /// What stands in quotes here, and whether that is all of it.
    fn quoted(&mut self, quote: u8, text: &mut String, inner: &mut Vec<Simple>) -> Option<bool> {
        let begin = self.at + 1;
        if quote == b'"' && self.line[begin..].starts_with("$(") {
            text.push_str(self.printed(inner)?);
            return Some(true);
        }
        let end = begin + self.line[begin..].find(char::from(quote))?;
        let inside = &self.line[begin..end];
        let mut fixed = true;
        if quote == b'"' {
            if inside.contains(['`', '\\', '!']) {
                return None;
            }
            if inside.contains('$') {
                let mut pieces = inside.split('$').skip(1);
                if !pieces.all(|rest| variable(rest).is_some()) {
                    return None;
                }
                fixed = false;
            }
        }
        text.push_str(inside);
        self.at = end + 1;
        Some(fixed)
    }
}

/// What means nothing to a shell, wherever it stands in a word.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./:=@%+,^".contains(&byte)
}

/// Where the operator of a redirection ends that begins at `at`: `2>`, `>>`, `&>`, `<`.
pub(super) fn operator(bytes: &[u8], at: usize) -> Option<usize> {
    let digits = bytes[at..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .count();
    let both = usize::from(digits == 0 && bytes[at] == b'&');
    let mut end = at + digits + both;
    match bytes.get(end)? {
        b'>' => {
            end += 1 + usize::from(bytes.get(end + 1) == Some(&b'>'));
            // `>|`, `>(` and the rest are for the grammar; `>&1` is told apart later.
            (!matches!(bytes.get(end), Some(b'|' | b'(' | b'>'))).then_some(end)
        }
        b'<' if both == 0 => {
            end += 1;
            (!matches!(bytes.get(end), Some(b'<' | b'(' | b'&' | b'>'))).then_some(end)
        }
        _ => None,
    }
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
