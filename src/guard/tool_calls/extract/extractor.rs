//! The machine that holds text back, hands it to a reader, and releases it.

use std::sync::Arc;

use super::super::offered::Offered;
use super::leftover::{self, After, Leftover};
use super::literal::{Look, floor};
use super::markdown::Markdown;
use super::marker::{self, Marker};
use super::open::{self, Reader};
use super::piece::{Piece, TextualCall};
use super::settle::{Settled, Settling};
use super::step::{Source, Step};

/// Longest source text of a call, in bytes. A longer one is text.
pub const MAX_CALL: usize = 4 << 20;

/// How much may be read again after a marker turned out to begin no call: this many times what was
/// read up to it, and [`FREE_REREAD`].
pub(super) const REREAD_FACTOR: u64 = 8;
pub(super) const FREE_REREAD: u64 = 64 << 10;

/// Turns the visible text of one answer into text and textual tool calls.
#[derive(Debug)]
pub struct Extractor {
    offered: Arc<Offered>,
    /// What was not released yet.
    pub(super) buffer: String,
    /// Start of the unreleased text: what was released stays in the buffer until the end of a push.
    head: usize,
    /// Up to where the text was searched for markers.
    at: usize,
    /// Markers before this offset were tried already.
    quiet: usize,
    /// The byte before `at`.
    previous: u8,
    mode: Mode,
    markdown: Markdown,
    nameless: bool,
    /// The beginning of a call was shown as text: whatever ends one may belong to it.
    sample_shown: bool,
    /// Bytes ever taken out of the buffer, and bytes read by readers that rejected them.
    drained: u64,
    pub(super) reread: u64,
}

#[derive(Debug)]
enum Mode {
    Text,
    Opening(&'static Marker),
    Reading(Reader),
    Settling(Settling),
}

impl Extractor {
    /// An extractor for one answer to a request that offered these tools.
    pub fn new(offered: Arc<Offered>) -> Self {
        Self {
            offered,
            buffer: String::new(),
            head: 0,
            at: 0,
            quiet: 0,
            previous: b'\n',
            mode: Mode::Text,
            markdown: Markdown::new(),
            nameless: false,
            sample_shown: false,
            drained: 0,
            reread: 0,
        }
    }

    /// Also take a whole answer that is one JSON code block without a name for a call, when it fits the
    /// arguments of exactly one tool.
    pub fn with_nameless_fences(mut self) -> Self {
        self.nameless = true;
        self
    }

    /// Take in more text as it streams.
    pub fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        let Some(&last) = text.as_bytes().last() else {
            return;
        };
        let plain = self.buffer.is_empty() && self.markdown.skip(text.as_bytes()) == text.len();
        if plain || self.offered.is_empty() {
            self.previous = last;
            self.drained += text.len() as u64;
            return emit(text, out);
        }
        self.buffer.push_str(text);
        self.run(None, out);
        self.compact();
    }

    /// Nothing follows; `cut` when the token limit ended the answer.
    pub fn finish(&mut self, cut: bool, out: &mut Vec<Piece>) {
        self.run(Some(cut), out);
        self.compact();
    }

    /// Bytes held back.
    pub fn held(&self) -> usize {
        self.buffer.len() - self.head
    }

    fn run(&mut self, ended: Option<bool>, out: &mut Vec<Piece>) {
        loop {
            let mode = std::mem::replace(&mut self.mode, Mode::Text);
            let more = match mode {
                Mode::Text => self.text(ended, out),
                Mode::Opening(marker) => self.opening(marker, ended),
                Mode::Reading(reader) => self.reading(reader, ended),
                Mode::Settling(settling) => self.settling(settling, ended, out),
            };
            if !more {
                return;
            }
        }
    }

    /// Release text up to the next marker. False when all of it was searched.
    fn text(&mut self, ended: Option<bool>, out: &mut Vec<Piece>) -> bool {
        let mut found = None;
        loop {
            let rest = &self.buffer.as_bytes()[self.at..];
            self.at += self.markdown.skip(rest);
            let Some(&byte) = self.buffer.as_bytes().get(self.at) else {
                break;
            };
            if self.at > 0 {
                self.previous = self.buffer.as_bytes()[self.at - 1];
            }
            match self.marker(byte, ended) {
                Ok(marker) => {
                    found = Some(marker);
                    break;
                }
                Err(Look::Partial) => break,
                Err(_) => match self.leftover(byte, ended) {
                    Leftover::More => break,
                    Leftover::End(length) => self.leave(length, out),
                    found => {
                        self.sample_shown |= found == Leftover::Sample;
                        self.markdown.byte(byte, self.previous);
                        self.at += 1;
                    }
                },
            }
        }
        emit(&self.buffer[self.head..self.at], out);
        self.head = self.at;
        if let Some(marker) = found {
            self.mode = Mode::Opening(marker);
        }
        found.is_some()
    }

