use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What has been released after each byte of `arguments`; every call that is JSON is good.
fn follow(arguments: &str) -> Vec<usize> {
    let mut early = EarlyRelease::default();
    let ends = (1..=arguments.len()).filter(|&end| arguments.is_char_boundary(end));
    ends.map(|end| {
        early.grown(&arguments[..end], |_, closed| {
            serde_json::from_str::<Value>(closed).is_ok()
        })
    })
    .collect()
}

#[test]
fn the_large_text_flows_and_nothing_else_does() {
    let text = "x".repeat(LARGE + 100);
    let arguments = format!(r#"{{"path": "/a/b", "content": "{text}", "mode": 7}}"#);
    let steps = follow(&arguments);
    let begin = arguments.find("xx").unwrap();
    let end = begin + text.len();
    assert_eq!(steps[begin + LARGE - 2], 0, "not large yet");
    assert_eq!(steps[begin + LARGE - 1], begin + LARGE);
    assert_eq!(steps[end - 1], end);
    assert_eq!(steps.last(), Some(&end), "what follows the text is held");
}

#[test]
fn half_an_escape_is_not_released() {
    let text = "x".repeat(LARGE);
    let arguments = format!(r#"{{"content": "{text}\u00e9\n"#);
    let steps = follow(&arguments);
    let begin = arguments.find('\\').unwrap();
    for (at, step) in steps.iter().enumerate().skip(begin) {
        let whole = match at - begin {
            0..5 => begin,
            5..7 => begin + 6,
            _ => begin + 8,
        };
        assert_eq!(*step, whole, "after byte {at}");
    }
}

#[test]
fn what_will_need_repair_stops_the_flow() {
    let text = "x".repeat(LARGE);
    for bad in ["\n", "\\x", "\\u12g4"] {
        let arguments = format!(r#"{{"content": "{text}{bad} and {text}"}}"#);
        let begin = arguments.find("xx").unwrap();
        assert_eq!(follow(&arguments).last(), Some(&(begin + LARGE)), "{bad:?}");
    }
}

#[test]
fn a_text_inside_something_else_is_held() {
    let text = "x".repeat(2 * LARGE);
    for arguments in [
        format!(r#"{{"edits": [{{"new": "{text}"}}], "a": ["{text}"]}}"#),
        format!(r#"["{text}"]"#),
        format!(r#""{text}""#),
        format!("'{text}'"),
        format!(r#"{{"{text}": 1}}"#),
        format!("```json\n{{\"content\": \"{text}\"}}"),
    ] {
        assert_eq!(follow(&arguments).last(), Some(&0), "{}", &arguments[..20]);
    }
}

#[test]
fn a_text_that_is_refused_is_tried_once_and_the_next_one_again() {
    let text = "x".repeat(2 * LARGE);
    let arguments = format!(r#"{{"old": "{text}", "new": "{text}"}}"#);
    let mut asked = Vec::new();
    let mut early = EarlyRelease::default();
    for end in 1..=arguments.len() {
        early.grown(&arguments[..end], |key, _| {
            asked.push(key.to_owned());
            key == "new"
        });
    }
    assert_eq!(asked, ["old", "new"]);
    assert_eq!(early.released(), arguments.len() - 2);
}

#[test]
fn only_a_text_without_conditions_may_flow() {
    let schema = |property: Value| json!({"type": "object", "properties": {"content": property}, "required": ["content"]});
    let free = [
        json!({"type": "string", "description": "All of it."}),
        json!({}),
    ];
    for property in free {
        assert!(
            may_be_any_text(Some(&schema(property.clone())), "content"),
            "{property}"
        );
    }
    for property in [
        json!({"type": "string", "maxLength": 5000}),
        json!({"type": "string", "pattern": "^a"}),
        json!({"enum": ["a"]}),
        json!({"$ref": "#/$defs/a"}),
        json!({"anyOf": [{"type": "string"}]}),
        json!({"type": "string", "contentMediaType": "application/json"}),
    ] {
        assert!(
            !may_be_any_text(Some(&schema(property.clone())), "content"),
            "{property}"
        );
    }
    for keyword in [
        "anyOf",
        "if",
        "dependentSchemas",
        "maxProperties",
        "patternProperties",
    ] {
        let mut schema = schema(json!({"type": "string"}));
        schema[keyword] = json!({});
        assert!(!may_be_any_text(Some(&schema), "content"), "{keyword}");
    }
    assert!(may_be_any_text(None, "content"));
    let closed = json!({"properties": {}, "additionalProperties": false});
    assert!(!may_be_any_text(Some(&closed), "content"));
}

proptest! {
    /// Whatever is released of arguments that are JSON is a beginning of them, and grows.
    #[test]
    fn releases_only_grow(
        path in "[a-z\"\\\\]{0,20}",
        content in proptest::collection::vec(
            prop::sample::select(vec!["word ", "\n", "\"", "\\", "é", "\u{1f600}", "\u{1}", "}"]),
            900..1500,
        ),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let arguments = json!({"a_path": path, "content": content.concat()}).to_string();
        let mut ends: Vec<usize> = cuts
            .iter()
            .map(|cut| cut.index(arguments.len()))
            .filter(|&end| arguments.is_char_boundary(end))
            .chain([arguments.len()])
            .collect();
        ends.sort_unstable();
        let mut early = EarlyRelease::default();
        let mut before = 0;
        for end in ends {
            let released = early.grown(&arguments[..end], |_, closed| {
                serde_json::from_str::<Value>(closed).is_ok()
            });
            prop_assert!(before <= released && released <= end);
            prop_assert!(arguments.is_char_boundary(released));
            before = released;
        }
    }
}
