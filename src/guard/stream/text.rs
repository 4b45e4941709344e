//! The text of a choice: reasoning apart, calls and their remains out, repetition cut.

use super::{MAX_SAID, StreamGuard};
use crate::guard::reasoning::Split;
use crate::guard::tool_calls::Piece;
use crate::guard::trouble::Trouble;
use crate::turn::Delta;

impl StreamGuard {
    pub(super) fn text(&mut self, text: &str, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        let mut splits = std::mem::take(&mut self.splits);
        self.splitter.push(text, &mut splits);
        let result = self.split(&mut splits, out);
        self.splits = splits;
        result
    }

    fn split(&mut self, splits: &mut Vec<Split>, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        for split in splits.drain(..) {
            match split {
                Split::Text(text) => self.visible(text, out)?,
                Split::Thinking(text) => self.think(text, out)?,
                Split::Tag => self.ledger.record("inline_reasoning", None, None),
            }
        }
        Ok(())
    }

    fn visible(&mut self, text: String, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        let Some(extract) = &mut self.extract else {
            return self.plain(text, out);
        };
        let mut pieces = std::mem::take(&mut self.pieces);
        extract.push(&text, &mut pieces);
        let result = self.extracted(&mut pieces, out);
        self.pieces = pieces;
        result
    }

    fn extracted(&mut self, pieces: &mut Vec<Piece>, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        for piece in pieces.drain(..) {
            if !matches!(piece, Piece::Text(_)) {
                self.end_of_text(out)?;
            }
            match piece {
                Piece::Text(text) => self.plain(text, out)?,
                Piece::Call(call) => self.textual(call, false, out)?,
                Piece::Truncated(call) => self.textual(call, true, out)?,
                Piece::Leftover(raw) => return Err(Trouble::Leftover { raw }),
            }
        }
        Ok(())
    }

    /// Text that is part of no call.
    fn plain(&mut self, text: String, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        let mut splits = std::mem::take(&mut self.closed);
        self.closers.push(text, &mut splits);
        let result = self.say_all(&mut splits, out);
        self.closed = splits;
        result
    }

    fn end_of_text(&mut self, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        let mut splits = Vec::new();
        self.closers.finish(&mut splits);
        self.say_all(&mut splits, out)
    }

    fn say_all(&mut self, splits: &mut Vec<Split>, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        for split in splits.drain(..) {
            match split {
                Split::Text(text) => self.say(text, out)?,
                Split::Thinking(_) | Split::Tag => {
                    self.ledger.record("inline_reasoning", None, None);
                }
            }
        }
        Ok(())
    }

    fn say(&mut self, mut text: String, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        if !self.separator.is_empty() && !text.trim().is_empty() {
            text.insert_str(0, std::mem::take(&mut self.separator));
        }
        if self.said.len() < MAX_SAID {
            self.said.push_str(&text);
        }
        self.said_bytes += text.len();
        let watch = self
            .context
            .watches
            .repetition
            .then_some(&mut self.said_watch);
        let found = watch.and_then(|watch| watch.push(&text));
        out.push(Delta::Text(text));
        found.map_or(Ok(()), |found| {
            Err(Trouble::Repeating {
                keep: self.said_bytes.saturating_sub(found.excess),
                found,
                thinking: false,
            })
        })
    }

    pub(super) fn think(&mut self, text: String, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        self.thought = true;
        let watch = self
            .context
            .watches
            .repetition
            .then_some(&mut self.thought_watch);
        let found = watch.and_then(|watch| watch.push(&text));
        out.push(Delta::Thinking(text));
        found.map_or(Ok(()), |found| {
            Err(Trouble::Repeating {
                keep: self.said_bytes,
                found,
                thinking: true,
            })
        })
    }

    /// Whatever is undecided in the text is decided now.
    pub(super) fn flush_text(&mut self, cut: bool, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        let mut splits = Vec::new();
        self.splitter.finish(&mut splits);
        self.split(&mut splits, out)?;
        if let Some(extract) = &mut self.extract {
            let mut pieces = Vec::new();
            extract.finish(cut, &mut pieces);
            self.extracted(&mut pieces, out)?;
        }
        self.end_of_text(out)
    }
}
