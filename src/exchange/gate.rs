//! Which of a model's tool calls may go on: the ladder's part in an open stream.

use std::sync::Arc;

use crate::guard::loops::Withheld;
use crate::guard::trouble::Trouble;
use crate::turn::Delta;

/// What becomes of tool calls.
#[derive(Clone, Debug, Default)]
pub(super) enum Rule {
    /// They go on.
    #[default]
    Open,
    /// Those of these tools do not.
    Deny(Arc<[Withheld]>),
    /// None does.
    Drop,
}

/// What becomes of a piece.
pub(super) enum Admitted {
    /// It goes on.
    Piece(Delta),
    /// It is left out.
    Nothing,
    /// A call was dropped.
    Dropped,
    /// A call was denied.
    Denied(Trouble),
}

/// The gate of one choice. A guarded call comes in two pieces: its name and all its arguments.
#[derive(Debug)]
pub(super) struct Gate {
    rule: Rule,
    /// The call under way, if it does not go on.
    held: Option<Withheld>,
    dropping: bool,
}

impl Gate {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            rule,
            held: None,
            dropping: false,
        }
    }

    pub(super) fn admit(&mut self, delta: Delta) -> Admitted {
        match delta {
            Delta::ToolOpen { ref name, .. } => {
                self.held = None;
                match &self.rule {
                    Rule::Open => Admitted::Piece(delta),
                    Rule::Drop => {
                        self.dropping = true;
                        Admitted::Dropped
                    }
                    Rule::Deny(withheld) => {
                        let found = withheld.iter().find(|tool| tool.name == *name);
                        self.held = found.cloned();
                        match self.held {
                            None => Admitted::Piece(delta),
                            Some(_) => Admitted::Nothing,
                        }
                    }
                }
            }
            Delta::ToolArguments { .. } if self.dropping => Admitted::Nothing,
            Delta::ToolArguments { index, fragment } => match self.held.take() {
                None => Admitted::Piece(Delta::ToolArguments { index, fragment }),
                Some(Withheld { name, why }) => Admitted::Denied(Trouble::Denied {
                    name,
                    why,
                    arguments: fragment,
                }),
            },
            delta => Admitted::Piece(delta),
        }
    }
}
