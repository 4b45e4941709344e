//! What clients write anew into their system prompt at every turn, made the same.
//!
//! A system prompt stands at the top: one changed character there costs a backend the whole prefix.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use crate::config::{BuiltinFragment, Volatile};
use crate::turn::{Message, Part, Role};

/// An expression of this file and what stands in its place.
type Rule = (Option<Regex>, &'static str);

fn rules(list: &[(&str, &'static str)]) -> Vec<Rule> {
    let compiled = list
        .iter()
        .map(|(pattern, new)| (Regex::new(pattern).ok(), *new));
    compiled.collect()
}

static BILLING_HEADER: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[(
        r"(?m)^x-anthropic-billing-header:.*$",
        "x-anthropic-billing-header:",
    )])
});

static TIME_OF_DAY: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        // ISO 8601: 2026-11-23T18:17:38.123Z, 2026-11-23 18:17.
        (
            r"\b([0-9]{4}-[0-9]{2}-[0-9]{2})[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?: ?(?:Z\b|UTC\b|GMT\b|[+-][0-9]{2}:?[0-9]{2}\b))?",
            "$1",
        ),
        // date(1) and JavaScript: Mon Nov 23 18:17:38 UTC 2026, Mon Nov 23 2026 18:17:38 GMT+0000.
        (
            r"\b((?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? [A-Z][a-z]{2} [ 0-9]?[0-9]) [0-9]{2}:[0-9]{2}:[0-9]{2}(?: [A-Z]{3,4})? ([0-9]{4})\b",
            "$1 $2",
        ),
        (
            r"\b((?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? [A-Z][a-z]{2} [ 0-9]?[0-9] [0-9]{4}) [0-9]{2}:[0-9]{2}:[0-9]{2}(?: GMT[+-][0-9]{4}(?: \([^)\n]*\))?)?",
            "$1",
        ),
        // 11/23/2026, 6:17:38 PM
        (
            r"\b([0-9]{1,2}/[0-9]{1,2}/[0-9]{4}),? [0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?:\s?[AP]M\b)?",
            "$1",
        ),
    ])
});

static DATE: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[(
        r"(?im)^([^\n]*\b(?:today|date)\b[^\n]*?)\b(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}|(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? [a-z]{3,9} [ 0-9]?[0-9],? [0-9]{4})(?:[T ][0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?Z?)?",
        "${1}(not shown)",
    )])
});

static WORKING_DIRECTORY: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        (
            r"(?im)^([ \t*-]*(?:primary |current )?working directory:?[ \t]*)\S[^\n]*$",
            "${1}(not shown)",
        ),
        (r"<cwd>[^<\n]*</cwd>", "<cwd>(not shown)</cwd>"),
    ])
});

fn known(fragment: BuiltinFragment) -> &'static [Rule] {
    match fragment {
        BuiltinFragment::BillingHeader => &BILLING_HEADER,
        BuiltinFragment::TimeOfDay => &TIME_OF_DAY,
        BuiltinFragment::Date => &DATE,
        BuiltinFragment::WorkingDirectory => &WORKING_DIRECTORY,
    }
}

/// Make the system messages the same at every turn. Whether anything changed; with `acts` false
/// nothing does.
pub fn normalize(messages: &mut [Message], settings: &Volatile, acts: bool) -> bool {
    if settings.is_empty() {
        return false;
    }
    let mut changed = false;
    let systems = messages.iter_mut().filter(|m| m.role() == Role::System);
    for message in systems {
        let new: Vec<(usize, String)> = message
            .parts()
            .iter()
            .enumerate()
            .filter_map(|(at, part)| match part {
                Part::Text(text) => Some((at, replaced(text, settings)?)),
                _ => None,
            })
            .collect();
        changed |= !new.is_empty();
        if acts && !new.is_empty() {
            let parts = message.parts_mut();
            for (at, text) in new {
                parts[at] = Part::Text(text);
            }
        }
    }
    changed
}

