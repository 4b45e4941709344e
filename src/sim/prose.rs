//! What the model says when no script tells it: plausible English that depends on the prompt.

use super::rng::Rng;

const OPENINGS: [&str; 6] = [
    "Here is what I found.",
    "Sure, let me walk through it.",
    "That is a fair question.",
    "In short, it works as intended.",
    "Let me explain the main points.",
    "I looked at this step by step.",
];
const SUBJECTS: [&str; 10] = [
    "The function",
    "The parser",
    "This module",
    "The cache",
    "The test suite",
    "The request handler",
    "The configuration",
    "The second loop",
    "The data structure",
    "The caller",
];
const VERBS: [&str; 8] = [
    "checks",
    "returns",
    "collects",
    "updates",
    "compares",
    "keeps",
    "skips",
    "validates",
];
const OBJECTS: [&str; 10] = [
    "the input before use",
    "every entry once",
    "the first matching value",
    "its state between calls",
    "the remaining items",
    "a copy of the list",
    "the error and its cause",
    "all values in order",
    "the last known result",
    "the names of the fields",
];
const ENDINGS: [&str; 6] = [
    "so the result stays the same",
    "because the order matters",
    "which keeps the code short",
    "and nothing else changes",
    "until the list is empty",
    "when the limit is reached",
];

/// An answer of two to six sentences.
pub(crate) fn answer(rng: &mut Rng) -> String {
    let mut text = rng.pick(&OPENINGS).to_owned();
    for _ in 0..2 + rng.below(5) {
        text.push(' ');
        text.push_str(&sentence(rng));
    }
    text
}

/// One more sentence, for answers that must not end.
pub(crate) fn sentence(rng: &mut Rng) -> String {
    let (subject, verb) = (rng.pick(&SUBJECTS), rng.pick(&VERBS));
    let (object, ending) = (rng.pick(&OBJECTS), rng.pick(&ENDINGS));
    format!("{subject} {verb} {object}, {ending}.")
}

/// True when the user asks to reproduce or transform given text, where n-gram drafts hold.
pub(crate) fn is_repetitive(user_text: &str) -> bool {
    let text = user_text.to_ascii_lowercase();
    let asked = [
        "repeat",
        "copy",
        "rewrite",
        "refactor",
        "rename",
        "translate",
        "format",
        "verbatim",
    ];
    asked.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_says_the_same() {
        let say = |seed| answer(&mut Rng::seeded(&[seed]));
        assert_eq!(say(1), say(1));
        assert_ne!(say(1), say(2));
        assert!(say(3).ends_with('.'));
    }
}
