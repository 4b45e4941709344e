//! Properties that hold for any text.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::corpus_tests::{extract, source};
use super::{Extractor, Piece, marker};
use crate::guard::tool_calls::offered::Offered;
use crate::turn::Tool;

const SCHEMA: &str =
    r#"{"type":"object","properties":{"path":{"type":"string"},"n":{"type":"integer"}}}"#;

pub(super) fn offered() -> Arc<Offered> {
    let tool = |name: &str| Tool {
        name: name.to_owned(),
        parameters: RawValue::from_string(SCHEMA.to_owned()).ok(),
        upstream: RawValue::from_string("{}".to_owned()).unwrap(),
    };
    Arc::new(Offered::new([tool("read"), tool("bash")].into()))
}

/// Fragments from which hostile answers are made.
const FRAGMENTS: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "{\"name\":\"read\",\"arguments\":{\"path\":\"a\"}}",
    "{\"name\":",
    "\"read\"",
    ",\"arguments\":{",
    "\"path\":\"",
    "\"",
    "}",
    "{",
    "[",
    "]",
    "\\",
    "\n",
    "\n\n",
    " ",
    "    ",
    "\t",
    "`",
    "```",
    "```json\n",
    "~~~",
    "> ",
    "| ",
    "text",
    "é",
    "🦀",
    "<function=read>",
    "<parameter=path>",
    "</parameter>",
    "</function>",
    "<parameter=",
    "<|tool_call>call:read{",
    "<tool_call|>",
    "<|\"|>",
    "path:",
    "<|python_tag|>",
    "read.call(",
    "path='a'",
    ")",
    "'",
    "[TOOL_CALLS]",
    "read[ARGS]{",
    "[{\"name\":\"bash\",\"arguments\":{}}]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "function<｜tool▁sep｜>read\n",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "<|tool_calls_section_begin|>",
    "<|tool_call_begin|>functions.read:0<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<tool_call>read\n",
    "<arg_key>path</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<minimax:tool_call>",
    "<invoke name=\"read\">",
    "<parameter name=\"path\">",
    "</invoke>",
    "<function_calls>",
    "<|channel|>commentary to=functions.read",
    "<|message|>",
    "<|call|>",
    ">>>read\n",
    ">>>",
    "...",
    ";",
    ",",
    "<|tool_call_start|>[read(",
    "<｜DSML｜function_calls>",
    "<｜DSML｜invoke name=\"read\">",
    "to=functions.",
    "<",
    "</",
    "<|",
];

fn hostile() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        8 => prop::sample::select(FRAGMENTS).prop_map(str::to_owned),
        1 => "\\PC{0,3}",
    ];
    prop::collection::vec(fragment, 0..40).prop_map(|parts| parts.concat())
}

fn chunks(text: &str, length: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars
        .chunks(length)
        .map(|chunk| chunk.iter().collect())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No text panics, none is lost or changed, and cutting it differently changes nothing.
    #[test]
    fn every_text_is_kept_whole(text in hostile(), length in 1usize..9, cut: bool) {
        let offered = offered();
        let whole = extract(&offered, [text.as_str()], cut);
        prop_assert_eq!(source(&whole), text.clone());
        let parts = chunks(&text, length);
        let parts = extract(&offered, parts.iter().map(String::as_str), cut);
        prop_assert_eq!(parts, whole);
    }

    /// Arbitrary characters are never a call.
    #[test]
    fn arbitrary_text_is_text(text in "\\PC{0,200}") {
        let whole = extract(&offered(), [text.as_str()], false);
        prop_assert_eq!(source(&whole), text);
        prop_assert!(whole.iter().all(|piece| matches!(piece, Piece::Text(_))));
    }

    /// What text holds back is never longer than the longest marker.
    #[test]
    fn plain_text_is_hardly_held(text in "[a-z<\\[`|\n ]{0,120}") {
        let longest = marker::MARKERS.iter().map(|marker| marker.text.len()).max().unwrap();
        let mut extractor = Extractor::new(offered());
        let mut out = Vec::new();
        for part in chunks(&text, 3) {
            extractor.push(&part, &mut out);
            prop_assert!(extractor.held() < longest);
        }
    }

    /// Any string is delivered byte for byte as the value of a Hermes and of a Qwen call.
    #[test]
    fn values_arrive_unchanged(value in hostile()) {
        let json = serde_json::to_string(&value).unwrap();
        let text = format!("<tool_call>\n{{\"name\": \"read\", \"arguments\": {{\"path\": {json}}}}}\n</tool_call>");
        let pieces = extract(&offered(), [text.as_str()], false);
        let [Piece::Call(call)] = &pieces[..] else {
            panic!("{pieces:?}");
        };
        prop_assert_eq!(&call.arguments, &format!("{{\"path\": {json}}}"));
    }
}

#[test]
fn no_marker_begins_another() {
    for (i, a) in marker::MARKERS.iter().enumerate() {
        for (j, b) in marker::MARKERS.iter().enumerate() {
            assert!(
                i == j || !a.text.starts_with(b.text),
                "{} {}",
                a.text,
                b.text
            );
        }
    }
}

#[test]
fn without_tools_everything_is_text_at_once() {
    let mut extractor = Extractor::new(Arc::new(Offered::new([].into())));
    let mut out = Vec::new();
    extractor.push("<tool_call>", &mut out);
    assert_eq!(out, [Piece::Text("<tool_call>".into())]);
}

#[test]
fn a_nameless_block_is_a_call_only_when_asked_for_and_unique() {
    let tool = |name: &str, schema: &str| Tool {
        name: name.to_owned(),
        parameters: RawValue::from_string(schema.to_owned()).ok(),
        upstream: RawValue::from_string("{}".to_owned()).unwrap(),
    };
    let command = r#"{"properties":{"command":{"type":"string"}},"required":["command"]}"#;
    let path = r#"{"properties":{"path":{"type":"string"}},"required":["path"]}"#;
    let one = Arc::new(Offered::new(
        [tool("Bash", command), tool("read", path)].into(),
    ));
    let two = Arc::new(Offered::new(
        [tool("Bash", command), tool("sh", command)].into(),
    ));
    let run = |offered: &Arc<Offered>, text: &str| {
        let mut extractor = Extractor::new(offered.clone()).with_nameless_fences();
        let mut out = Vec::new();
        for part in chunks(text, 2) {
            extractor.push(&part, &mut out);
        }
        extractor.finish(false, &mut out);
        assert_eq!(source(&out), text);
        out
    };
    let block = "```json\n{\"command\": \"ls\"}\n```";
    let pieces = run(&one, block);
    let [Piece::Call(call)] = &pieces[..] else {
        panic!("{pieces:?}");
    };
    assert_eq!(
        (call.name.as_str(), call.arguments.as_str()),
        ("Bash", r#"{"command": "ls"}"#)
    );
    assert_eq!(run(&two, block), [Piece::Text(block.to_owned())]);
    for text in [
        "```json\n{}\n```",
        "```json\n{\"command\": 1}\n```",
        "```json\n{\"a\": 1}\n```",
    ] {
        assert_eq!(run(&one, text), [Piece::Text(text.to_owned())]);
    }
    assert_eq!(
        extract(&one, [block], false),
        [Piece::Text(block.to_owned())]
    );
}
