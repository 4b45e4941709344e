use super::*;

/// A tool with a schema.
pub(crate) fn tool(name: &str, schema: Option<&str>) -> Tool {
    Tool {
        name: name.to_owned(),
        parameters: schema.map(|schema| RawValue::from_string(schema.to_owned()).unwrap()),
        upstream: RawValue::from_string("{}".to_owned()).unwrap(),
    }
}

fn check(schema: &str, arguments: &str) -> Result<(), Vec<Violation>> {
    let set = Validators::for_tools(&[tool("t", Some(schema))]);
    assert!(set.unvalidated().is_empty(), "{:?}", set.unvalidated());
    set.validate("t", arguments)
}

fn first(schema: &str, arguments: &str) -> String {
    check(schema, arguments).unwrap_err()[0].to_string()
}

const EDIT: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object",
  "properties":{"path":{"type":"string","minLength":1},"mode":{"enum":["a","b"]},
    "edits":{"type":"array","items":{"type":"object","properties":{"old":{"type":"string"}},
      "required":["old"],"additionalProperties":false}}},
  "required":["path"],"additionalProperties":false}"#;

#[test]
fn the_whole_schema_counts() {
    assert_eq!(
        check(EDIT, r#"{"path":"x","mode":"b","edits":[{"old":""}]}"#),
        Ok(())
    );
    for (arguments, message) in [
        (r#"{}"#, r#"the arguments: "path" is a required property"#),
        (
            r#"{"path":""}"#,
            r#"/path: the value is shorter than 1 character (found "")"#,
        ),
        (
            r#"{"path":["x"]}"#,
            r#"/path: the value is not of type "string" (found an array of 1)"#,
        ),
        (
            r#"{"path":"x","mode":"c"}"#,
            r#"/mode: the value is not one of "a" or "b" (found "c")"#,
        ),
        (
            r#"{"path":"x","edits":[{"old":"a"},{"new":"b"}]}"#,
            r#"/edits/1: Additional properties are not allowed ('new' was unexpected)"#,
        ),
    ] {
        let all = check(EDIT, arguments).unwrap_err();
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert!(all.iter().any(|one| one == message), "{arguments}: {all:?}");
    }
}

#[test]
fn the_closest_alternative_is_explained() {
    let schema = r#"{"properties":{"q":{"anyOf":[{"type":"null"},
        {"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}]}}}"#;
    let message = first(schema, r#"{"q":{"n":"7"}}"#);
    assert!(
        message.contains(r#"/q/n: the value is not of type "integer""#),
        "{message}"
    );
}

#[test]
fn violations_are_bounded() {
    let long = "k".repeat(100_000);
    let many: Vec<String> = (0..5_000)
        .map(|n| format!(r#""{n}{long}":1"#))
        .take(50)
        .collect();
    let huge = format!(r#"{{"path":["{long}"],{}}}"#, many.join(","));
    let all = check(EDIT, &huge).unwrap_err();
    assert!(all.len() <= MAX_VIOLATIONS);
    assert!(
        all.iter().all(|one| one.to_string().len() < 1_000),
        "{all:?}"
    );
}

#[test]
fn recursion_through_the_root_works() {
    let tree = r##"{"type":"object","properties":{"v":{"type":"integer"},
        "children":{"type":"array","items":{"$ref":"#"}}},"required":["v"]}"##;
    assert_eq!(
        check(tree, r#"{"v":1,"children":[{"v":2,"children":[]}]}"#),
        Ok(())
    );
    let message = first(
        tree,
        r#"{"v":1,"children":[{"v":2,"children":[{"v":"3"}]}]}"#,
    );
    assert!(message.starts_with("/children/0/children/0/v"), "{message}");
}

#[test]
fn a_schema_that_is_only_itself_is_left_out() {
    for schema in [
        r##"{"$ref":"#"}"##,
        r##"{"anyOf":[{"$ref":"#"},{"allOf":[{"$ref":"#"}]}]}"##,
        r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}"##,
        r##"{"not":{"$ref":"#"}}"##,
    ] {
        let set = Validators::for_tools(&[tool("t", Some(schema))]);
        assert_eq!(set.unvalidated().len(), 1, "{schema}");
        assert_eq!(set.validate("t", r#"{"a":{"b":[1,2,3]}}"#), Ok(()));
    }
}

#[test]
fn deep_arguments_of_a_recursive_schema_fit_the_stack() {
    let tree = r##"{"properties":{"a":{"$ref":"#"},"b":{"$ref":"#"}},"type":"object"}"##;
    let deep = format!("{}1{}", r#"{"a":"#.repeat(126), "}".repeat(126));
    let shallow = format!("{}1{}", r#"{"a":"#.repeat(6), "}".repeat(6));
    assert!(check(tree, &shallow).is_err());
    let _ = check(tree, &deep);
    let list = r##"{"properties":{"next":{"$ref":"#"}},"type":"object"}"##;
    let deep = format!("{}1{}", r#"{"next":"#.repeat(126), "}".repeat(126));
    assert!(check(list, &deep).is_err());
}

/// `$defs` of which each is made of the next, the last requiring `x`.
fn chain(length: usize, link: impl Fn(String) -> String) -> String {
    let mut defs = vec![format!(r#""d{length}":{{"required":["x"]}}"#)];
    for n in 0..length {
        let next = format!(r##"{{"$ref":"#/$defs/d{}"}}"##, n + 1);
        defs.push(format!(r#""d{n}":{}"#, link(next)));
    }
    format!(
        r##"{{"$defs":{{{}}},"$ref":"#/$defs/d0"}}"##,
        defs.join(",")
    )
}

/// Each definition demands the next one twice: 2^40 steps.
#[test]
fn doubling_references_are_seen_through() {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let doubled = |next: String| format!(r#"{{"{keyword}":[{next},{next}]}}"#);
        assert!(left_out(&chain(40, doubled)), "{keyword}");
        assert!(check(&chain(8, doubled), "{}").is_err(), "{keyword}");
    }
    let inside = |next: String| {
        format!(r#"{{"anyOf":[{{"properties":{{"a":{next}}}}},{{"properties":{{"a":{next}}}}}]}}"#)
    };
    let deep = format!("{}1{}", r#"{"a":"#.repeat(60), "}".repeat(60));
    assert_eq!(check(&chain(40, inside), &deep), Ok(()));
    let unevaluated =
        |next: String| format!(r#"{{"allOf":[{next},{next}],"unevaluatedProperties":false}}"#);
    assert!(left_out(&chain(40, unevaluated)));
    assert!(check(&chain(8, unevaluated), "{}").is_err());
}

fn left_out(schema: &str) -> bool {
    let set = Validators::for_tools(&[tool("t", Some(schema))]);
    set.validate("t", "{}").is_ok() && set.unvalidated().len() == 1
}

#[test]
fn long_chains_fit_the_stack_or_are_left_out() {
    let links: [fn(String) -> String; 3] = [
        |next| next,
        |next| format!(r#"{{"properties":{{"a":{next}}}}}"#),
        |next| format!(r#"{{"allOf":[{{"anyOf":[{next}]}}]}}"#),
    ];
    for link in links {
        for length in [20, 40, 70, 140, 5_000] {
            let schema = chain(length, link);
            let set = Validators::for_tools(&[tool("t", Some(&schema))]);
            let _ = set.validate("t", r#"{"a":{"a":{"a":1}}}"#);
            assert_eq!(
                set.unvalidated().len(),
                usize::from(length == 5_000),
                "{length}"
            );
            if length == 20 {
                break;
            }
        }
    }
}

#[test]
fn what_cannot_be_compiled_is_accepted_and_listed() {
    let huge = format!(r#"{{"description":"{}"}}"#, "x".repeat(MAX_SCHEMA));
    let patterns: Vec<String> = (0..=MAX_PATTERNS)
        .map(|n| format!(r#""p{n}":{{"pattern":"a"}}"#))
        .collect();
    let patterns = format!(r#"{{"properties":{{{}}}}}"#, patterns.join(","));
    for schema in [
        r#"{"$ref":"https://example.com/schema.json"}"#,
        r#"{"$ref":"file:///etc/passwd"}"#,
        r#"{"properties":{"a":{"$ref":"other.json#/x"}}}"#,
        r##"{"$ref":"#/$defs/missing"}"##,
        r#"{"type":"strnig"}"#,
        r#"{"properties":{"a":{"pattern":"(?=x)y"}}}"#,
        r#"{"properties":{"a":{"pattern":"(((\\w{1000}){1000}){1000})"}}}"#,
        r#"{"$schema":"https://example.com/own-draft","type":"object"}"#,
        "7",
        &huge,
        &patterns,
    ] {
        let set = Validators::for_tools(&[tool("bad", Some(schema)), tool("good", Some(EDIT))]);
        let shown = schema.get(..60).unwrap_or(schema);
        assert_eq!(set.unvalidated().len(), 1, "{shown}");
        assert_eq!(set.unvalidated()[0].tool, "bad");
        assert!(set.unvalidated()[0].reason.len() < 300);
        assert_eq!(set.validate("bad", r#"{"any":1}"#), Ok(()), "{shown}");
        assert!(set.validate("good", "{}").is_err());
    }
}

#[test]
fn tools_without_a_schema_take_anything_and_are_not_a_fault() {
    let set = Validators::for_tools(&[
        tool("a", None),
        tool("b", Some("null")),
        tool("c", Some("{}")),
    ]);
    assert!(set.unvalidated().is_empty());
    for name in ["a", "b", "c", "unknown"] {
        assert_eq!(set.validate(name, r#"{"x":[]}"#), Ok(()));
    }
}

#[test]
fn valid_json_beyond_our_own_types_passes() {
    for arguments in [r#"{"path":"\ud800"}"#, r#"{"path":"x","n":1e999}"#] {
        assert_eq!(check(EDIT, arguments), Ok(()), "{arguments}");
    }
    assert!(check(EDIT, "{").is_err());
}

#[test]
fn formats_are_annotations_as_clients_differ_in_them() {
    let schema = r#"{"$schema":"http://json-schema.org/draft-07/schema#",
        "properties":{"url":{"type":"string","format":"uri"}}}"#;
    assert_eq!(
        check(schema, r#"{"url":"https://example.com/ä b"}"#),
        Ok(())
    );
}

#[test]
fn one_tool_set_is_compiled_once() {
    let tools = [tool("cached", Some(EDIT))];
    let first = Validators::for_tools(&tools);
    assert!(Arc::ptr_eq(&first, &Validators::for_tools(&tools)));
    let renamed = [tool("renamed", Some(EDIT))];
    assert!(!Arc::ptr_eq(&first, &Validators::for_tools(&renamed)));
}
