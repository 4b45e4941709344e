//! The output of an answer as it grows, item by item: one after the other, each opened and closed
//! once. Streams and whole answers are both made of it.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::item::{Body, Call, Item, Status, owned_logprobs, plain};
use super::wire::WireItem;
use crate::turn::{AnswerForm, Choice, Stop};

/// Watches an output grow; `at` is the item's position.
pub(super) trait Watch {
    /// An item begins; nothing is in it yet.
    fn opened(&mut self, at: u32, item: &Item);
    /// Something was added to it, with the probabilities of its tokens.
    fn grew(&mut self, at: u32, item: &Item, more: &str, logprobs: &[Box<RawValue>]);
    /// It is complete, or as complete as it will be.
    fn closed(&mut self, at: u32, item: &Item);
}

/// Nobody watches.
impl Watch for () {
    fn opened(&mut self, _: u32, _: &Item) {}
    fn grew(&mut self, _: u32, _: &Item, _: &str, _: &[Box<RawValue>]) {}
    fn closed(&mut self, _: u32, _: &Item) {}
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Output {
    /// The answer's id, without a prefix.
    id: String,
    pub(super) form: Arc<AnswerForm>,
    items: Vec<Item>,
    /// Whether the last item may grow.
    open: bool,
    /// Probabilities of text that is still held.
    early_logprobs: Vec<Box<RawValue>>,
    /// Pieces of reasoning: llama-server streams one a token.
    reasoning_tokens: u64,
}

impl Output {
    pub(super) fn new(id: &str, form: Arc<AnswerForm>) -> Self {
        Self {
            id: id.to_owned(),
            form,
            items: Vec::new(),
            open: false,
            early_logprobs: Vec::new(),
            reasoning_tokens: 0,
        }
    }

    /// The output of a collected answer.
    pub(super) fn of(id: &str, form: Arc<AnswerForm>, choice: &Choice) -> Self {
        let mut output = Self::new(id, form);
        let nobody = &mut ();
        output.think(&choice.thinking, nobody);
        output.reasoning_tokens = choice.thinking_pieces;
        for logprobs in &choice.logprobs {
            output.say("", Some(logprobs), nobody);
        }
        output.say(&choice.text, None, nobody);
        for call in &choice.calls {
            output.call(&call.id, &call.name, nobody);
            output.arguments(&call.arguments, nobody);
        }
        output.close(choice.stop.as_ref().unwrap_or(&Stop::End), nobody);
        output
    }

    /// Items so far, in the protocol's words.
    pub(super) fn wire(&self) -> Vec<WireItem<'_>> {
        let items = self.items.iter();
        items.map(|item| item.wire(&self.form)).collect()
    }

    pub(super) fn reasoning_tokens(&self) -> u64 {
        self.reasoning_tokens
    }

    /// More visible text.
    pub(super) fn say(&mut self, more: &str, logprobs: Option<&RawValue>, watch: &mut impl Watch) {
        let mut tokens = std::mem::take(&mut self.early_logprobs);
        tokens.extend(owned_logprobs(logprobs));
        if more.is_empty() {
            self.early_logprobs = tokens;
            return;
        }
        if !matches!(self.last(), Some(Body::Message { .. })) {
            let body = Body::Message {
                text: String::new(),
                logprobs: Vec::new(),
            };
            self.enter(body, watch);
        }
        if let Some((at, item)) = self.current() {
            if let Body::Message { text, .. } = &mut item.body {
                text.push_str(more);
            }
            watch.grew(at, item, more, &tokens);
            if let Body::Message { logprobs, .. } = &mut item.body {
                logprobs.append(&mut tokens);
            }
        }
    }

    /// More reasoning.
    pub(super) fn think(&mut self, more: &str, watch: &mut impl Watch) {
        if more.is_empty() {
            return;
        }
        self.reasoning_tokens += 1;
        if !matches!(self.last(), Some(Body::Reasoning { .. })) {
            let text = String::new();
            self.enter(Body::Reasoning { text }, watch);
        }
        if let Some((at, item)) = self.current() {
            if let Body::Reasoning { text } = &mut item.body {
                text.push_str(more);
            }
            watch.grew(at, item, more, &[]);
        }
    }

    /// A call begins, of the tool the model knows as `name`.
    pub(super) fn call(&mut self, id: &str, name: &str, watch: &mut impl Watch) {
        let known = self.form.tools.get(name).cloned();
        let call = Call {
            id: id.to_owned(),
            form: known.unwrap_or_else(|| plain(name)),
            arguments: String::new(),
        };
        self.enter(Body::Call(call), watch);
    }

    /// More of the last call's arguments. (The upstream's decoder refuses those of another.)
    pub(super) fn arguments(&mut self, more: &str, watch: &mut impl Watch) {
        if let Some((at, item)) = self.current()
            && let Body::Call(call) = &mut item.body
        {
            call.arguments.push_str(more);
            watch.grew(at, item, more, &[]);
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&mut self, stop: &Stop, watch: &mut impl Watch) {
        let status = match stop {
            Stop::Length => Status::Incomplete,
            Stop::End | Stop::Sequence(_) => Status::Completed,
        };
        self.leave(status, watch);
    }

    /// The answer broke off.
    pub(super) fn break_off(&mut self) {
        self.leave(Status::Incomplete, &mut ());
    }

    fn last(&self) -> Option<&Body> {
        let last = self.items.last().filter(|_| self.open)?;
        Some(&last.body)
    }

    fn current(&mut self) -> Option<(u32, &mut Item)> {
        let at = self.position();
        self.items
            .last_mut()
            .filter(|_| self.open)
            .map(|item| (at, item))
    }

    /// Position of the last item.
    fn position(&self) -> u32 {
        (self.items.len() as u32).saturating_sub(1)
    }

    fn enter(&mut self, body: Body, watch: &mut impl Watch) {
        self.leave(Status::Completed, watch);
        let id = format!("{}_{}_{}", body.id_prefix(), self.id, self.items.len());
        self.items.push(Item {
            id,
            status: Status::InProgress,
            body,
        });
        self.open = true;
        if let Some((at, item)) = self.current() {
            watch.opened(at, item);
        }
    }

    fn leave(&mut self, status: Status, watch: &mut impl Watch) {
        if let Some((at, item)) = self.current() {
            item.status = status;
            watch.closed(at, item);
        }
        self.open = false;
    }
}
