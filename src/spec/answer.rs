//! What came out of a turn: told from the answer, reported beside the class of the request, and never
//! used to compare (what comes out depends on what runs).

use serde::{Deserialize, Serialize};

use crate::turn::Delta;

/// What an answer mostly is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerClass {
    /// It calls a tool.
    ToolCall,
    /// At least half of its text is in fenced blocks.
    Code,
    /// Other text.
    Prose,
    /// Reasoning and nothing else.
    Reasoning,
    /// Nothing.
    Empty,
}

impl AnswerClass {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ToolCall,
        Self::Code,
        Self::Prose,
        Self::Reasoning,
        Self::Empty,
    ];

    /// Its name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ToolCall => "tool_call",
            Self::Code => "code",
            Self::Prose => "prose",
            Self::Reasoning => "reasoning",
            Self::Empty => "empty",
        }
    }
}

/// The shape of an answer, from its pieces as they come: nothing of them is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerShape {
    calls: bool,
    thought: bool,
    fenced: usize,
    plain: usize,
    in_fence: bool,
    /// Backticks in a row at the end of what came.
    ticks: u8,
}

impl AnswerShape {
    /// Take in a piece.
    pub fn push(&mut self, delta: &Delta) {
        match delta {
            Delta::ToolOpen { .. } => self.calls = true,
            Delta::Thinking(text) => self.thought |= !text.trim().is_empty(),
            Delta::Text(text) => self.text(text),
            Delta::ToolArguments { .. } => {}
        }
    }

    fn text(&mut self, text: &str) {
        for byte in text.bytes() {
            if byte == b'`' {
                self.ticks = self.ticks.saturating_add(1);
                if self.ticks == 3 {
                    self.in_fence = !self.in_fence;
                }
                continue;
            }
            self.ticks = 0;
            if byte.is_ascii_whitespace() {
                continue;
            }
            match self.in_fence {
                true => self.fenced += 1,
                false => self.plain += 1,
            }
        }
    }

    /// What it mostly is.
    pub fn class(&self) -> AnswerClass {
        match self {
            Self { calls: true, .. } => AnswerClass::ToolCall,
            Self { fenced, plain, .. } if *fenced > 0 && fenced >= plain => AnswerClass::Code,
            Self { plain: 1.., .. } => AnswerClass::Prose,
            Self { thought: true, .. } => AnswerClass::Reasoning,
            _ => AnswerClass::Empty,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(pieces: &[Delta]) -> AnswerClass {
        let mut shape = AnswerShape::default();
        pieces.iter().for_each(|piece| shape.push(piece));
        shape.class()
    }

    fn text(text: &str) -> Delta {
        Delta::Text(text.to_owned())
    }

    #[test]
    fn answers_are_told_by_their_shape() {
        let call = Delta::ToolOpen {
            index: 0,
            id: "c".into(),
            name: "ls".into(),
        };
        let thought = Delta::Thinking("so".to_owned());
        assert_eq!(class(&[]), AnswerClass::Empty);
        assert_eq!(class(&[text(" \n")]), AnswerClass::Empty);
        assert_eq!(class(&[text("Hello")]), AnswerClass::Prose);
        assert_eq!(
            class(std::slice::from_ref(&thought)),
            AnswerClass::Reasoning
        );
        assert_eq!(class(&[thought, text("Hello")]), AnswerClass::Prose);
        assert_eq!(class(&[text("Let me look."), call]), AnswerClass::ToolCall);
        // The fence comes in pieces.
        let code = [
            "Here: `",
            "``rust\nfn main() { println!(); }\n``",
            "`\nDone.",
        ];
        assert_eq!(class(&code.map(text)), AnswerClass::Code);
        let inline = "Call `main()` first, then read what it says about the rest of it.";
        assert_eq!(class(&[text(inline)]), AnswerClass::Prose);
    }
}
