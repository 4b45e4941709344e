//! Patterns that mean the same in a grammar as in a regular expression.

use std::sync::LazyLock;

use regex::Regex;

/// Literals, plain classes, groups, alternatives and short repetitions between `^` and `$`.
///
/// llama.cpp refuses or loosens most else, and some of it (`.`, negated classes) it turns into rules
/// that let an unescaped quote into the JSON.
static PLAIN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let literal = r"[A-Za-z0-9_ :/,@#=-]|\\[.+*?()\[\]{}|^$]";
    let class = r"\[[A-Za-z0-9_.:/ -]+\]";
    let repetition = r"[*+?]|\{[0-9]{1,2}(?:,[0-9]{0,2})?\}";
    Regex::new(&format!(
        r"^\^(?:(?:{literal}|{class}|\)|\|)(?:{repetition})?|\((?:\?:)?)+\$$"
    ))
    .ok()
});

/// Longest pattern worth a rule, in bytes.
const MAX_LENGTH: usize = 200;

/// Whether the grammar builder can be given `pattern`.
pub fn is_plain(pattern: &str) -> bool {
    // An empty alternative or group has no rule; `|*` and the like are no expressions.
    let empty = [
        "()", "(|", "||", "|)", "^|", "|$", "|*", "|+", "|?", "|{", "(?:)", "(?:|",
    ];
    pattern.len() <= MAX_LENGTH
        && PLAIN.as_ref().is_some_and(|plain| plain.is_match(pattern))
        && !empty.iter().any(|empty| pattern.contains(empty))
        && Regex::new(pattern).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_patterns_reach_the_grammar() {
        for pattern in [
            "^[a-z0-9_-]{1,64}$",
            "^(?:feat|fix)(/[a-z]+)?$",
            r"^v[0-9]+\.[0-9]+$",
            "^abc$",
        ] {
            assert!(is_plain(pattern), "{pattern}");
        }
        for pattern in [
            "abc",
            "^a",
            "^.*$",
            r"^\d+$",
            "^[^a]$",
            "^a|$",
            "^a{1,500}$",
            "^a+?$",
            "^(a$",
            "^()$",
            "^(?=a)b$",
            "^[z-a]$",
            "^a\"$",
            "^(?i)a$",
            "^$",
        ] {
            assert!(!is_plain(pattern), "{pattern}");
        }
    }
}
