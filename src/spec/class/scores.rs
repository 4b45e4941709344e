//! How much speaks for work on a program, and for a chain of thought, in a text that gives nothing to work on.

use super::signs::{Found, Marks, signs};
use super::text::GIVEN;
use super::words::Sign;

/// How much speaks for a program, and for a chain of thought.
pub(super) struct Scores {
    pub(super) code: usize,
    pub(super) reason: usize,
}

impl Scores {
    /// Of a text as it was written, and in lower case.
    pub(super) fn of(text: &str, lower: &str) -> Self {
        let mut words: Vec<Found> = signs(lower).collect();
        // "History class, three class periods" is one sign and not two.
        words.sort_unstable_by_key(|found| found.word);
        words.dedup_by_key(|found| found.word);
        let count = |sign| words.iter().filter(|found| found.sign == sign).count();
        let marks = Marks::of(text);
        let quantities = count(Sign::Quantity);
        let asks = lower.contains('?') || quantities > 0;
        // A sum in words: numbers, and a question.
        let sum = match count(Sign::Number) + marks.numbers {
            4.. if asks => 2,
            2.. if asks => 1,
            _ => 0,
        };
        let certain = count(Sign::Reason) + quantities + marks.formulas;
        let form = sum + supposes(lower) + premises(lower) + options(lower);
        Self {
            code: 4 * (count(Sign::Code) + marks.names)
                + 2 * count(Sign::Technical)
                + count(Sign::Ambiguous),
            reason: 3 * certain + count(Sign::Condition).min(2) + form,
        }
    }
}

/// Two if statements about others are followed by a question, as in puzzles and sums.
fn premises(text: &str) -> usize {
    const OURS: &[&str] = &[
        "i", "i'm", "i've", "my", "me", "we", "our", "us", "ich", "mein", "meine", "wir", "je",
        "mon", "ma", "nous", "mi", "yo", "nuestro",
    ];
    let Some(before) = text.trim_end().strip_suffix('?') else {
        return 0;
    };
    let end = before.rfind(['.', '\n', ':']).unwrap_or(0);
    let premises = &before[..end];
    let statements = premises
        .split(['.', '\n'])
        .filter(|part| part.trim().contains(' '));
    let mut words = premises.split(|c: char| !(c.is_alphanumeric() || c == '\''));
    let is_ours = words.any(|word| OURS.contains(&word));
    let is_many = !is_ours && premises.len() <= 4 * GIVEN && statements.take(2).count() == 2;
    2 * usize::from(is_many)
}

/// Three if there are answers to choose from.
fn options(text: &str) -> usize {
    let begins = |letter: &str| {
        text.lines()
            .any(|line| line.trim_start().starts_with(letter))
    };
    let is_choice = ["a)", "b)", "c)"].iter().all(|letter| begins(letter));
    3 * usize::from(is_choice)
}

/// One if a question begins with a condition: "If all …, are …?"
fn supposes(text: &str) -> usize {
    let mut sentences = text.split_inclusive(['.', '?', '!', ':', '\n']);
    let is = |sentence: &str| {
        let begins = ["if ", "suppose ", "wenn ", "si "]
            .iter()
            .any(|word| sentence.trim_start().starts_with(word));
        begins && sentence.ends_with('?')
    };
    usize::from(sentences.any(is))
}
