//! Reasoning that a model writes into its visible text.
//!
//! llama-server separates reasoning where the template says how. Where it does not, `<think>` tags
//! reach the client, and no client hides them. Only a tag at the very start of the answer opens
//! reasoning: further on it is most likely being talked about. A closer without an opener (its
//! opener was in the prompt) is taken out; what came before it has been shown already.

use super::held::longest_overlap;

/// Tags that open reasoning, with their closers.
const TAGS: &[(&str, &str)] = &[("<think>", "</think>"), ("<thinking>", "</thinking>")];

/// Closers, with or without an opener.
const CLOSERS: &[&str] = &["</think>", "</thinking>"];

/// Splits reasoning off the beginning of one choice's text.
#[derive(Clone, Debug, Default)]
pub struct ThinkSplitter {
    state: State,
    held: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    #[default]
    Start,
    /// Reasoning, until this closer.
    Thinking(&'static str),
    /// Visible text.
    Text,
}

/// A piece of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// Visible text.
    Text(String),
    /// Reasoning.
    Thinking(String),
    /// A tag was taken out.
    Tag,
}

impl ThinkSplitter {
    /// Take in more text.
    pub fn push(&mut self, text: &str, out: &mut Vec<Split>) {
        if self.state == State::Text {
            out.push(Split::Text(text.to_owned()));
            return;
        }
        self.held.push_str(text);
        while self.step(out) {}
    }

    /// Nothing follows: whatever is held is what it looks like.
    pub fn finish(&mut self, out: &mut Vec<Split>) {
        let held = std::mem::take(&mut self.held);
        self.release(held, out);
    }

    /// Decide as much of what is held as can be decided; whether there may be more.
    fn step(&mut self, out: &mut Vec<Split>) -> bool {
        match self.state {
            State::Start => self.start(out),
            State::Thinking(closer) => self.until(closer, out),
            State::Text => {
                self.finish(out);
                false
            }
        }
    }

    fn start(&mut self, out: &mut Vec<Split>) -> bool {
        let trimmed = self.held.trim_start();
        if trimmed.is_empty() {
            return false;
        }
        if let Some((opener, closer)) = TAGS.iter().find(|(opener, _)| trimmed.starts_with(opener))
        {
            self.held = trimmed[opener.len()..].trim_start().to_owned();
            self.state = State::Thinking(closer);
            out.push(Split::Tag);
            return true;
        }
        if TAGS.iter().any(|(opener, _)| opener.starts_with(trimmed)) {
            return false;
        }
        self.state = State::Text;
        true
    }

    /// Release reasoning up to its closer, and take the closer out.
    fn until(&mut self, closer: &str, out: &mut Vec<Split>) -> bool {
        match self.held.find(closer) {
            Some(at) => {
                let rest = self.held.split_off(at + closer.len());
                self.held.truncate(at);
                self.finish(out);
                self.held = rest;
                self.state = State::Text;
                out.push(Split::Tag);
                true
            }
            None => {
                let keep = longest_overlap(&self.held, &[closer]);
                let rest = self.held.split_off(self.held.len() - keep);
                self.finish(out);
                self.held = rest;
                false
            }
        }
    }

    fn release(&self, text: String, out: &mut Vec<Split>) {
        if text.is_empty() {
            return;
        }
        out.push(match self.state {
            State::Thinking(_) => Split::Thinking(text),
            State::Start | State::Text => Split::Text(text),
        });
    }
}

/// Takes closers without an opener out of visible text. What is part of a textual tool call must not
/// come here: there such a tag may be what a file is to contain.
#[derive(Clone, Debug, Default)]
pub struct OrphanClosers {
    held: String,
    /// Whether the last text released ended with one.
    after_backtick: bool,
}

impl OrphanClosers {
    /// Take in more text.
    pub fn push(&mut self, text: String, out: &mut Vec<Split>) {
        // The usual case: nothing held, no tag in sight.
        if self.held.is_empty() && !text.contains('<') {
            return self.release(text, out);
        }
        self.held.push_str(&text);
        while let Some((at, length)) = first_closer(&self.held) {
            let quoted = self.is_quoted(at);
            let rest = self.held.split_off(at + length);
            if !quoted {
                self.held.truncate(at);
            }
            let before = std::mem::replace(&mut self.held, rest);
            self.release(before, out);
            if !quoted {
                out.push(Split::Tag);
            }
        }
        let keep = longest_overlap(&self.held, CLOSERS);
        let rest = self.held.split_off(self.held.len() - keep);
        let before = std::mem::replace(&mut self.held, rest);
        self.release(before, out);
    }

    /// Nothing follows, or no text: whatever is held is text.
    pub fn finish(&mut self, out: &mut Vec<Split>) {
        let held = std::mem::take(&mut self.held);
        self.release(held, out);
    }

    fn release(&mut self, text: String, out: &mut Vec<Split>) {
        if !text.is_empty() {
            self.after_backtick = text.ends_with('`');
            out.push(Split::Text(text));
        }
    }

    /// A tag in backticks is being talked about.
    fn is_quoted(&self, at: usize) -> bool {
        match at {
            0 => self.after_backtick,
            at => self.held[..at].ends_with('`'),
        }
    }
}

fn first_closer(text: &str) -> Option<(usize, usize)> {
    let found = CLOSERS.iter();
    found
        .filter_map(|closer| Some((text.find(closer)?, closer.len())))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&str]) -> (String, String) {
        let (mut splitter, mut closers) = (ThinkSplitter::default(), OrphanClosers::default());
        let (mut first, mut out) = (Vec::new(), Vec::new());
        for piece in pieces {
            splitter.push(piece, &mut first);
        }
        splitter.finish(&mut first);
        for piece in first {
            match piece {
                Split::Text(more) => closers.push(more, &mut out),
                other => out.push(other),
            }
        }
        closers.finish(&mut out);
        let (mut text, mut thinking) = (String::new(), String::new());
        for piece in out {
            match piece {
                Split::Text(more) => text.push_str(&more),
                Split::Thinking(more) => thinking.push_str(&more),
                Split::Tag => {}
            }
        }
        (text, thinking)
    }

    #[test]
    fn closed_unclosed_and_orphan() {
        let expect = |input, text: &str, thinking: &str| {
            assert_eq!(split(&[input]), (text.into(), thinking.into()), "{input}");
        };
        expect("<think>\nhm</think>\nyes", "\nyes", "hm");
        expect("\n<thinking>hm", "", "hm");
        expect("so</think>yes", "soyes", "");
        expect("I write <think> here", "I write <think> here", "");
        expect("the `</think>` tag", "the `</think>` tag", "");
        expect("<b>bold</b>", "<b>bold</b>", "");
        expect("<thi", "<thi", "");
        expect("", "", "");
    }

    #[test]
    fn plain_text_is_not_held() {
        let mut splitter = ThinkSplitter::default();
        let mut out = Vec::new();
        splitter.push("Hello", &mut out);
        assert_eq!(out, [Split::Text("Hello".into())]);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            parts in proptest::collection::vec(
                prop_oneof![Just("<think>"), Just("</think>"), Just("<thinking>"), Just("a "), Just("<"), Just("\u{e9}`")], 0..8),
            cut in 1usize..6,
        ) {
            let whole = parts.concat();
            let chars: Vec<char> = whole.chars().collect();
            let pieces: Vec<String> = chars.chunks(cut).map(|c| c.iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(split(&pieces), split(&[&whole]));
        }
    }
}
