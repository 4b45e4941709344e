//! The object itself, token by token.

use super::string::{self, Rewriter};
use super::wrapper::{self, is_json_space};
use super::{Change, Changes, Fault, MAX_DEPTH, Unrepairable};

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// A key, or the end of an object that just began.
    KeyOrEnd,
    Key,
    Colon,
    Value,
    /// A value, or the end of an array that just began.
    ValueOrEnd,
    /// A comma or a closer.
    Next,
}

/// Read the object at byte `start`; none when neither it nor anything before it needed repair.
///
/// # Errors
/// [`Unrepairable`] where repair would be a guess.
pub(super) fn read(
    text: &str,
    start: usize,
    cut: bool,
    changes: &mut Changes,
) -> Result<Option<String>, Unrepairable> {
    let mut reader = Reader {
        rewriter: Rewriter::new(text, start),
        text,
        changes,
        open: Vec::new(),
        at: start,
        token_end: start,
        expect: Expect::Value,
    };
    let end = reader.run(cut)?;
    let Reader {
        rewriter, changes, ..
    } = reader;
    wrapper::after(text, end, changes)?;
    Ok((!changes.is_empty()).then(|| rewriter.finish(end)))
}

struct Reader<'a, 'c> {
    rewriter: Rewriter<'a>,
    text: &'a str,
    changes: &'c mut Changes,
    /// Closers that are owed, the innermost last.
    open: Vec<u8>,
    at: usize,
    /// End of the last token.
    token_end: usize,
    expect: Expect,
}

impl Reader<'_, '_> {
    /// Read to the end of the object; the position behind it.
    fn run(&mut self, cut: bool) -> Result<usize, Unrepairable> {
        loop {
            self.skip_space();
            let Some(byte) = self.peek() else {
                return self.end_early(cut);
            };
            match self.expect {
                Expect::Next => match byte {
                    b',' => self.comma(),
                    b'}' | b']' => self.close(byte),
                    b'<' | b'`' => {
                        wrapper::after(self.text, self.at, self.changes)?;
                        return self.end_early(cut);
                    }
                    _ => return Err(self.fault("text where a comma or a closing brace belongs")),
                },
                Expect::KeyOrEnd if byte == b'}' => self.close(byte),
                Expect::ValueOrEnd if byte == b']' => self.close(byte),
                Expect::KeyOrEnd if byte == b'{' && self.open.len() == 1 => self.opener_again()?,
                Expect::Key | Expect::KeyOrEnd => self.key(byte)?,
                Expect::Colon if byte == b':' => {
                    self.advance(1);
                    self.expect = Expect::Value;
                }
                Expect::Colon => return Err(self.fault("no colon after a key")),
                Expect::Value | Expect::ValueOrEnd => self.value(byte)?,
            }
            if self.open.is_empty() {
                return Ok(self.token_end);
            }
        }
    }

    /// The text is over and the object is not.
    fn end_early(&mut self, cut: bool) -> Result<usize, Unrepairable> {
        if cut || self.expect != Expect::Next {
            return Err(Unrepairable::Truncated);
        }
        self.changes.note(Change::CloserAdded);
        let closers: String = self.open.iter().rev().map(|b| char::from(*b)).collect();
        self.rewriter
            .replace(self.token_end..self.text.len(), &closers);
        Ok(self.text.len())
    }

    fn comma(&mut self) {
        let comma = self.at;
        self.advance(1);
        self.skip_space();
        if matches!(self.peek(), Some(b'}' | b']')) {
            self.changes.note(Change::TrailingComma);
            self.rewriter.replace(comma..comma + 1, "");
        } else if self.open.last() == Some(&b'}') {
            self.expect = Expect::Key;
        } else {
            self.expect = Expect::Value;
        }
    }

    /// A closer: the one that is owed, one further out, or one too many.
    fn close(&mut self, closer: u8) {
        self.expect = Expect::Next;
        let Some(depth) = self.open.iter().rposition(|owed| *owed == closer) else {
            self.changes.note(Change::CloserRemoved);
            self.rewriter.replace(self.at..self.at + 1, "");
            self.advance(1);
            return;
        };
        let missing: String = self.open.drain(depth + 1..).rev().map(char::from).collect();
        if !missing.is_empty() {
            self.changes.note(Change::CloserAdded);
            self.rewriter.replace(self.at..self.at, &missing);
        }
        self.open.pop();
        self.advance(1);
    }

