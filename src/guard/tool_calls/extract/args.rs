//! The JSON object of a call's arguments, where the name is known already.

use super::json::{JsonScan, Scan};
use super::literal::{Look, find_first, floor, look, trim_end};
use super::step::Source;

/// Reads one JSON object.
#[derive(Debug)]
pub(super) struct ArgsScan {
    scan: JsonScan,
    /// Damaged: the next closing token from here on ends it.
    lost: Option<usize>,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum ArgsStep {
    More,
    /// A sample, not data.
    Sample,
    Done {
        text: String,
        end: usize,
        whole: bool,
    },
}

impl ArgsScan {
    /// The opening bracket is at `begin`.
    pub(super) fn new(begin: usize) -> Self {
        Self {
            scan: JsonScan::new(begin),
            lost: None,
        }
    }

    /// How far the text was read.
    pub(super) fn at(&self) -> usize {
        self.lost.unwrap_or(self.scan.at())
    }

    /// Read on; damaged JSON ends at one of `tokens`.
    pub(super) fn read(&mut self, source: Source<'_>, tokens: &[&str]) -> ArgsStep {
        let src = source.src;
        let from = match self.lost {
            Some(from) => from,
            None => loop {
                match self.scan.next(src) {
                    Scan::Member(..) | Scan::Element(_) => {}
                    Scan::Complete(end) => return self.done(src, end, true),
                    Scan::Placeholder => return ArgsStep::Sample,
                    Scan::More if !source.has_ended() => return ArgsStep::More,
                    Scan::More => return self.unfinished(source, tokens),
                    Scan::Confused(at) => match look(&src[at..], tokens, source.has_ended()) {
                        Look::Partial => return ArgsStep::More,
                        Look::At(_) => return self.done(src, at, true),
                        Look::No => break at,
                    },
                }
            },
        };
        let sample = src[from..].starts_with(['<', '…']);
        if self.lost.is_none() && self.scan.expects_item() && sample {
            return ArgsStep::Sample;
        }
        if let Some(at) = find_first(src, from, tokens) {
            return self.done(src, at, true);
        }
        if source.has_ended() {
            return self.done(src, src.len(), source.ended == Some(false));
        }
        let keep = tokens.iter().map(|token| token.len()).max().unwrap_or(1);
        let next = floor(src, src.len().saturating_sub(keep));
        self.lost = Some(next.max(from));
        ArgsStep::More
    }

    fn unfinished(&mut self, source: Source<'_>, tokens: &[&str]) -> ArgsStep {
        let src = source.src;
        let lost = self.scan.in_text() && source.ended == Some(false);
        let end = lost.then(|| find_first(src, self.scan.begin(), tokens));
        if let Some(at) = end.flatten() {
            return self.done(src, at, true);
        }
        let whole = source.ended == Some(false) && self.scan.after_value();
        self.done(src, src.len(), whole)
    }

    fn done(&self, src: &str, end: usize, whole: bool) -> ArgsStep {
        let begin = self.scan.begin();
        ArgsStep::Done {
            text: src[begin..trim_end(src, begin, end)].to_owned(),
            end,
            whole,
        }
    }
}
