//! The guard of one streaming choice: reasoning, textual calls, held and judged tool calls.
//!
//! Text and reasoning pass as they come, but for an undecided end. Arguments of a call are held
//! until the call is complete and judged; then they are released in order.

use std::sync::Arc;

use once_cell::sync::OnceCell;

use super::announcement::announces;
use super::intervention::Ledger;
use super::reasoning::{Split, ThinkSplitter};
use super::repetition::Watch;
use super::tool_calls::{
    BadCall, Change, Extractor, Judgement, Offered, Piece, RawCall, TextualCall, Validators, judge,
};
use super::trouble::Trouble;
use crate::config;
use crate::turn::{Delta, Message, Part, Stop, ToolChoice, Turn};

/// What the guard knows about a turn; shared by its attempts and choices.
pub struct GuardContext {
    offered: Arc<Offered>,
    validators: OnceCell<Arc<Validators>>,
    /// Whether the client requires a call.
    required: bool,
    /// Whether calls are allowed at all.
    calls_allowed: bool,
    /// The model has used tools just before.
    working: bool,
    /// Whether repetition is looked for.
    repetition: bool,
    /// Whether the end of a turn is looked at.
    nudge: bool,
    /// Makes identifiers for calls that come without.
    seed: String,
}

impl GuardContext {
    /// The context of a turn. Nothing is computed or copied until an answer needs it.
    pub fn new(turn: &Turn, seed: &str, settings: &config::Guard) -> Self {
        let required = matches!(
            turn.tool_choice,
            ToolChoice::Required | ToolChoice::Named(_)
        );
        Self {
            offered: Arc::new(Offered::new(turn.callable_tools())),
            validators: OnceCell::new(),
            required: required && !turn.tools.is_empty(),
            calls_allowed: turn.is_tool_turn(),
            working: turn.messages.last().is_some_and(is_tool_result),
            repetition: settings.repetition,
            nudge: settings.nudge,
            seed: seed.to_owned(),
        }
    }

    /// The tools' compiled schemas; hashing them is left until a call needs them, not before the
    /// first token.
    fn validators(&self) -> &Validators {
        self.validators
            .get_or_init(|| Validators::for_tools(self.offered.tools()))
    }
}

fn is_tool_result(message: &Message) -> bool {
    let mut parts = message.parts().iter();
    parts.any(|part| matches!(part, Part::ToolResult(_)))
}

/// What an attempt goes on from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    /// Calls that have reached the client already.
    pub calls: u32,
    /// Visible text has been said: more of it begins a new paragraph.
    pub after_text: bool,
    /// An announcement without an action may be asked about.
    pub may_nudge: bool,
}

/// State of one choice in one attempt.
pub struct StreamGuard {
    context: Arc<GuardContext>,
    splitter: ThinkSplitter,
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
    said_watch: Watch,
    thought_watch: Watch,
    thought: bool,
    ended: bool,
    ledger: Ledger,
    splits: Vec<Split>,
    pieces: Vec<Piece>,
}