/// The text without its volatile fragments.
pub fn without<'a>(text: &'a str, settings: &Volatile) -> Cow<'a, str> {
    replaced(text, settings).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// The text without its volatile fragments; none when it has none.
fn replaced(text: &str, settings: &Volatile) -> Option<String> {
    let own = settings
        .patterns
        .iter()
        .map(|own| (own.pattern.regex(), own.replacement.as_str()));
    let known = settings
        .builtin
        .iter()
        .flat_map(|fragment| known(*fragment))
        .filter_map(|(regex, new)| Some((regex.as_ref()?, *new)));
    let mut new: Option<String> = None;
    for (regex, replacement) in known.chain(own) {
        let now = regex.replace_all(new.as_deref().unwrap_or(text), replacement);
        if let Cow::Owned(now) = now {
            new = Some(now);
        }
    }
    new.filter(|new| new != text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(yaml: &str) -> Volatile {
        crate::config::parse(
            &format!("guard: {{context: {{volatile: {yaml}}}}}"),
            std::iter::empty(),
        )
        .unwrap()
        .guard
        .context
        .volatile
    }

    fn normal(text: &str, yaml: &str) -> String {
        let mut messages = [Message::text(Role::System, text)];
        normalize(&mut messages, &settings(yaml), true);
        match &messages[0].parts()[0] {
            Part::Text(text) => text.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn known_fragments_become_the_same() {
        let all = "{builtin: [billing_header, time_of_day, date, working_directory]}";
        let prompt = |hash: &str, stamp: [&str; 3], cwd: &str| {
            format!(
                "x-anthropic-billing-header: cc_version=2.1; cch={hash};\nYou are an agent.\nWorking directory: {cwd}\n\
                 <cwd>{cwd}</cwd>\nToday's date: {}\nStarted {}, built {}.\nVersion 2026 of 12:30 rules.",
                stamp[0], stamp[1], stamp[2]
            )
        };
        let one = prompt(
            "ab12",
            [
                "2026-11-23",
                "2026-11-23T18:17:38.123Z",
                "Mon Nov 23 18:17:38 UTC 2026",
            ],
            "/a/b",
        );
        let two = prompt(
            "99ff",
            [
                "Tue Nov 24 2026",
                "2026-11-23 09:01:02 +0100",
                "Mon Nov 23 09:00:00 UTC 2026",
            ],
            "/tmp/other place",
        );
        assert_eq!(normal(&one, all), normal(&two, all));
        let text = normal(&one, all);
        assert!(
            text.contains("Started 2026-11-23, built Mon Nov 23 2026."),
            "{text}"
        );
        assert!(text.ends_with("Version 2026 of 12:30 rules."), "{text}");
        assert!(!text.contains("cch") && !text.contains("/a/b"), "{text}");
    }

    #[test]
    fn own_expressions_replace_too() {
        let own = r#"{patterns: [{pattern: '(?m)^(Uptime): \d+ s$', replacement: '$1: -'}]}"#;
        assert_eq!(normal("a\nUptime: 93 s\nb", own), "a\nUptime: -\nb");
    }

    #[test]
    fn nothing_is_touched_that_is_not_asked_for() {
        let text = "Today's date: 2026-11-23 18:17:38, cch=ab;";
        assert_eq!(normal(text, "{}"), text);
        let user = "Working directory: /a";
        let mut messages = [
            Message::text(Role::User, user),
            Message::text(Role::System, user),
        ];
        let settings = settings("{builtin: [working_directory]}");
        assert!(normalize(&mut messages, &settings, false), "seen");
        assert_eq!(
            messages[1].parts(),
            [Part::Text(user.into())],
            "and left alone"
        );
        assert!(normalize(&mut messages, &settings, true));
        assert_eq!(messages[0].parts(), [Part::Text(user.into())]);
        assert!(!normalize(&mut messages, &settings, true), "once is enough");
    }
}
