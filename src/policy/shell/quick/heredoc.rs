//! Here-documents that stand for themselves: nothing in them is replaced.

use super::super::word::Word;
use super::words::Words;
use super::{Join, Simple};

/// What ends a here-document.
pub(super) struct Delimiter<'a> {
    word: &'a str,
    /// Nothing in the document is replaced.
    quoted: bool,
}

impl<'a> Words<'a> {
    /// `<<WORD`, `<<'WORD'` or `<<"WORD"`.
    pub(super) fn delimiter(&mut self) -> Option<Delimiter<'a>> {
        self.at += "<<".len();
        self.skip_blanks();
        let rest = &self.line[self.at..];
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let bare = rest.strip_prefix(['\'', '"']).unwrap_or(rest);
        let letters = bare
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let length = letters.count();
        let word = &bare[..length];
        let after = match quote {
            Some(quote) => bare[length..].strip_prefix(quote)?,
            None => &bare[length..],
        };
        let ends = after.is_empty() || after.starts_with([' ', '\t', '\n', '>']);
        if word.is_empty() || !ends {
            return None;
        }
        self.at = self.line.len() - after.len();
        let quoted = quote.is_some();
        Some(Delimiter { word, quoted })
    }

    /// The document, which begins on the next line; what is read next stands behind its last one.
    pub(super) fn heredoc(&mut self, delimiter: &Delimiter<'_>) -> Option<&'a str> {
        if self.peek() != Some(b'\n') {
            return None;
        }
        let begin = self.at + 1;
        let mut at = begin;
        loop {
            let rest = &self.line[at..];
            let end = rest.find('\n');
            if &rest[..end.unwrap_or(rest.len())] == delimiter.word {
                break;
            }
            at += end? + 1;
        }
        let document = &self.line[begin..at];
        self.at = at + delimiter.word.len();
        let plain = delimiter.quoted || !document.contains(['$', '`', '\\']);
        plain.then_some(document)
    }

    /// What `"$(cat <<'EOF' …)"` says: agents write long messages so.
    pub(super) fn printed(&mut self, inner: &mut Vec<Simple>) -> Option<&'a str> {
        let cat = self.at + "\"$(".len();
        if !self.line[cat..].starts_with("cat <<") {
            return None;
        }
        self.at = cat + "cat ".len();
        let delimiter = self.delimiter()?;
        let document = self.heredoc(&delimiter)?;
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n')) {
            self.at += 1;
        }
        if self.pair() != (Some(b')'), Some(b'"')) {
            return None;
        }
        self.at += 2;
        let mut simple = Simple::new(Join::Start);
        let mut word = Word::fixed("cat");
        word.span = Some(cat..cat + "cat".len());
        simple.words.push(word);
        simple.text = Some(document.to_owned());
        inner.push(simple);
        Some(document.trim_end_matches('\n'))
    }
}
