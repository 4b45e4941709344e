use serde_json::{Value, json};

use super::super::validate::tests::tool;
use super::*;

/// The schema of the arguments in a re-ask for a tool with `schema`, and the shared definitions.
fn arguments(schema: &Value) -> (Value, Value) {
    let tools = [tool("t", Some(&schema.to_string()))];
    let format: Value = serde_json::from_str(schema_for(&tools, None).unwrap().get()).unwrap();
    let schema = &format["json_schema"]["schema"];
    let call = &schema["anyOf"][0];
    assert_eq!(call["properties"]["name"], json!({"const": "t"}));
    (
        call["properties"]["arguments"].clone(),
        schema["$defs"].clone(),
    )
}

#[track_caller]
fn becomes(schema: Value, expected: Value) {
    assert_eq!(arguments(&schema).0, expected);
}

/// The shape of one property.
#[track_caller]
fn property(schema: Value, expected: Value) {
    let object = json!({"type": "object", "properties": {"p": schema}});
    let (arguments, _) = arguments(&object);
    assert_eq!(arguments["properties"]["p"], expected, "{object}");
}

#[test]
fn each_allowed_tool_is_one_alternative_name_first() {
    let tools = [
        tool(
            "Read",
            Some(
                r#"{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"null"}},"required":["z"]}"#,
            ),
        ),
        tool("Bash", None),
        tool("Withheld", None),
    ];
    let format = schema_for(&tools, Some(&["Read", "Bash"])).unwrap();
    assert_eq!(
        format.get(),
        concat!(
            r#"{"type":"json_schema","json_schema":{"name":"tool_call","schema":{"anyOf":["#,
            r#"{"type":"object","properties":{"name":{"const":"Read"},"arguments":{"type":"object","#,
            r#""properties":{"z":{"type":"string"},"a":{"type":"null"}},"required":["z"],"#,
            r#""additionalProperties":false}},"required":["name","arguments"],"additionalProperties":false},"#,
            r#"{"type":"object","properties":{"name":{"const":"Bash"},"arguments":{"type":"object","#,
            r#""additionalProperties":true}},"required":["name","arguments"],"additionalProperties":false}]}}}"#,
        )
    );
    assert!(schema_for(&tools, Some(&[])).is_none());
    assert!(schema_for(&[], None).is_none());
}

#[test]
fn what_the_grammar_builder_refuses_is_left_out() {
    let text = json!({"type": "string"});
    property(
        json!({"type": "string", "pattern": "no anchor", "description": "x"}),
        text.clone(),
    );
    property(
        json!({"type": "string", "pattern": r"^\d+$", "maxLength": 5000, "format": "uri"}),
        text.clone(),
    );
    property(
        json!({"type": "string", "minLength": 1.5, "maxLength": -1, "format": 7}),
        text,
    );
    property(
        json!({"type": "string", "pattern": "^[a-z]+$"}),
        json!({"type": "string", "pattern": "^[a-z]+$"}),
    );
    property(json!(true), json!({}));
    property(json!({"type": "any"}), json!({}));
    property(json!({"type": []}), json!({}));
    property(json!({"enum": []}), json!({}));
    property(json!({"anyOf": []}), json!({}));
    property(json!({"not": {}}), json!({}));
    property(
        json!({"type": "array", "items": false, "minItems": 1}),
        json!({"type": "array", "items": {}, "minItems": 1}),
    );
    property(
        json!({"type": "array", "maxItems": 100_000}),
        json!({"type": "array", "items": {}}),
    );
    property(
        json!({"type": "integer", "exclusiveMinimum": 0, "maximum": 9e99}),
        json!({"type": "integer", "minimum": 1}),
    );
    property(
        json!({"type": "integer", "exclusiveMinimum": true}),
        json!({"type": "integer"}),
    );
    property(
        json!({"type": "integer", "minimum": 5, "maximum": 1}),
        json!({"type": "integer"}),
    );
    property(
        json!({"type": "number", "minimum": 1}),
        json!({"type": "number"}),
    );
    property(
        json!({"type": ["string", "null"]}),
        json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
    );
    property(
        json!({"const": {"b": 1, "a": 2.50}}),
        json!({"enum": [{"b": 1, "a": 2.50}]}),
    );
    property(
        json!({"type": "array", "prefixItems": [{"type": "null"}, true]}),
        json!({"type": "array", "prefixItems": [{"type": "null"}, {}]}),
    );
}

