//! Words and marks in a text, found in one pass each.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::words::{Sign, WORDS};

/// All words at once; none if they could not be built, which a test says.
static FINDER: LazyLock<Option<Finder>> = LazyLock::new(Finder::new);

struct Finder {
    automaton: AhoCorasick,
    /// Of each pattern: what it is a sign of, and whether it is only the beginning of a word.
    meaning: Vec<(Sign, bool)>,
}

impl Finder {
    fn new() -> Option<Self> {
        let all = WORDS.iter().flat_map(|(sign, words)| {
            let words = words.split(',').map(str::trim);
            words.map(move |word| match word.strip_suffix('*') {
                Some(stem) => (stem, (*sign, true)),
                None => (word, (*sign, false)),
            })
        });
        let (patterns, meaning): (Vec<&str>, Vec<_>) = all.unzip();
        let automaton = AhoCorasick::new(patterns).ok()?;
        Some(Self { automaton, meaning })
    }
}

/// A word found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Where it begins, in bytes.
    pub(super) at: usize,
    /// Which of the words it is.
    pub(super) word: usize,
    /// What it is a sign of.
    pub(super) sign: Sign,
}

/// The words in a text of lower case, in the order of their ends.
pub(super) fn signs(text: &str) -> impl Iterator<Item = Found> {
    let finder = FINDER.as_ref();
    finder.into_iter().flat_map(move |finder| {
        let found = finder.automaton.find_overlapping_iter(text);
        found.filter_map(move |found| {
            let word = found.pattern().as_usize();
            let (sign, is_stem) = finder.meaning[word];
            let before = text[..found.start()].chars().next_back();
            let after = text[found.end()..].chars().next();
            let is_word = is_free(before) && (is_stem || is_free(after));
            is_word.then_some(Found {
                at: found.start(),
                word,
                sign,
            })
        })
    })
}

/// Whether a word can begin or end beside this character.
fn is_free(beside: Option<char>) -> bool {
    beside.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '_' | '+' | '#')))
}

/// What tells of marks rather than of words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Names as programs have them, options of commands, paths, code in back quotes.
    pub(super) names: usize,
    /// Numbers in digits.
    pub(super) numbers: usize,
    /// Formulas: `x^2`, `2x + y`, `>=`.
    pub(super) formulas: usize,
}

impl Marks {
    /// Of a text as it was written.
    pub(super) fn of(text: &str) -> Self {
        let mut marks = Self::default();
        let mut was_quantity = false;
        for token in text.split_whitespace() {
            let word = token.trim_matches(|c: char| {
                matches!(c, ',' | '.' | '?' | '!' | ';' | ':' | '"' | '\'')
            });
            let is_quantity = is_quantity(word);
            marks.numbers +=
                usize::from(word.starts_with(|c: char| c.is_ascii_digit()) && !is_hash(word));
            marks.names += usize::from(is_name(word));
            marks.formulas += usize::from(is_formula(word) || (was_quantity && is_operator(word)));
            was_quantity = is_quantity;
        }
        marks
    }
}

/// Digits and letters mixed beyond what a quantity is.
fn is_hash(word: &str) -> bool {
    word.len() > 12 && word.contains(|c: char| c.is_ascii_alphabetic())
}

/// `17`, `x`, `2x`.
fn is_quantity(word: &str) -> bool {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    match digits.len() {
        0 => !word.is_empty(),
        1 => digits.contains(|c: char| c.is_ascii_lowercase()),
        _ => false,
    }
}

fn is_operator(word: &str) -> bool {
    matches!(
        word,
        "+" | "-" | "*" | "/" | "=" | "<" | ">" | "<=" | ">=" | "×" | "·" | "≤" | "≥" | "−"
    )
}

/// `x^2`, `[[2,1],[7,4]]`, `n²`, `∫`.
fn is_formula(word: &str) -> bool {
    let power = word.split_once('^').is_some_and(|(base, power)| {
        base.ends_with(|c: char| c.is_alphanumeric() || c == ')')
            && power.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '(' | '-' | '{'))
    });
    power || word.starts_with("[[") || word.contains(['²', '³', '∫', '√', '≤', '≥', '∑', '∞'])
}

/// `snake_case`, `camelCase`, `a::b`, `call()`, `--option`, `/a/path`, `` `quoted` ``, `O(1)`.
fn is_name(word: &str) -> bool {
    let inner = word.trim_matches(|c: char| !(c.is_alphanumeric() || c == '_'));
    let bytes = inner.as_bytes();
    let lower = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_lowercase);
    let upper = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_uppercase);
    let is_camel =
        (3..bytes.len()).any(|at| lower(at - 1) && upper(at) && lower(at + 1)) && lower(0);
    let is_snake = inner.len() > 2 && inner.trim_matches('_').contains('_');
    let is_option = word.len() > 3 && word.starts_with("--") && lower(0);
    let is_path =
        word.starts_with(['/', '~']) && word.matches('/').count() >= 2 && !word.starts_with("//");
    is_camel
        || is_snake
        || is_option
        || is_path
        || word.contains("::")
        || word.contains("()")
        || word.starts_with("O(")
        || word.contains('`')
}
