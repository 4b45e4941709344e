//! What follows a call decides what belongs to it, and whether it was one.

use super::literal::{Look, look, skip_space};
use super::marker;
use super::step::{Found, Source};

/// White space after a call that may be held while waiting for what follows.
const MAX_HELD: usize = 64;

/// Tokens of chat templates that end a message.
const END_TOKENS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "</s>",
    "<end_of_turn>",
];

/// A call that was read; closing tokens may follow.
#[derive(Debug)]
pub(super) struct Settling {
    pub(super) found: Found,
    /// End of the tokens taken along.
    at: usize,
    closed: bool,
    /// Prose stands before the call on its line.
    after_prose: bool,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    More,
    /// Not a call after all.
    Reject,
    /// A call; its source ends here.
    Accept(usize),
}

impl Settling {
    pub(super) fn new(found: Found, after_prose: bool) -> Self {
        Self {
            at: found.end,
            found,
            closed: false,
            after_prose,
        }
    }

    /// How far the text was read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Judge by what follows in the source.
    pub(super) fn judge(&mut self, source: Source<'_>) -> Settled {
        let src = source.src;
        let closing = self.found.closing;
        loop {
            let mut from = skip_space(src, self.at);
            if closing.brackets && !self.closed {
                let surplus = |b: &u8| match b {
                    b'`' => closing.fenced,
                    _ => matches!(b, b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n'),
                };
                let rest = &src.as_bytes()[self.at..];
                from = self.at
                    + rest
                        .iter()
                        .take(MAX_HELD)
                        .take_while(|b| surplus(b))
                        .count();
                if from == src.len() && !source.has_ended() && from - self.at < MAX_HELD {
                    return Settled::More;
                }
            }
            let own = look(&src[from..], closing.tokens, source.has_ended());
            let end = look(
                &src[skip_space(src, self.at)..],
                END_TOKENS,
                source.has_ended(),
            );
            match (own, end) {
                (Look::At(index), _) => {
                    self.at = from + closing.tokens[index].len();
                    self.closed = true;
                }
                (_, Look::At(index)) => {
                    self.at = skip_space(src, self.at) + END_TOKENS[index].len();
                }
                (Look::No, Look::No) => break,
                _ if from == src.len() => break,
                _ => return Settled::More,
            }
        }
        self.follow(source)
    }

    /// No closing token follows: what does?
    fn follow(&self, source: Source<'_>) -> Settled {
        let (src, closing) = (source.src, self.found.closing);
        let next = skip_space(src, self.at);
        let space = &src[self.at..next];
        if next == src.len() {
            return match source.ended {
                Some(_) => Settled::Accept(next),
                None if space.len() < MAX_HELD => Settled::More,
                None if closing.last || (closing.required && !self.closed) => Settled::Reject,
                None => Settled::Accept(self.at),
            };
        }
        if source.has_ended() && self.is_cut_short(&src[next..]) {
            return Settled::Accept(src.len());
        }
        if closing.last {
            return Settled::Reject;
        }
        let line_start = space.contains('\n');
        match marker::find(&src[next..], line_start, false, source.has_ended()) {
            Ok(_) => return Settled::Accept(next),
            Err(Look::Partial) => return Settled::More,
            Err(_) => {}
        }
        let shown = self.after_prose && !line_start;
        if shown || (closing.required && !self.closed) {
            Settled::Reject
        } else {
            Settled::Accept(self.at)
        }
    }

    /// Whether `rest`, with which the answer ends, is the beginning of a closing token, or brackets
    /// too many.
    fn is_cut_short(&self, rest: &str) -> bool {
        let closing = self.found.closing;
        let surplus = |c: char| match c {
            '`' => closing.fenced,
            _ => matches!(c, '}' | ']') || c.is_whitespace(),
        };
        let token = rest.trim_start_matches(|c| closing.brackets && !self.closed && surplus(c));
        token.is_empty() || look(token, closing.tokens, false) == Look::Partial
    }
}