    fn opener_again(&mut self) -> Result<(), Unrepairable> {
        if self.changes.as_slice().contains(&Change::OpenerRemoved) {
            return Err(self.fault("a brace where a key belongs"));
        }
        self.changes.note(Change::OpenerRemoved);
        self.rewriter.replace(self.at..self.at + 1, "");
        self.advance(1);
        Ok(())
    }

    fn key(&mut self, first: u8) -> Result<(), Unrepairable> {
        self.expect = Expect::Colon;
        if matches!(first, b'"' | b'\'') {
            return self.string();
        }
        let word = self.word(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'-'));
        if word == 0 || first.is_ascii_digit() || first == b'-' {
            return Err(self.fault("no key where one belongs"));
        }
        self.changes.note(Change::UnquotedKey);
        self.rewriter.replace(self.at..self.at, "\"");
        self.advance(word);
        self.rewriter.replace(self.at..self.at, "\"");
        Ok(())
    }

    fn value(&mut self, first: u8) -> Result<(), Unrepairable> {
        self.expect = Expect::Next;
        match first {
            b'{' => self.open(b'}', Expect::KeyOrEnd),
            b'[' => self.open(b']', Expect::ValueOrEnd),
            b'"' | b'\'' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            _ if first.is_ascii_alphabetic() => self.literal(),
            _ => Err(self.fault("no value where one belongs")),
        }
    }

    fn open(&mut self, closer: u8, expect: Expect) -> Result<(), Unrepairable> {
        if self.open.len() == MAX_DEPTH {
            return Err(self.fault("too deep a nesting"));
        }
        self.open.push(closer);
        self.expect = expect;
        self.advance(1);
        Ok(())
    }

    fn string(&mut self) -> Result<(), Unrepairable> {
        let end = string::read(&mut self.rewriter, self.changes, self.at)?;
        self.advance(end - self.at);
        Ok(())
    }

    /// A number as RFC 8259 §6 has it; any other spelling is not repaired, its digits are a value.
    fn number(&mut self) -> Result<(), Unrepairable> {
        let mut at = self.at + usize::from(self.peek() == Some(b'-'));
        let leading_zero = self.text.as_bytes().get(at) == Some(&b'0');
        let integer = self.digits(&mut at)?;
        if leading_zero && integer > 1 {
            return Err(self.fault("a number with a leading zero"));
        }
        if self.text.as_bytes().get(at) == Some(&b'.') {
            at += 1;
            self.digits(&mut at)?;
        }
        if matches!(self.text.as_bytes().get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(self.text.as_bytes().get(at), Some(b'+' | b'-')));
            self.digits(&mut at)?;
        }
        self.advance(at - self.at);
        Ok(())
    }

    fn digits(&self, at: &mut usize) -> Result<usize, Unrepairable> {
        let rest = &self.text.as_bytes()[*at..];
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        match count {
            0 if rest.is_empty() => Err(Unrepairable::Truncated),
            0 => Err(self.fault("a number that JSON does not have")),
            _ => {
                *at += count;
                Ok(count)
            }
        }
    }

    fn literal(&mut self) -> Result<(), Unrepairable> {
        let length = self.word(|b| b.is_ascii_alphabetic());
        let word = &self.text[self.at..self.at + length];
        let json = match word {
            "true" | "false" | "null" => word,
            "True" => "true",
            "False" => "false",
            "None" => "null",
            _ if self.at + length == self.text.len() => return Err(Unrepairable::Truncated),
            _ => return Err(self.fault("a bare word")),
        };
        if json != word {
            self.changes.note(Change::PythonLiterals);
            self.rewriter.replace(self.at..self.at + length, json);
        }
        self.advance(length);
        Ok(())
    }

    fn word(&self, belongs: impl Fn(u8) -> bool) -> usize {
        let rest = self.text[self.at..].bytes();
        rest.take_while(|b| belongs(*b)).count()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(is_json_space) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn advance(&mut self, length: usize) {
        self.at += length;
        self.token_end = self.at;
    }

    fn fault(&self, what: &'static str) -> Unrepairable {
        Fault::at(what, self.text, self.at)
    }
}
