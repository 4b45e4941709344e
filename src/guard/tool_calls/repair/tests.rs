use rstest::rstest;

use super::*;

fn ok(text: &str) -> (String, Vec<Change>) {
    match repair(text, false) {
        Ok(repaired) => (repaired.arguments, repaired.changes.as_slice().to_vec()),
        Err(why) => panic!("{text}: {why:?}"),
    }
}

#[rstest]
#[case(r#"{}"#)]
#[case(" {\"a\" : [ 1 , 2.50e+7 , -0 , 123456789012345678901234567890 ] }\n")]
#[case(r#"{"a":"}}}}","b":"</tool_call>```","c":"00000000-0000-0000-0000-000000000000"}"#)]
#[case(r#"{"a":1,"a":{"b":[[],{}]},"\u00e9\/":"\ud800"}"#)]
#[case(r#"{"n":1e999,"t":true,"f":false,"z":null}"#)]
fn valid_objects_are_left_alone(#[case] text: &str) {
    for cut in [false, true] {
        let repaired = repair(text, cut).unwrap();
        assert_eq!(repaired.arguments, text);
        assert!(repaired.changes.is_empty());
    }
}

#[rstest]
// Closers.
#[case(r#"{"a":{"b":[1,2"#, r#"{"a":{"b":[1,2]}}"#, &[Change::CloserAdded])]
#[case("{\"a\":\"x\"\n", "{\"a\":\"x\"}", &[Change::CloserAdded])]
#[case(r#"{"a":[1,{"b":2],"c":3}"#, r#"{"a":[1,{"b":2}],"c":3}"#, &[Change::CloserAdded])]
#[case(r#"{"a":1}}]}"#, r#"{"a":1}"#, &[Change::CloserRemoved])]
#[case(r#"{"a":1]}"#, r#"{"a":1}"#, &[Change::CloserRemoved])]
#[case(r#"{"a":1]"#, r#"{"a":1}"#, &[Change::CloserRemoved, Change::CloserAdded])]
#[case(r#"{"a":[{"b":1}}]}"#, r#"{"a":[{"b":1}]}"#, &[Change::CloserAdded, Change::CloserRemoved])]
#[case(r#"{{"a":1}}"#, r#"{"a":1}"#, &[Change::OpenerRemoved, Change::CloserRemoved])]
// Commas.
#[case(r#"{"a":[1,2, ],"b":{"c":3,},}"#, r#"{"a":[1,2 ],"b":{"c":3}}"#, &[Change::TrailingComma])]
#[case(r#"{"a":1},"#, r#"{"a":1}"#, &[Change::TrailingComma])]
#[case(r#"{"a":1,]"#, r#"{"a":1}"#, &[Change::TrailingComma, Change::CloserRemoved, Change::CloserAdded])]
// Quotes and literals.
#[case(r#"{'a': 'say "hi" it\'s \n'}"#, r#"{"a": "say \"hi\" it's \n"}"#, &[Change::SingleQuotes])]
#[case(r#"{a_1: 1, $b: 2}"#, r#"{"a_1": 1, "$b": 2}"#, &[Change::UnquotedKey])]
#[case(r#"{"a":[True,False,None]}"#, r#"{"a":[true,false,null]}"#, &[Change::PythonLiterals])]
// Inside strings.
#[case("{\"a\":\"1\n2\t3\r4\u{1}\"}", r#"{"a":"1\n2\t3\r4\u0001"}"#, &[Change::RawNewline])]
#[case(r#"{"re":"^\d+\.\w$"}"#, r#"{"re":"^\\d+\\.\\w$"}"#, &[Change::InvalidEscape])]
#[case(r#"{"p":"C:\users\x"}"#, r#"{"p":"C:\\users\\x"}"#, &[Change::InvalidEscape])]
#[case(r#"{"p":"it\'s"}"#, r#"{"p":"it\\'s"}"#, &[Change::InvalidEscape])]
#[case("{\"c\":\"a \\\n b\"}", r#"{"c":"a \\\n b"}"#, &[Change::InvalidEscape, Change::RawNewline])]
// Wrapping.
#[case("```json\n{\"a\":\"```\"}\n```\n", "{\"a\":\"```\"}", &[Change::CodeFence])]
#[case("`{\"a\":1}`", "{\"a\":1}", &[Change::CodeFence])]
#[case("```json\n{\"a\":{\"b\":1}\n```", "{\"a\":{\"b\":1}}", &[Change::CodeFence, Change::CloserAdded])]
#[case("<arguments>{\"a\":\"</x>\"}</arguments>\n</tool_call>", "{\"a\":\"</x>\"}", &[Change::Wrapper])]
#[case("{\"a\":{\"b\":1}</tool_call>", "{\"a\":{\"b\":1}}", &[Change::Wrapper, Change::CloserAdded])]
#[case("{\"a\":1}<|im_end|>", "{\"a\":1}", &[Change::Wrapper])]
#[case("\u{feff}{\"a\":1}", "{\"a\":1}", &[Change::Wrapper])]
// Encoded twice.
#[case(r#""{\"a\":\"\\\\d \\\"q\\\" \u00e9\"}""#, r#"{"a":"\\d \"q\" é"}"#, &[Change::DoubleEncoded])]
#[case(r#"{\"a\": \"x\\ny\"}"#, r#"{"a": "x\ny"}"#, &[Change::DoubleEncoded])]
#[case(r#""{\"a\":1""#, r#"{"a":1}"#, &[Change::DoubleEncoded, Change::CloserAdded])]
#[case(r#""\"{\\\"a\\\":1}\"""#, r#"{"a":1}"#, &[Change::DoubleEncoded])]
#[case("  \n", "{}", &[Change::Empty])]
fn envelopes_are_repaired(#[case] text: &str, #[case] expected: &str, #[case] changes: &[Change]) {
    let (arguments, made) = ok(text);
    assert_eq!(arguments, expected);
    assert_eq!(made, changes);
    // A repaired text needs no repair.
    assert_eq!(ok(&arguments), (arguments.clone(), Vec::new()));
}

