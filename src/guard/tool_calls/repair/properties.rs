//! What holds for every text, tried on many.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::samples::{DAMAGES, Damage, object};
use super::*;

/// Every string in `value`, keys included.
fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            found.push(key.clone());
            strings(value, found);
        }),
        _ => {}
    }
}

fn sorted_strings(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    strings(value, &mut found);
    found.sort_unstable();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Valid arguments come out byte for byte, compact or spread out.
    #[test]
    fn valid_arguments_are_untouched(value in object(), cut: bool) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let repaired = repair(&text, cut).unwrap();
            prop_assert!(repaired.changes.is_empty());
            prop_assert_eq!(repaired.arguments, text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens to the envelope, what it says comes back, and no string loses anything.
    #[test]
    fn damage_is_undone(value in object()) {
        for damage in DAMAGES {
            let damaged = damage.apply(&value);
            let repaired = match repair(&damaged, false) {
                Ok(repaired) => repaired,
                // Doubt about backslashes may be admitted, a wrong reading may not be given.
                Err(Unrepairable::Hopeless(fault))
                    if matches!(damage, Damage::LooseEscapes) && fault.what.contains("backslashes") => continue,
                // An empty object without its brace, or without anything escaped in it.
                Err(Unrepairable::Truncated) if damaged == "{" => continue,
                Err(why) => return Err(TestCaseError::fail(format!("{damage:?} {damaged}: {why:?}"))),
            };
            let back: Value = serde_json::from_str(&repaired.arguments).unwrap();
            prop_assert_eq!(&back, &value, "{:?} {}", damage, damaged);
            prop_assert_eq!(sorted_strings(&back), sorted_strings(&value));
            prop_assert_eq!(repaired.changes.is_empty(), damaged == repaired.arguments);
        }
    }

    /// No prefix of an object is ever completed when the token limit cut it.
    #[test]
    fn a_cut_object_is_truncated(value in object(), cut_at: prop::sample::Index) {
        let text = value.to_string();
        let mut end = cut_at.index(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        prop_assert_eq!(repair(&text[..end], true), Err(Unrepairable::Truncated));
    }

    /// Without the token limit's word for it, only closers are ever added to a prefix.
    #[test]
    fn a_prefix_gets_closers_only(value in object(), cut_at: prop::sample::Index) {
        let text = value.to_string();
        let mut end = cut_at.index(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if end > 0 && let Ok(repaired) = repair(&text[..end], false) {
            prop_assert_eq!(repaired.changes.as_slice(), [Change::CloserAdded]);
            let added = repaired.arguments.strip_prefix(&text[..end]).unwrap();
            let only_closers = added.trim_matches([']', '}']).is_empty();
            prop_assert!(only_closers, "{}", added);
        }
    }
}

/// Text that looks like JSON, mostly.
fn jsonish() -> impl Strategy<Value = String> {
    let token = proptest::sample::select(
        &[
            "{", "}", "[", "]", ",", ":", "\"", "'", "\\", "\\\"", "\n", " ", "a", "b1", "1", "-",
            ".", "e", "0", "true", "None", "```", "`", "<a>", "</a>", "<", ">", "\u{e9}", "\u{0}",
            "\\u00", "\"a\":", "{\"k\":",
        ][..],
    );
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// Nothing panics, and what comes out is an object or a refusal.
    #[test]
    fn any_text_gives_an_object_or_a_refusal(text in prop_oneof![jsonish(), any::<String>(), jsonish().prop_map(|t| format!("{{\"a\":{t}"))], cut: bool) {
        if let Ok(repaired) = repair(&text, cut) {
            let parsed = serde_json::from_str::<Map<String, Value>>(&repaired.arguments);
            prop_assert!(parsed.is_ok(), "{text:?} -> {}", repaired.arguments);
            if repaired.changes.is_empty() {
                prop_assert_eq!(repaired.arguments, text);
            }
        }
    }

    /// What is valid JSON for everyone else is valid here, and the reverse.
    #[test]
    fn untouched_means_valid(text in prop_oneof![jsonish(), jsonish().prop_map(|t| format!("{{\"a\":{t}}}"))]) {
        let valid = serde_json::from_str::<Map<String, Value>>(&text).is_ok();
        let untouched = repair(&text, true).is_ok_and(|repaired| repaired.changes.is_empty());
        prop_assert_eq!(valid, untouched, "{:?}", text);
    }
}

/// Time this thread spent computing, so that a busy machine makes no difference.
fn computing_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').next().and_then(|first| first.parse().ok());
    match nanoseconds {
        Some(nanoseconds) => Duration::from_nanos(nanoseconds),
        None => SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
    }
}

/// A long text costs no more per byte than a short one: four times the text takes four times as
/// long, up to three times that for noise; were it quadratic it would take sixteen times as long.
#[test]
fn time_is_linear() {
    let time = |text: &str| {
        let runs = (0..5).map(|_| {
            let started = computing_time();
            let _ = repair(text, false);
            computing_time().saturating_sub(started)
        });
        runs.min().unwrap_or_default()
    };
    let fill = |start: &str, piece: &str, length: usize| {
        format!("{start}{}", piece.repeat(length / piece.len()))
    };
    for (start, piece) in [
        ("{\"a\":\"", "x"),
        ("{\"a\":\"", "\\d"),
        ("{\"a\":\"", "\n"),
        ("{'a':'", "\""),
        ("{\"a\":[", "1,"),
        ("{\"a\":[", "[],"),
        ("{\"a\":1", "]"),
        ("{\"a\":1}", "}"),
        ("{\"a\":1}", "<a>"),
        ("{\"a\":1", "<a>"),
        ("", "<a>"),
        ("", "```"),
        ("{", " "),
        ("{", "a"),
        ("\"", "\\\""),
        ("{\\\"a\\\":", "\\\\"),
    ] {
        let short = time(&fill(start, piece, 250_000));
        let long = time(&fill(start, piece, 1_000_000));
        let floor = Duration::from_millis(2);
        assert!(
            long < short.max(floor) * 12,
            "{start}{piece}: {short:?} {long:?}"
        );
    }
}

#[test]
fn a_megabyte_string_is_untouched() {
    let value = serde_json::json!({"content": "line \\ \"x\" }}\n".repeat(70_000)});
    let text = value.to_string();
    assert!(text.len() > 1_000_000);
    let started = computing_time();
    let repaired = repair(&text, true).unwrap();
    let took = computing_time().saturating_sub(started);
    assert_eq!(repaired.arguments, text);
    assert!(repaired.changes.is_empty());
    assert!(took < Duration::from_millis(50), "{took:?}");
}