    fn marker(&self, byte: u8, ended: Option<bool>) -> Result<&'static Marker, Look> {
        let first = matches!(byte, b'<' | b'[' | b'>' | b'{' | b't' | b'`');
        if !first || self.at < self.quiet || self.markdown.is_code() {
            return Err(Look::No);
        }
        let line_start = self.markdown.at_line_start();
        let answer_start = line_start && self.markdown.is_pristine();
        let rest = &self.buffer[self.at..];
        marker::find(rest, line_start, answer_start, ended.is_some())
    }

    fn leftover(&self, byte: u8, ended: Option<bool>) -> Leftover {
        if byte != b'<' || self.sample_shown || self.markdown.is_code() {
            return Leftover::No;
        }
        let after = match self.previous {
            _ if self.markdown.at_line_start() => After::Nothing,
            b' ' | b'\t' => After::Word,
            _ => After::Attached,
        };
        leftover::read(&self.buffer[self.at..], after, ended.is_some())
    }

    /// Release the text up to here, and what follows as what is left of a call.
    fn leave(&mut self, length: usize, out: &mut Vec<Piece>) {
        emit(&self.buffer[self.head..self.at], out);
        let end = self.at + length;
        let raw = self.buffer[self.at..end].to_owned();
        self.markdown.after_call(&raw);
        out.push(Piece::Leftover(raw));
        self.head = end;
        self.at = end;
    }

    /// The text from the marker on, as far as a call may reach.
    fn source(&self, ended: Option<bool>) -> Source<'_> {
        let all = &self.buffer[self.head..];
        let src = &all[..floor(all, MAX_CALL)];
        Source {
            src,
            offered: &self.offered,
            ended: ended.filter(|_| src.len() == all.len()),
        }
    }

    fn opening(&mut self, marker: &'static Marker, ended: Option<bool>) -> bool {
        match open::open(marker, self.source(ended), self.nameless) {
            Ok(reader) => self.mode = Mode::Reading(reader),
            Err(Step::More) => {
                self.mode = Mode::Opening(marker);
                return false;
            }
            Err(_) => self.reject(marker.text.len()),
        }
        true
    }

    fn reading(&mut self, mut reader: Reader, ended: Option<bool>) -> bool {
        let source = self.source(ended);
        match reader.read(source) {
            Step::Done(found) => {
                let settling = Settling::new(found, self.markdown.has_prose());
                self.mode = Mode::Settling(settling);
            }
            Step::Reject => self.reject(reader.at()),
            Step::More => return self.wait(Mode::Reading(reader)),
        }
        true
    }

    fn settling(
        &mut self,
        mut settling: Settling,
        ended: Option<bool>,
        out: &mut Vec<Piece>,
    ) -> bool {
        let source = self.source(ended);
        match settling.judge(source) {
            Settled::More => return self.wait(Mode::Settling(settling)),
            Settled::Reject => self.reject(settling.at()),
            Settled::Accept(end) => self.accept(settling, end, out),
        }
        true
    }

    /// Go on in `mode` once there is more text, unless the call is too long already.
    fn wait(&mut self, mode: Mode) -> bool {
        if self.held() <= MAX_CALL {
            self.mode = mode;
            return false;
        }
        self.at = self.head;
        self.quiet = self.head + MAX_CALL;
        true
    }

    /// The marker at `head` begins no call, as reading up to `read` bytes showed: text again.
    fn reject(&mut self, read: usize) {
        self.sample_shown |= self.buffer.as_bytes()[self.head] == b'<';
        self.at = self.head;
        self.quiet = self.head + 1;
        self.reread += read as u64;
        let position = self.drained + (self.head + read) as u64;
        if self.reread > position * REREAD_FACTOR + FREE_REREAD {
            self.quiet = self.head + read;
        }
    }

    fn accept(&mut self, settling: Settling, end: usize, out: &mut Vec<Piece>) {
        let found = settling.found;
        let last = found.items.len().saturating_sub(1);
        let mut from = 0;
        for (index, item) in found.items.into_iter().enumerate() {
            let to = if index == last { end } else { item.end };
            let call = TextualCall {
                name: item.name,
                arguments: item.arguments,
                family: found.family,
                raw: self.buffer[self.head + from..self.head + to].to_owned(),
            };
            from = to;
            out.push(match item.whole {
                true => Piece::Call(call),
                false => Piece::Truncated(call),
            });
        }
        self.markdown
            .after_call(&self.buffer[self.head..self.head + end]);
        self.head += end;
        self.at = self.head;
        self.quiet = self.head;
    }

    /// Let go of released text once that is worth the move.
    fn compact(&mut self) {
        if self.at > 0 {
            self.previous = self.buffer.as_bytes()[self.at - 1];
        }
        if self.head < self.buffer.len() && self.head < self.buffer.len() / 2 {
            return;
        }
        self.buffer.drain(..self.head);
        self.drained += self.head as u64;
        self.at -= self.head;
        self.quiet = self.quiet.saturating_sub(self.head);
        self.head = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > 64 << 10 {
            self.buffer = String::new();
        }
    }
}

fn emit(text: &str, out: &mut Vec<Piece>) {
    if text.is_empty() {
        return;
    }
    match out.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ => out.push(Piece::Text(text.to_owned())),
    }
}
