//! Gemma's own notation: `<|tool_call>call:NAME{key:<|"|>text<|"|>,n:1}<tool_call|>`.

use super::literal::{Look, MAX_HEADER, floor, is_name_byte, look, skip_space, trim_end};
use super::piece::Family;
use super::step::{Closing, Found, Item, Source, Step};
use super::typed::push_string;

const QUOTE: &str = "<|\"|>";
const CALL: &str = "call:";

const CLOSING: Closing = Closing {
    tokens: &["<tool_call|>", "<turn|>", "<end_of_turn>"],
    required: false,
    last: false,
    brackets: true,
    fenced: false,
};

/// Reads one such call.
#[derive(Debug)]
pub(super) struct GemmaCall {
    name: String,
    begin: usize,
    at: usize,
    stack: Vec<u8>,
    text: Option<Quote>,
    named: bool,
}

/// What a string ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quote {
    Token,
    Plain,
}

impl GemmaCall {
    /// What follows the marker is at `begin`.
    pub(super) fn new(begin: usize) -> Self {
        Self {
            name: String::new(),
            begin,
            at: begin,
            stack: Vec::new(),
            text: None,
            named: false,
        }
    }

    /// How far the text was read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn read(&mut self, source: Source<'_>) -> Step {
        let header = (!self.named).then(|| self.header(source));
        if let Some(step) = header.flatten() {
            return step;
        }
        let src = source.src;
        let bytes = src.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match self.text {
                Some(Quote::Token) => {
                    match memchr::memmem::find(&bytes[self.at..], QUOTE.as_bytes()) {
                        Some(found) => {
                            self.at += found + QUOTE.len();
                            self.text = None;
                        }
                        None => {
                            let keep = src.len().saturating_sub(QUOTE.len() - 1);
                            self.at = self.at.max(floor(src, keep));
                            break;
                        }
                    }
                }
                Some(Quote::Plain) if byte == b'\\' && self.at + 1 == bytes.len() => break,
                Some(Quote::Plain) if byte == b'\\' => self.at += 2,
                Some(Quote::Plain) => {
                    self.text = (byte != b'"').then_some(Quote::Plain);
                    self.at += 1;
                }
                None => {
                    if let Some(step) = self.structure(source, byte) {
                        return step;
                    }
                }
            }
        }
        match source.ended {
            None => Step::More,
            Some(cut) => {
                let whole = !cut && self.text.is_none();
                self.done(src, src.len(), whole)
            }
        }
    }

    fn header(&mut self, source: Source<'_>) -> Option<Step> {
        let at = skip_space(source.src, self.begin);
        let rest = &source.src[at..];
        match look(rest, &[CALL], source.has_ended()) {
            Look::Partial => return Some(Step::More),
            Look::No => return Some(Step::Reject),
            Look::At(_) => {}
        }
        let rest = &rest[CALL.len()..];
        let length = rest
            .bytes()
            .take(MAX_HEADER)
            .take_while(|b| is_name_byte(*b))
            .count();
        if length == rest.len() && !source.has_ended() {
            return Some(Step::More);
        }
        let name = &rest[..floor(rest, length)];
        if !source.offers(name) {
            return Some(Step::Reject);
        }
        let open = skip_space(rest, length);
        match rest.as_bytes().get(open) {
            Some(b'{') => {}
            None if !source.has_ended() => return Some(Step::More),
            _ => return Some(Step::Reject),
        }
        self.name = name.to_owned();
        self.begin = at + CALL.len() + open;
        self.at = self.begin;
        self.named = true;
        None
    }

    fn structure(&mut self, source: Source<'_>, byte: u8) -> Option<Step> {
        match byte {
            b'{' | b'[' => self.stack.push(byte),
            b'}' | b']' => {
                self.stack.pop();
                if self.stack.is_empty() {
                    return Some(self.done(source.src, self.at + 1, true));
                }
            }
            b'"' => self.text = Some(Quote::Plain),
            b'.' => match look(&source.src[self.at..], &["..."], source.has_ended()) {
                Look::Partial => return Some(Step::More),
                Look::At(_) => return Some(Step::Reject),
                Look::No => {}
            },
            b'<' => match look(
                &source.src[self.at..],
                &[QUOTE, "<tool_call|>"],
                source.has_ended(),
            ) {
                Look::Partial => return Some(Step::More),
                Look::At(0) => {
                    self.text = Some(Quote::Token);
                    self.at += QUOTE.len();
                    return None;
                }
                Look::At(_) => return Some(self.done(source.src, self.at, true)),
                Look::No => {}
            },
            _ => {}
        }
        self.at += 1;
        None
    }

    fn done(&mut self, src: &str, end: usize, whole: bool) -> Step {
        let item = Item {
            name: std::mem::take(&mut self.name),
            arguments: to_json(&src[self.begin..trim_end(src, self.begin, end)]),
            end,
            whole,
        };
        Found::one(Family::Gemma, item, CLOSING)
    }
}

/// The notation as JSON text: its strings become JSON strings, bare keys get quotes, everything else
/// stays as it is.
fn to_json(body: &str) -> String {
    let mut out = String::with_capacity(body.len() + 16);
    let mut rest = body;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(QUOTE) {
            let end = after.find(QUOTE);
            let text = &after[..end.unwrap_or(after.len())];
            push_string(text, &mut out);
            if end.is_none() {
                out.pop(); // the end of the string is missing in the source too
            }
            rest = &after[end.map_or(after.len(), |end| end + QUOTE.len())..];
        } else if first == '"' {
            let length = quoted_length(rest);
            out.push_str(&rest[..length]);
            rest = &rest[length..];
        } else if is_key_char(first) {
            let length = rest.find(|c| !is_key_char(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(length);
            let opens = out.trim_end().ends_with(['{', ',']);
            if opens && after.trim_start().starts_with(':') {
                push_string(word, &mut out);
            } else {
                out.push_str(word);
            }
            rest = after;
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

fn is_key_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '+' | '/' | '@')
}

/// Length of the JSON string at the start of `text`.
fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::to_json;

    #[test]
    fn the_notation_becomes_json() {
        for (body, json) in [
            ("{}", "{}"),
            (
                r#"{a:<|"|>x: {y}, "z"<|"|>,b:1}"#,
                r#"{"a":"x: {y}, \"z\"","b":1}"#,
            ),
            (
                r#"{a-b : [<|"|>p<|"|>, true, {c:null}]}"#,
                r#"{"a-b" : ["p", true, {"c":null}]}"#,
            ),
            (r#"{"a":"b\"c","d":-1.5e3}"#, r#"{"a":"b\"c","d":-1.5e3}"#),
            (
                "{<|\"|>k<|\"|>:<|\"|>l1\nl2\\<|\"|>}",
                "{\"k\":\"l1\\nl2\\\\\"}",
            ),
            (r#"{a:<|"|>cut"#, r#"{"a":"cut"#),
        ] {
            assert_eq!(to_json(body), json);
        }
    }
}
