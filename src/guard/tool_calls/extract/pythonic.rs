//! Calls written as Python: `NAME.call(k="v")` after Llama's `<|python_tag|>`, `[NAME(k='v')]`
//! between LFM2's tokens.

use super::literal::{MAX_HEADER, floor, is_name_byte, skip_space};
use super::piece::Family;
use super::python_value;
use super::step::{Closing, Found, Item, Source, Step};

/// Reads such calls.
#[derive(Debug)]
pub(super) struct PythonCalls {
    family: Family,
    closing: Closing,
    list: bool,
    items: Vec<Item>,
    name: String,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Name(usize),
    Args {
        begin: usize,
        at: usize,
        depth: u32,
        text: Option<(u8, usize)>,
    },
    After(usize),
}

impl PythonCalls {
    /// One call, whose name begins at `begin`.
    pub(super) fn single(begin: usize) -> Self {
        Self::new(Family::Llama, &["<|eom_id|>", "<|eot_id|>"], false, begin)
    }

    /// A list of calls, after the bracket.
    pub(super) fn list(begin: usize) -> Self {
        Self::new(
            Family::Pythonic,
            &["<|tool_call_end|>", "<|im_end|>"],
            true,
            begin,
        )
    }

    fn new(family: Family, tokens: &'static [&'static str], list: bool, begin: usize) -> Self {
        Self {
            family,
            closing: Closing {
                tokens,
                required: false,
                last: false,
                brackets: false,
                fenced: false,
            },
            list,
            items: Vec::new(),
            name: String::new(),
            phase: Phase::Name(begin),
        }
    }

    /// How far the text was read.
    pub(super) fn at(&self) -> usize {
        match self.phase {
            Phase::Name(at) | Phase::After(at) | Phase::Args { at, .. } => at,
        }
    }

    pub(super) fn read(&mut self, source: Source<'_>) -> Step {
        loop {
            let step = match self.phase {
                Phase::Name(at) => self.read_name(source, at),
                Phase::Args { begin, .. } => self.read_args(source, begin),
                Phase::After(at) => self.after(source, at),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn read_name(&mut self, source: Source<'_>, from: usize) -> Option<Step> {
        let begin = skip_space(source.src, from);
        let rest = &source.src[begin..];
        let length = rest
            .bytes()
            .take(MAX_HEADER)
            .take_while(|b| is_name_byte(*b))
            .count();
        let Some(next) = rest.as_bytes().get(length) else {
            let more = !source.has_ended();
            return Some(if more { Step::More } else { Step::Reject });
        };
        let written = &rest[..floor(rest, length)];
        let name = if self.list {
            written
        } else {
            written.strip_suffix(".call").unwrap_or(written)
        };
        if *next != b'(' || !source.offers(name) {
            return Some(Step::Reject);
        }
        self.name = name.to_owned();
        let begin = begin + length + 1;
        self.phase = Phase::Args {
            begin,
            at: begin,
            depth: 1,
            text: None,
        };
        None
    }

    /// Read to the bracket that closes the arguments.
    fn read_args(&mut self, source: Source<'_>, begin: usize) -> Option<Step> {
        let Phase::Args {
            at, depth, text, ..
        } = &mut self.phase
        else {
            return Some(Step::Reject);
        };
        let bytes = source.src.as_bytes();
        while let Some(&byte) = bytes.get(*at) {
            let rest = &bytes[*at..];
            match *text {
                Some(_) if byte == b'\\' => *at += 1,
                Some((quote, length)) if byte == quote => {
                    if rest.len() < length && !source.has_ended() {
                        return Some(Step::More);
                    }
                    if rest.iter().take(length).filter(|b| **b == quote).count() == length {
                        *text = None;
                        *at += length - 1;
                    }
                }
                Some(_) => {}
                None => match byte {
                    b'"' | b'\'' => {
                        if rest.len() < 3 && !source.has_ended() {
                            return Some(Step::More);
                        }
                        let length = if rest.starts_with(&[byte; 3]) { 3 } else { 1 };
                        *text = Some((byte, length));
                        *at += length - 1;
                    }
                    b'(' | b'[' | b'{' => *depth += 1,
                    b')' | b']' | b'}' => {
                        *depth -= 1;
                        if *depth == 0 {
                            let end = *at;
                            self.push(&source.src[begin..end], end + 1, byte == b')');
                            return None;
                        }
                    }
                    _ => {}
                },
            }
            *at += 1;
        }
        match source.ended {
            None => Some(Step::More),
            Some(_) => {
                self.push(&source.src[begin..], source.src.len(), false);
                Some(self.done())
            }
        }
    }

    fn push(&mut self, inner: &str, end: usize, whole: bool) {
        self.items.push(Item {
            name: std::mem::take(&mut self.name),
            arguments: python_value::keywords(inner).unwrap_or_else(|| inner.to_owned()),
            end,
            whole,
        });
        self.phase = Phase::After(end);
    }

    fn after(&mut self, source: Source<'_>, end: usize) -> Option<Step> {
        if !self.list {
            return Some(self.done());
        }
        let at = skip_space(source.src, end);
        match source.src.as_bytes().get(at) {
            None if !source.has_ended() => Some(Step::More),
            Some(b',') => {
                self.phase = Phase::Name(at + 1);
                None
            }
            Some(b']') => {
                if let Some(item) = self.items.last_mut() {
                    item.end = at + 1;
                }
                Some(self.done())
            }
            // The list's bracket is missing.
            _ => Some(self.done()),
        }
    }

    fn done(&mut self) -> Step {
        let items = std::mem::take(&mut self.items);
        Step::Done(Found {
            end: items.last().map_or(0, |item| item.end),
            items,
            family: self.family,
            closing: self.closing,
        })
    }
}
