//! The guard of one streaming choice: reasoning, textual calls, held and judged tool calls.
//!
//! Text and reasoning pass as they come, but for an undecided end. Arguments of a call are held
//! until the call is complete and judged; then they are released in order. With early release a
//! large text in a call that is good so far passes as it comes too.

mod calls;
mod context;
mod text;

use std::sync::Arc;

use super::announcement::announces;
use super::intervention::Ledger;
use super::reasoning::{OrphanClosers, Split, ThinkSplitter};
use super::repetition::Watch;
use super::tool_calls::{BadCall, EarlyRelease, Extractor, Piece, RawCall, parse_constrained};
use super::trouble::Trouble;
use crate::turn::{Delta, Stop};

pub use context::{GuardContext, Start, TextSoFar, Watches};

/// State of one choice in one attempt.
pub struct StreamGuard {
    context: Arc<GuardContext>,
    splitter: ThinkSplitter,
    closers: OrphanClosers,
    extract: Option<Extractor>,
    open: Option<OpenCall>,
    /// Index of the next call that reaches the client.
    next_call: u32,
    said: String,
    /// Bytes of visible text, more than are kept.
    said_bytes: usize,
    separator: &'static str,
    after_text: bool,
    may_nudge: bool,
    early_release: bool,
    said_watch: Watch,
    thought_watch: Watch,
    thought: bool,
    ended: bool,
    ledger: Ledger,
    splits: Vec<Split>,
    closed: Vec<Split>,
    pieces: Vec<Piece>,
}

struct OpenCall {
    id: String,
    call: RawCall,
    /// Where a large text in it may go to the client before it is complete.
    early: Option<EarlyRelease>,
}

/// Longest part of the visible answer kept for showing it to the model again.
const MAX_SAID: usize = 256 << 10;

impl StreamGuard {
    /// A guard for an attempt. What it does is recorded in `ledger`.
    pub fn new(context: &Arc<GuardContext>, start: Start, ledger: Ledger) -> Self {
        let textual = context.calls_allowed && !context.offered.is_empty();
        Self {
            extract: textual
                .then(|| Extractor::new(Arc::clone(&context.offered)).with_nameless_fences()),
            context: Arc::clone(context),
            splitter: ThinkSplitter::default(),
            closers: OrphanClosers::default(),
            open: None,
            next_call: start.calls,
            said: String::new(),
            said_bytes: 0,
            separator: match start.text {
                TextSoFar::Earlier => "\n\n",
                TextSoFar::None | TextSoFar::Beginning => "",
            },
            after_text: start.text != TextSoFar::None,
            may_nudge: start.may_nudge && context.watches.nudge && context.calls_allowed,
            early_release: start.early_release,
            said_watch: Watch::default(),
            thought_watch: Watch::default(),
            thought: false,
            ended: false,
            ledger,
            splits: Vec::new(),
            closed: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// Take in what the model said; append what the client gets.
    ///
    /// # Errors
    /// [`Trouble`] when the answer cannot go on like this.
    pub fn push(&mut self, delta: Delta, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        let result = self.piece(delta, out);
        result.map_err(|trouble| self.irrevocable(trouble))
    }

    fn piece(&mut self, delta: Delta, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        match delta {
            Delta::Text(text) => {
                self.complete(false, out)?;
                self.text(&text, out)
            }
            Delta::Thinking(text) => self.think(text, out),
            Delta::ToolOpen { id, name, .. } => {
                self.flush_text(false, out)?;
                self.complete(false, out)?;
                let call = RawCall {
                    name,
                    arguments: String::new(),
                };
                self.begin_call(id, call);
                Ok(())
            }
            Delta::ToolArguments { fragment, .. } => {
                self.arguments(&fragment, out);
                Ok(())
            }
        }
    }

    /// The model has ended.
    ///
    /// # Errors
    /// [`Trouble`] when what came is not an answer.
    pub fn finish(&mut self, stop: &Stop, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        let cut = *stop == Stop::Length;
        self.ended = true;
        let flushed = self
            .flush_text(cut, out)
            .and_then(|()| self.complete(cut, out));
        flushed.map_err(|trouble| self.irrevocable(trouble))?;
        self.required_call()?;
        if self.next_call == 0
            && *stop == Stop::End
            && self.may_nudge
            && announces(&self.said, self.context.working)
        {
            return Err(Trouble::Announced);
        }
        let answered = self.after_text || !self.said.trim().is_empty();
        if self.next_call > 0 || answered || cut {
            return Ok(());
        }
        Err(if self.thought {
            Trouble::ReasoningOnly
        } else {
            Trouble::Empty
        })
    }

    /// A stop sequence of the client has ended the answer.
    ///
    /// # Errors
    /// [`Trouble::MissedCall`].
    pub fn stopped(&mut self) -> Result<(), Trouble> {
        self.ended = true;
        self.required_call()
    }

    fn required_call(&self) -> Result<(), Trouble> {
        if self.context.required && self.next_call == 0 {
            return Err(Trouble::MissedCall);
        }
        Ok(())
    }

    /// The visible text so far.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Whether it has seen the end of the answer, or refused to go on before.
    pub fn has_judged(&self) -> bool {
        self.ended
    }

    /// What it has recorded and nobody has taken.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Judge a call the model was held to write as plain JSON, and release it.
    ///
    /// # Errors
    /// [`Trouble`] when it is still no good.
    pub fn constrained(
        &mut self,
        text: &str,
        cut: bool,
        out: &mut Vec<Delta>,
    ) -> Result<(), Trouble> {
        self.ended = true;
        match parse_constrained(text) {
            Some(call) => {
                let id = self.own_id();
                self.release(id, call, cut, Some(text), out)
            }
            None => {
                let bad = if cut {
                    BadCall::Truncated
                } else {
                    BadCall::Malformed("it is not the JSON object that was asked for".to_owned())
                };
                Err(Trouble::Call {
                    bad,
                    raw: text.to_owned(),
                })
            }
        }
    }
}