#[rstest]
#[case(r#"{"command":"rm -rf /tmp/x"#)]
#[case(r#"{"command":"rm -rf /tmp/x}"#)]
#[case(r#"{"command":'rm"#)]
#[case(r#"{"a":"x\"#)]
#[case(r#"{"a"#)]
#[case(r#"{"a""#)]
#[case(r#"{"a":"#)]
#[case(r#"{"a":1,"#)]
#[case(r#"{"a":-"#)]
#[case(r#"{"a":1."#)]
#[case(r#"{"a":tru"#)]
#[case(r#"{"a":["#)]
#[case("{")]
#[case("{abc")]
#[case(r#""{\"a\":1}"#)]
fn text_that_breaks_off_is_truncated(#[case] text: &str) {
    for cut in [false, true] {
        assert_eq!(repair(text, cut), Err(Unrepairable::Truncated), "{text}");
    }
}

#[rstest]
#[case(r#"{"a":1"#)]
#[case(r#"{"a":"x""#)]
#[case(r#"{"a":[true"#)]
#[case(r#"{"a":{"b":1}</tool_call>"#)]
#[case(r#""{\"a\":1""#)]
#[case("")]
#[case("```json\n")]
fn nothing_is_completed_after_the_token_limit(#[case] text: &str) {
    assert_eq!(repair(text, true), Err(Unrepairable::Truncated), "{text}");
}

#[rstest]
#[case("ls -la")]
#[case("[1,2]")]
#[case(r#"[{"a":1}]"#)]
#[case("42")]
#[case("null")]
#[case(r#""just text""#)]
#[case("Sure! {\"a\":1}")]
#[case("<arguments></arguments>")]
#[case("<parameter=command>ls</parameter>")]
#[case("```\n```")]
fn other_things_are_no_object(#[case] text: &str) {
    assert_eq!(
        repair(text, false),
        Err(Unrepairable::NotAnObject),
        "{text}"
    );
}

#[rstest]
#[case(
    r#"{"a":"say "hi" now"}"#,
    "text where a comma or a closing brace belongs"
)]
#[case(r#"{"a":'it's'}"#, "text where a comma or a closing brace belongs")]
#[case(r#"{"a":1 "b":2}"#, "text where a comma or a closing brace belongs")]
#[case(r#"{"a":01}"#, "a number with a leading zero")]
#[case(r#"{"a":.5}"#, "no value where one belongs")]
#[case(r#"{"a":1_000}"#, "text where a comma or a closing brace belongs")]
#[case(r#"{"a":NaN}"#, "a bare word")]
#[case(r#"{"a":,"b":1}"#, "no value where one belongs")]
#[case(r#"{"a":[1,,2]}"#, "no value where one belongs")]
#[case(r#"{,"a":1}"#, "no key where one belongs")]
#[case(r#"{"a" 1}"#, "no colon after a key")]
#[case(r#"{"a":1}{"b":2}"#, "text after the object")]
#[case(r#"{"a":{"b":1}},"c":2}"#, "text after the object")]
#[case(r#"{"a":1} I hope this helps"#, "text after the object")]
#[case(r#"{{{"a":1}}}"#, "a brace where a key belongs")]
#[case(
    r#"{"a":"C:\Users\new"}"#,
    "a string whose backslashes are only partly escaped"
)]
#[case(
    r#"{"re":"\bfoo\d"}"#,
    "a string whose backslashes are only partly escaped"
)]
#[case(r#"{\"a\":"b"}"#, "quotes that are only partly escaped")]
#[case(r#""{\"a\":\ud800}""#, "half a surrogate pair")]
fn doubtful_text_is_not_guessed_at(#[case] text: &str, #[case] what: &str) {
    match repair(text, false) {
        Err(Unrepairable::Hopeless(fault)) => assert_eq!(fault.what, what, "{text}"),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_fault_says_where() {
    let Err(Unrepairable::Hopeless(fault)) = repair(r#"{"a":"say "hi" now"}"#, false) else {
        panic!("repaired");
    };
    assert_eq!(
        fault.to_string(),
        "text where a comma or a closing brace belongs at byte 11, near `hi\" now\"}`"
    );
}

#[test]
fn nesting_is_limited_to_what_everything_else_can_read() {
    let nested = |depth: usize| {
        let inner = depth - 1;
        format!("{{\"a\":{}{}}}", "[".repeat(inner), "]".repeat(inner))
    };
    let deepest = nested(MAX_DEPTH);
    assert_eq!(ok(&deepest), (deepest.clone(), Vec::new()));
    assert!(serde_json::from_str::<serde_json::Value>(&deepest).is_ok());
    for text in [
        nested(MAX_DEPTH + 1),
        format!("{{\"a\":{}", "[".repeat(1_000_000)),
    ] {
        let why = repair(&text, false).unwrap_err();
        assert!(matches!(why, Unrepairable::Hopeless(ref f) if f.what == "too deep a nesting"));
    }
    for opener in ["[", "{", "\"", "<a>", "`", "{{", "\\", "}"] {
        let _ = repair(&opener.repeat(1_000_000), false);
    }
}
