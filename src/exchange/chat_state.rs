//! What a chat turn remembers: of its running attempt, of what the answer has, of what may be asked.

use super::choice::ChoiceState;
use crate::dialect::llama::ChunkDecoder;
use crate::dialect::sse;
use crate::guard::trouble::Trouble;
use crate::spec::AnswerShape;
use crate::turn::Delta;

/// Longest single event accepted from a backend: one token, or one usage report.
const MAX_EVENT: usize = 8 << 20;

/// What the answer has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) calls: u32,
    pub(super) text: bool,
}

impl Told {
    pub(super) fn note(&mut self, delta: &Delta) {
        match delta {
            Delta::ToolOpen { .. } => self.calls += 1,
            Delta::Text(text) => self.text |= !text.trim().is_empty(),
            Delta::Thinking(_) | Delta::ToolArguments { .. } => {}
        }
    }
}

/// What may still be asked.
#[derive(Clone, Debug)]
pub(super) struct Asks {
    pub(super) left: u32,
    /// Kinds of trouble that were asked about, of those that are asked about once.
    once: Vec<&'static str>,
}

impl Asks {
    pub(super) fn new(left: u32) -> Self {
        Self {
            left,
            once: Vec::new(),
        }
    }

    pub(super) fn allow(&self, trouble: &Trouble) -> bool {
        self.left > 0 && !self.once.contains(&trouble.kind())
    }

    pub(super) fn use_up(&mut self, trouble: &Trouble) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        if trouble.once() {
            self.once.push(trouble.kind());
        }
        Some(())
    }
}

/// State of the running attempt; a further one begins anew.
pub(super) struct Attempt {
    pub(super) frames: sse::Decoder,
    pub(super) chunks: ChunkDecoder,
    /// None before the first attempt.
    pub(super) choices: Vec<ChoiceState>,
    pub(super) done: bool,
    /// What the model says, of its first choice.
    pub(super) shape: AnswerShape,
}

impl Attempt {
    pub(super) fn new(choices: Vec<ChoiceState>, seed: &str) -> Self {
        Self {
            frames: sse::Decoder::new(MAX_EVENT),
            chunks: ChunkDecoder::new(choices.len() as u32, seed),
            choices,
            done: false,
            shape: AnswerShape::default(),
        }
    }

    /// Whether it is one, and not what stands there before the first.
    pub(super) fn has_begun(&self) -> bool {
        !self.choices.is_empty()
    }

    pub(super) fn all_stopped(&self) -> bool {
        self.choices.iter().all(|choice| choice.stop.is_some())
    }
}
