//! Schemas as they are sent.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn clean(text: &str) -> String {
    let schema = raw(text);
    cleaned(&schema).map_or_else(|| text.to_owned(), |schema| schema.get().to_owned())
}

#[rstest]
#[case::untouched(
    r#"{"type": "object", "properties" : {"a":{"type":"string","maxLength":20}}}"#,
    None
)]
#[case::zod_integers(
    r#"{"type":"integer","minimum":-9007199254740991,"maximum":9007199254740991}"#,
    None
)]
#[case::plain_pattern(r#"{"type":"string","pattern":"^[a-z]+$"}"#, None)]
#[case::property_called_pattern(
    r#"{"properties":{"pattern":{"type":"string"},"$ref":{"type":"null"}}}"#,
    None
)]
#[case::a_good_reference(
    r##"{"$defs":{"a":{"type":"null"}},"properties":{"x":{"$ref":"#/$defs/a"}}}"##,
    None
)]
#[case::unbalanced(
    r#"{"type":"string","pattern":"^(a$","minLength":1}"#,
    Some(r#"{"type":"string","minLength":1}"#)
)]
#[case::loose(r#"{"type":"string","pattern":"a|b"}"#, Some(r#"{"type":"string"}"#))]
#[case::names_by_pattern(
    r#"{"type":"object","patternProperties":{"^x":{}},"additionalProperties":false}"#,
    Some(r#"{"type":"object","additionalProperties":true}"#)
)]
#[case::long(
    r#"{"type":"string","minLength":5000,"maxLength":100000,"description":"d"}"#,
    Some(r#"{"type":"string","description":"d"}"#)
)]
#[case::many(
    r#"{"type":"array","items":true,"maxItems":10000}"#,
    Some(r#"{"type":"array","items":{}}"#)
)]
#[case::types(r#"{"type":"any"}"#, Some("{}"))]
#[case::type_lists(r#"{"type":["string","float"]}"#, Some("{}"))]
#[case::type_list(r#"{"type":["string","null"]}"#, None)]
#[case::empty_lists(
    r#"{"enum":[],"anyOf":[],"type":"string"}"#,
    Some(r#"{"type":"string"}"#)
)]
#[case::boolean_alternatives(
    r#"{"anyOf":[true,{"type":"null"}]}"#,
    Some(r#"{"anyOf":[{},{"type":"null"}]}"#)
)]
#[case::elsewhere(
    r#"{"properties":{"a":{"$ref":"https://x/y"}}}"#,
    Some(r#"{"properties":{"a":{}}}"#)
)]
#[case::nowhere(
    r##"{"properties":{"a":{"$ref":"#/$defs/b"}}}"##,
    Some(r#"{"properties":{"a":{}}}"#)
)]
#[case::whole(
    r##"{"properties":{"a":{"$ref":"#"}}}"##,
    Some(r#"{"properties":{"a":{}}}"#)
)]
#[case::draft_4(
    r#"{"type":"integer","minimum":0,"exclusiveMinimum":true}"#,
    Some(r#"{"type":"integer","minimum":0}"#)
)]
#[case::negative(r#"{"type":"array","minItems":-1}"#, Some(r#"{"type":"array"}"#))]
#[case::no_format(r#"{"type":"string","format":null}"#, Some(r#"{"type":"string"}"#))]
#[case::below(
    r#"{"items":{"additionalProperties":{"pattern":"(","type":"string"}}}"#,
    Some(r#"{"items":{"additionalProperties":{"type":"string"}}}"#)
)]
fn a_schema_is_sent_as(#[case] schema: &str, #[case] sent: Option<&str>) {
    let cleaned = cleaned(&raw(schema));
    assert_eq!(cleaned.as_ref().map(|schema| schema.get()), sent);
}

/// Every accepted value of the client's schema is one of the cleaned schema too.
#[test]
fn a_cleaned_schema_is_looser_never_tighter() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": "(?i)x", "maxLength": 9000}, "b": {"type": "float"}},
        "patternProperties": {"^x-": {"type": "string"}},
        "additionalProperties": false,
    });
    let cleaned: Value = serde_json::from_str(&clean(&schema.to_string())).unwrap();
    let validator = jsonschema::validator_for(&cleaned).unwrap();
    for value in [
        json!({"a": "X"}),
        json!({"x-y": "z"}),
        json!({"a": "x", "b": 1.5}),
    ] {
        assert!(validator.is_valid(&value), "{value}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "type",
        "properties",
        "items",
        "anyOf",
        "allOf",
        "enum",
        "pattern",
        "patternProperties",
        "additionalProperties",
        "$ref",
        "maxLength",
        "minItems",
        "$defs",
        "title",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop::sample::select(vec!["string", "object", "(", "^a$", "#/$defs/a", "x"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys.clone(), inner), 0..5).prop_map(|members| {
                Value::Object(
                    members
                        .into_iter()
                        .map(|(k, v)| (k.to_owned(), v))
                        .collect(),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn cleaning_is_total_and_once_is_enough(schema in any_json()) {
        let once = clean(&schema.to_string());
        let parsed: Value = serde_json::from_str(&once).unwrap();
        prop_assert!(parsed.is_object());
        prop_assert_eq!(clean(&once), once);
    }
}