struct OpenCall {
    id: String,
    call: RawCall,
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
            open: None,
            next_call: start.calls,
            said: String::new(),
            said_bytes: 0,
            separator: if start.after_text { "\n\n" } else { "" },
            after_text: start.after_text,
            may_nudge: start.may_nudge && context.nudge && context.calls_allowed,
            said_watch: Watch::default(),
            thought_watch: Watch::default(),
            thought: false,
            ended: false,
            ledger,
            splits: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// Take in what the model said; append what the client gets.
    ///
    /// # Errors
    /// [`Trouble`] when the answer cannot go on like this.
    pub fn push(&mut self, delta: Delta, out: &mut Vec<Delta>) -> Result<(), Trouble> {
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
                self.open = Some(OpenCall { id, call });
                Ok(())
            }
            Delta::ToolArguments { fragment, .. } => {
                if let Some(open) = &mut self.open {
                    open.call.arguments.push_str(&fragment);
                }
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
        self.flush_text(cut, out)?;
        self.complete(cut, out)?;
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

    /// Calls that have reached the client.
    pub fn calls(&self) -> u32 {
        self.next_call
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
        match super::tool_calls::parse_constrained(text) {
            Some(call) => {
                let id = self.own_id();
                self.release(id, call, cut, text, out)
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

    fn text(&mut self, text: &str, out: &mut Vec<Delta>) -> Result<(), Trouble> {
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
            return self.say(text, out);
        };
        let mut pieces = std::mem::take(&mut self.pieces);
        extract.push(&text, &mut pieces);
        let result = self.extracted(&mut pieces, out);
        self.pieces = pieces;
        result
    }

    fn extracted(&mut self, pieces: &mut Vec<Piece>, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        for piece in pieces.drain(..) {
            match piece {
                Piece::Text(text) => self.say(text, out)?,
                Piece::Call(call) => self.textual(call, false, out)?,
                Piece::Truncated(call) => self.textual(call, true, out)?,
                Piece::Leftover(raw) => return Err(Trouble::Leftover { raw }),
            }
        }
        Ok(())
    }

    fn textual(
        &mut self,
        call: TextualCall,
        cut: bool,
        out: &mut Vec<Delta>,
    ) -> Result<(), Trouble> {
        self.ledger
            .record("textual_call", Some(&call.raw), Some(&call.name));
        let id = self.own_id();
        let raw = RawCall {
            name: call.name,
            arguments: call.arguments,
        };
        self.release(id, raw, cut, &call.raw, out)
    }

    fn own_id(&self) -> String {
        format!("call_{}_{}", self.context.seed, self.next_call)
    }

    fn say(&mut self, mut text: String, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        if !self.separator.is_empty() && !text.trim().is_empty() {
            text.insert_str(0, std::mem::take(&mut self.separator));
        }
        if self.said.len() < MAX_SAID {
            self.said.push_str(&text);
        }
        self.said_bytes += text.len();
        let found = match self.context.repetition {
            true => self.said_watch.push(&text),
            false => None,
        };
        out.push(Delta::Text(text));
        match found {
            None => Ok(()),
            Some(found) => Err(Trouble::Repeating {
                keep: self.said_bytes.saturating_sub(found.excess),
                found,
                thinking: false,
            }),
        }
    }

    fn think(&mut self, text: String, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        self.thought = true;
        let found = match self.context.repetition {
            true => self.thought_watch.push(&text),
            false => None,
        };
        out.push(Delta::Thinking(text));
        match found {
            None => Ok(()),
            Some(found) => Err(Trouble::Repeating {
                keep: self.said_bytes,
                found,
                thinking: true,
            }),
        }
    }

    /// Whatever is undecided in the text is decided now.
    fn flush_text(&mut self, cut: bool, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        let mut splits = Vec::new();
        self.splitter.finish(&mut splits);
        self.split(&mut splits, out)?;
        if let Some(extract) = &mut self.extract {
            let mut pieces = Vec::new();
            extract.finish(cut, &mut pieces);
            self.extracted(&mut pieces, out)?;
        }
        Ok(())
    }

    /// The structured call under way is complete.
    fn complete(&mut self, cut: bool, out: &mut Vec<Delta>) -> Result<(), Trouble> {
        let Some(OpenCall { id, call }) = self.open.take() else {
            return Ok(());
        };
        let raw = format!("{} {}", call.name, call.arguments);
        self.release(id, call, cut, &raw, out)
    }

    fn release(
        &mut self,
        id: String,
        call: RawCall,
        cut: bool,
        raw: &str,
        out: &mut Vec<Delta>,
    ) -> Result<(), Trouble> {
        let offered = &self.context.offered;
        if offered.is_empty() {
            // Nothing to judge by: without tools on offer llama-server makes no calls.
            self.pass(id, call, out);
            return Ok(());
        }
        match judge(
            &call,
            |name| offered.resolve(name),
            self.context.validators(),
            cut,
        ) {
            Judgement::Good {
                call: repaired,
                changes,
            } => {
                for change in changes.as_slice() {
                    let (before, after) = match change {
                        Change::Name => (&call.name, &repaired.name),
                        _ => (&call.arguments, &repaired.arguments),
                    };
                    self.ledger
                        .record(change.as_str(), Some(before), Some(after));
                }
                self.pass(id, repaired, out);
                Ok(())
            }
            Judgement::Bad { reason } => Err(Trouble::Call {
                bad: reason,
                raw: raw.to_owned(),
            }),
        }
    }

    fn pass(&mut self, id: String, call: RawCall, out: &mut Vec<Delta>) {
        let index = self.next_call;
        self.next_call += 1;
        out.push(Delta::ToolOpen {
            index,
            id,
            name: call.name,
        });
        out.push(Delta::ToolArguments {
            index,
            fragment: call.arguments,
        });
    }
}
