//! Options of programs: which words are none.

use super::word::Word;

/// Whether `option` is one of `valued`, whose value is the next word.
pub(super) fn takes_value(option: &str, valued: &[&str]) -> bool {
    valued.contains(&option)
}

/// Indices of the words after the first that are neither options nor values of those in `valued`.
pub(super) fn positionals(words: &[Word], valued: &[&str]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut rest_is_plain = false;
    let mut at = 1;
    while let Some(word) = words.get(at) {
        if !rest_is_plain && word.fixed && word.text == "--" {
            rest_is_plain = true;
        } else if !rest_is_plain && word.is_option() {
            if takes_value(&word.text, valued) {
                at += 1;
            }
        } else {
            found.push(at);
        }
        at += 1;
    }
    found
}

/// The value of an option: `-o X`, `-oX`, `-vo X`, `--long X`, `--long=X`.
pub(super) fn value(words: &[Word], short: Option<&str>, long: &str) -> Option<Word> {
    let letter = short.and_then(|short| short.strip_prefix('-'));
    words.iter().enumerate().skip(1).find_map(|(at, word)| {
        let text = word.text.as_str();
        if text == long {
            return words.get(at + 1).cloned();
        }
        let glued = match text.strip_prefix(long) {
            Some(rest) => rest.strip_prefix('=')?,
            None => {
                let cluster = text
                    .strip_prefix('-')
                    .filter(|text| !text.starts_with('-'))?;
                let (flags, rest) = cluster.split_once(letter?)?;
                if !flags.bytes().all(|b| b.is_ascii_alphabetic()) {
                    return None;
                }
                rest
            }
        };
        if glued.is_empty() && !text.ends_with('=') {
            return words.get(at + 1).cloned();
        }
        Some(Word {
            text: glued.to_owned(),
            fixed: word.fixed,
            span: None,
        })
    })
}

/// Whether one of the words is this option, also inside a cluster (`-xvf` has `-x`).
pub(super) fn has(words: &[Word], option: &str) -> bool {
    let short = option
        .strip_prefix('-')
        .filter(|rest| rest.len() == 1 && !rest.starts_with('-'));
    words.iter().skip(1).any(|word| {
        if word.text == option {
            return true;
        }
        match short {
            Some(letter) => {
                let cluster = word.text.strip_prefix('-');
                cluster.is_some_and(|cluster| {
                    !cluster.starts_with('-')
                        && cluster.contains(letter)
                        && cluster.bytes().all(|b| b.is_ascii_alphabetic())
                })
            }
            None => {
                let rest = word.text.strip_prefix(option);
                rest.is_some_and(|rest| rest.starts_with('='))
            }
        }
    })
}
