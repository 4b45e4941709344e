//! Calls whose name stands in a header before the JSON of the arguments.

use super::args::{ArgsScan, ArgsStep};
use super::headed_style::Headed;
use super::literal::{Look, MAX_HEADER, floor, is_name_byte, look, skip_fence, skip_space};
use super::step::{Found, Item, Source, Step};

/// Reads such a call.
#[derive(Debug)]
pub(super) struct HeadedCall {
    style: &'static Headed,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Header {
        begin: usize,
    },
    /// DeepSeek's older form: `function<sep>NAME`, line end, then the arguments.
    NameLine {
        begin: usize,
    },
    Open {
        name: String,
        at: usize,
    },
    Args {
        name: String,
        scan: ArgsScan,
    },
}

impl HeadedCall {
    /// The header begins at `begin`.
    pub(super) fn new(style: &'static Headed, begin: usize) -> Self {
        Self {
            style,
            phase: Phase::Header { begin },
        }
    }

    /// How far the text was read.
    pub(super) fn at(&self) -> usize {
        match &self.phase {
            Phase::Header { begin } | Phase::NameLine { begin } => *begin,
            Phase::Open { at, .. } => *at,
            Phase::Args { scan, .. } => scan.at(),
        }
    }

    pub(super) fn read(&mut self, source: Source<'_>) -> Step {
        loop {
            let step = match &mut self.phase {
                Phase::Header { begin } => {
                    let begin = *begin;
                    self.header(source, begin)
                }
                Phase::NameLine { begin } => {
                    let begin = *begin;
                    self.name_line(source, begin)
                }
                Phase::Open { at, .. } => {
                    let at = *at;
                    self.open(source, at)
                }
                Phase::Args { name, scan } => {
                    let name = std::mem::take(name);
                    return match scan.read(source, self.style.closing.tokens) {
                        ArgsStep::More => {
                            self.phase_name(name);
                            Step::More
                        }
                        ArgsStep::Sample => Step::Reject,
                        ArgsStep::Done { text, end, whole } => self.done(name, text, end, whole),
                    };
                }
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn phase_name(&mut self, given: String) {
        if let Phase::Args { name, .. } = &mut self.phase {
            *name = given;
        }
    }

    fn header(&mut self, source: Source<'_>, begin: usize) -> Option<Step> {
        let src = source.src;
        let rest = &src[begin..];
        let mut at = 0;
        let separator = loop {
            match look(&rest[at..], self.style.separators, source.has_ended()) {
                Look::At(index) => break self.style.separators[index],
                Look::Partial => return Some(Step::More),
                Look::No => {}
            }
            let next = rest[at..].chars().next();
            match next {
                Some(c) if c != '\n' && at <= MAX_HEADER => at += c.len_utf8(),
                _ => return Some(Step::Reject),
            }
        };
        let header = rest[..at].trim();
        let after = begin + at + separator.len();
        if self.style.fenced && header == "function" {
            self.phase = Phase::NameLine { begin: after };
            return None;
        }
        let name = (self.style.name)(&rest[..at]).filter(|name| source.offers(name));
        let Some(name) = name else {
            return Some(Step::Reject);
        };
        let at = if separator == "{" { after - 1 } else { after };
        self.phase = Phase::Open {
            name: name.to_owned(),
            at,
        };
        None
    }

    fn name_line(&mut self, source: Source<'_>, begin: usize) -> Option<Step> {
        let rest = &source.src[begin..];
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
        self.phase = Phase::Open {
            name: name.to_owned(),
            at: begin + length,
        };
        None
    }

    /// Before the arguments: white space, perhaps the opening of a code fence.
    fn open(&mut self, source: Source<'_>, at: usize) -> Option<Step> {
        let Phase::Open { name, .. } = &self.phase else {
            return Some(Step::Reject);
        };
        let name = name.clone();
        let mut at = skip_space(source.src, at);
        if self.style.fenced {
            match skip_fence(source.src, at, source.has_ended()) {
                None if at < source.src.len() => return Some(Step::More),
                after => at = after.unwrap_or(at),
            }
        }
        let rest = &source.src[at..];
        match rest.as_bytes().first() {
            None if !source.has_ended() => Some(Step::More),
            // Cut before the arguments began.
            None => Some(self.done(name, String::new(), at, false)),
            Some(b'{') => {
                let scan = ArgsScan::new(at);
                self.phase = Phase::Args { name, scan };
                None
            }
            Some(_) => Some(
                match look(rest, self.style.closing.tokens, source.has_ended()) {
                    Look::Partial => Step::More,
                    Look::At(_) => self.done(name, "{}".into(), at, true),
                    Look::No => Step::Reject,
                },
            ),
        }
    }

    fn done(&self, name: String, arguments: String, end: usize, whole: bool) -> Step {
        let item = Item {
            name,
            arguments,
            end,
            whole,
        };
        let mut closing = self.style.closing;
        closing.fenced = self.style.fenced;
        Found::one(self.style.family, item, closing)
    }
}
