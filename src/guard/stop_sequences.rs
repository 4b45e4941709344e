//! The client's stop sequences, matched here.
//!
//! llama-server's chat answer does not say which sequence matched, so they are not sent upstream:
//! the text is searched as it streams, a suffix that may still become a match is held back, and a
//! hit ends the choice.

use std::sync::Arc;

use super::held::longest_overlap;

/// Searches one choice's text.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    sequences: Arc<[String]>,
    held: String,
}

/// What came of a piece of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// Text that can no longer be part of a match; possibly empty.
    Text(String),
    /// The answer ends here: the text before the match, and the sequence.
    Stop {
        /// Text before the match.
        text: String,
        /// The sequence that matched.
        sequence: String,
    },
}

impl StopMatcher {
    /// A matcher for `sequences`, none of them empty; the choices of a turn share them.
    pub fn new(sequences: Arc<[String]>) -> Self {
        Self {
            sequences,
            held: String::new(),
        }
    }

    /// Take in more text.
    pub fn push(&mut self, text: String) -> Matched {
        if self.sequences.is_empty() {
            return Matched::Text(text);
        }
        self.held.push_str(&text);
        // The match that ends first wins: it is the one a token-by-token search would have seen.
        let hit = self
            .sequences
            .iter()
            .filter_map(|sequence| Some((self.held.find(sequence.as_str())?, sequence)))
            .min_by_key(|(start, sequence)| (start + sequence.len(), *start));
        if let Some((start, sequence)) = hit {
            let sequence = sequence.clone();
            self.held.truncate(start);
            return Matched::Stop {
                text: std::mem::take(&mut self.held),
                sequence,
            };
        }
        let keep = longest_overlap(&self.held, &self.sequences);
        let rest = self.held.split_off(self.held.len() - keep);
        Matched::Text(std::mem::replace(&mut self.held, rest))
    }

    /// The held suffix, once nothing can follow it.
    pub fn flush(&mut self) -> Option<String> {
        (!self.held.is_empty()).then(|| std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(sequences: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let owned: Vec<String> = sequences.iter().map(|s| (*s).to_owned()).collect();
        let mut matcher = StopMatcher::new(owned.into());
        let mut seen = String::new();
        for piece in pieces {
            match matcher.push((*piece).to_owned()) {
                Matched::Text(text) => seen.push_str(&text),
                Matched::Stop { text, sequence } => return (seen + &text, Some(sequence)),
            }
        }
        (seen + &matcher.flush().unwrap_or_default(), None)
    }

    #[test]
    fn a_match_across_pieces_is_cut_out() {
        assert_eq!(
            run(&["STOP"], &["go S", "TO", "P on"]),
            ("go ".into(), Some("STOP".into()))
        );
        assert_eq!(run(&["STOP"], &["go S", "TO"]), ("go STO".into(), None));
        assert_eq!(
            run(&["\n\n", "b"], &["a\n", "xb"]),
            ("a\nx".into(), Some("b".into()))
        );
        assert_eq!(
            run(&["aab"], &["aaa", "b"]),
            ("a".into(), Some("aab".into()))
        );
        assert_eq!(
            run(&["\u{1f999}!"], &["x\u{1f999}", "!"]),
            ("x".into(), Some("\u{1f999}!".into()))
        );
    }

    #[test]
    fn text_that_cannot_match_is_released_at_once() {
        let mut matcher = StopMatcher::new([String::from("STOP")].into());
        assert_eq!(
            matcher.push("hello S".into()),
            Matched::Text("hello ".into())
        );
        assert_eq!(matcher.push("it".into()), Matched::Text("Sit".into()));
    }

    proptest! {
        /// However the text is cut, the outcome is that of the uncut search.
        #[test]
        fn splitting_changes_nothing(text in "[ab\u{e9}]{0,30}", stop in "[ab\u{e9}]{1,4}", cut in 1usize..5) {
            let chars: Vec<char> = text.chars().collect();
            let pieces: Vec<String> = chars.chunks(cut).map(|c| c.iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (seen, hit) = run(&[&stop], &pieces);
            match text.find(&stop) {
                Some(start) => prop_assert_eq!((seen.as_str(), hit), (&text[..start], Some(stop))),
                None => prop_assert_eq!((seen, hit), (text, None)),
            }
        }
    }
}
