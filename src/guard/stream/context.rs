//! What the guard of a choice knows about its turn.

use std::sync::Arc;

use once_cell::sync::OnceCell;

use crate::guard::tool_calls::{Judgement, Offered, RawCall, Validators, judge, may_be_any_text};
use crate::turn::{Message, Part, ToolChoice, Turn};

/// What is looked for in an answer besides its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watches {
    /// Repetition without end.
    pub repetition: bool,
    /// An announcement without an action.
    pub nudge: bool,
}

/// What the guard knows about a turn; shared by its attempts and choices.
pub struct GuardContext {
    pub(super) offered: Arc<Offered>,
    pub(super) validators: OnceCell<Arc<Validators>>,
    /// Whether the client requires a call.
    pub(super) required: bool,
    /// Whether calls are allowed at all.
    pub(super) calls_allowed: bool,
    /// The model has used tools just before.
    pub(super) working: bool,
    pub(super) watches: Watches,
    /// Makes identifiers for calls that come without.
    pub(super) seed: String,
}

impl GuardContext {
    /// The context of a turn. Nothing is computed or copied until an answer needs it.
    pub fn new(turn: &Turn, seed: &str, watches: Watches) -> Self {
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
            watches,
            seed: seed.to_owned(),
        }
    }

    /// What becomes of a call of these tools.
    pub(super) fn judge(&self, call: &RawCall, cut: bool) -> Judgement {
        let resolve = |name: &str| self.offered.resolve(name);
        judge(call, resolve, self.validators(), cut)
    }

    /// Whether the text of the argument `key` may flow: `closed`, the call's arguments so far, are
    /// good as they are, and stay so whatever else the text will say.
    pub(super) fn may_flow(&self, name: &str, key: &str, closed: &str) -> bool {
        if !may_be_any_text(self.offered.schema_value(name), key) {
            return false;
        }
        let call = RawCall {
            name: name.to_owned(),
            arguments: closed.to_owned(),
        };
        match self.judge(&call, false) {
            Judgement::Good { call, changes } => {
                changes.as_slice().is_empty() && call.arguments == closed
            }
            Judgement::Bad { .. } => false,
        }
    }

    /// Whether a call of `name` with `arguments` matches the tool's schema.
    pub fn accepts(&self, name: &str, arguments: &str) -> bool {
        self.offered.is_empty() || self.validators().validate(name, arguments).is_ok()
    }

    /// The tools' compiled schemas; hashing them is left until a call needs them, not before the
    /// first token.
    pub(super) fn validators(&self) -> &Validators {
        self.validators
            .get_or_init(|| Validators::for_tools(self.offered.tools()))
    }
}

fn is_tool_result(message: &Message) -> bool {
    let mut parts = message.parts().iter();
    parts.any(|part| matches!(part, Part::ToolResult(_)))
}

/// The visible text that an attempt goes on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextSoFar {
    /// There is none.
    #[default]
    None,
    /// An earlier attempt's: more of it begins a new paragraph.
    Earlier,
    /// The beginning of this very text.
    Beginning,
}

/// What an attempt goes on from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    /// Calls that have reached the client already.
    pub calls: u32,
    /// The visible text so far.
    pub text: TextSoFar,
    /// An announcement without an action may be asked about.
    pub may_nudge: bool,
    /// A large text in a call may go to the client before the call is complete.
    pub early_release: bool,
}