#[test]
fn names_by_pattern_stay_writable() {
    property(
        json!({"type": "object", "patternProperties": {"^x-": {}}, "additionalProperties": false}),
        json!({"type": "object", "additionalProperties": true}),
    );
    // The rule for other names would come out wrong, so there are none.
    becomes(
        json!({"type": "object", "properties": {"a-b": {}}, "additionalProperties": true}),
        json!({"type": "object", "properties": {"a-b": {}}, "additionalProperties": false}),
    );
    becomes(
        json!({"properties": {"a": {}}, "required": ["a", "b"]}),
        json!({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"], "additionalProperties": false}),
    );
    becomes(
        json!({}),
        json!({"type": "object", "additionalProperties": true}),
    );
    becomes(
        json!({"type": "object", "additionalProperties": {"type": "null"}}),
        json!({"type": "object", "additionalProperties": {"type": "null"}}),
    );
}

#[test]
fn alternatives_of_an_object_keep_its_properties() {
    let object = json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"], "properties": {"c": {"type": "string"}}}]});
    becomes(
        object,
        json!({"anyOf": [
            {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
             "required": ["a"], "additionalProperties": false},
            {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}, "c": {"type": "string"}},
             "required": ["b"], "additionalProperties": false},
        ]}),
    );
    becomes(
        json!({"$defs": {"x": {"type": "object", "properties": {"x": {}}, "required": ["x"]}},
            "allOf": [{"$ref": "#/$defs/x"}, {"properties": {"y": {}}}]}),
        json!({"type": "object", "properties": {"x": {}, "y": {}}, "required": ["x"], "additionalProperties": false}),
    );
    property(
        json!({"allOf": [{"enum": ["a"]}], "default": "a"}),
        json!({"enum": ["a"]}),
    );
    property(
        json!({"type": "string", "allOf": [{"pattern": "x"}, {}]}),
        json!({"type": "string"}),
    );
}

#[test]
fn references_lead_to_definitions_of_the_whole() {
    let tree = json!({"type": "object", "properties": {
        "kids": {"type": "array", "items": {"$ref": "#"}},
        "odd": {"$ref": "#/definitions/a~1b%20c"},
        "again": {"$ref": "#/properties/kids"},
        "lost": {"$ref": "#/nowhere"}, "far": {"$ref": "https://example.com/x"}},
        "definitions": {"a/b c": {"type": "null"}}});
    let (arguments, definitions) = arguments(&tree);
    let reference = arguments["properties"]["kids"]["items"]["$ref"].as_str();
    let name = reference.unwrap().strip_prefix("#/$defs/").unwrap();
    assert_eq!(definitions[name], arguments);
    assert_eq!(arguments["properties"]["lost"], json!({}));
    assert_eq!(arguments["properties"]["far"], json!({}));
    let defs = definitions.as_object().unwrap();
    assert_eq!(defs.len(), 3);
    assert!(defs.values().any(|one| *one == json!({"type": "null"})));
    // Two tools whose references read alike do not share what they mean.
    let two = [
        tool(
            "a",
            Some(r##"{"properties":{"p":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"null"}}}"##),
        ),
        tool(
            "b",
            Some(r##"{"properties":{"p":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"string"}}}"##),
        ),
    ];
    let both: Value = serde_json::from_str(schema_for(&two, None).unwrap().get()).unwrap();
    let defs = &both["json_schema"]["schema"]["$defs"];
    assert_eq!(
        defs,
        &json!({"d0": {"type": "null"}, "d1": {"type": "string"}})
    );
}

#[test]
fn definitions_that_start_with_themselves_are_cut() {
    let (_, definitions) = arguments(&json!({"properties": {"p": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "null"}]}, "b": {"$ref": "#/$defs/a"}}}));
    let defs: Vec<&Value> = definitions.as_object().unwrap().values().collect();
    assert!(defs.contains(&&json!({})), "{defs:?}");
}

#[test]
fn hostile_schemas_stay_small() {
    let mut defs = serde_json::Map::new();
    for n in 0..60 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        defs.insert(
            format!("d{n}"),
            json!({"allOf": [next, next], "anyOf": [next, next], "properties": {"a": next}}),
        );
    }
    let schema = json!({"$defs": defs, "$ref": "#/$defs/d0"}).to_string();
    let deep = format!(r#"{}{{}}{}"#, r#"{"items":"#.repeat(120), "}".repeat(120));
    for schema in [schema, deep] {
        let format = schema_for(&[tool("t", Some(&schema))], None).unwrap();
        assert!(format.get().len() < 4 << 20, "{}", format.get().len());
    }
}

#[test]
fn a_constrained_answer_is_a_call_with_its_arguments_as_written() {
    let text = " {\"name\": \"Read\", \"arguments\": {\"path\" : \"}}\\u00e9\", \"n\": 1.50}}\n";
    let call = parse_constrained(text).unwrap();
    assert_eq!(call.name, "Read");
    assert_eq!(call.arguments, "{\"path\" : \"}}\\u00e9\", \"n\": 1.50}");
    for text in [
        "",
        "prose",
        r#"{"name":"Read","arguments":{"a":"#,
        r#"{"name":"Read"}"#,
        "[]",
    ] {
        assert_eq!(parse_constrained(text), None, "{text}");
    }
}
