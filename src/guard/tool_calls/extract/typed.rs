//! Types a tool's schema declares, for families that write values as plain text.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A set of JSON types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const STRING: Self = Self(1);
    const NUMBER: Self = Self(2);
    const BOOLEAN: Self = Self(4);
    const NULL: Self = Self(8);
    const OBJECT: Self = Self(16);
    const ARRAY: Self = Self(32);
    /// Everything but a string.
    pub(super) const JSON: Self = Self(62);

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn named(name: &str) -> Self {
        match name {
            "string" => Self::STRING,
            "number" | "integer" => Self::NUMBER,
            "boolean" => Self::BOOLEAN,
            "null" => Self::NULL,
            "object" => Self::OBJECT,
            "array" => Self::ARRAY,
            _ => Self::NONE,
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(_) => Self::NUMBER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }
}

/// Types the schema declares for the property `key`; none when it says nothing.
pub(super) fn of_property(schema: Option<&Value>, key: &str) -> Types {
    let property = schema.and_then(|schema| Some((schema, schema.get("properties")?.get(key)?)));
    property.map_or(Types::NONE, |(root, property)| declared(root, property, 8))
}

fn declared(root: &Value, schema: &Value, depth: u8) -> Types {
    let Some(schema) = schema.as_object().filter(|_| depth > 0) else {
        return Types::NONE;
    };
    let mut types = match schema.get("type") {
        Some(Value::String(name)) => Types::named(name),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .fold(Types::NONE, |types, name| types.or(Types::named(name))),
        _ => Types::NONE,
    };
    if types != Types::NONE {
        return types;
    }
    if let Some(value) = schema.get("const") {
        return Types::of(value);
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values
            .iter()
            .fold(types, |types, value| types.or(Types::of(value)));
    }
    let target = schema.get("$ref").and_then(Value::as_str);
    if let Some(target) = target.and_then(|path| root.pointer(path.strip_prefix('#')?)) {
        return declared(root, target, depth - 1);
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for branch in schema
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            types = types.or(declared(root, branch, depth - 1));
        }
    }
    if types == Types::NONE && schema.contains_key("properties") {
        return Types::OBJECT;
    }
    if types == Types::NONE && schema.contains_key("items") {
        return Types::ARRAY;
    }
    types
}

/// Append `written` to `out` as JSON of one of `types`.
///
/// JSON that parses as a declared type other than a string is that value. Where a string is
/// declared, or nothing, the text is the string, byte for byte. What fits nothing stays as close to
/// the text as JSON allows, for the validation to refuse.
pub(super) fn encode(written: &str, types: Types, out: &mut String) {
    let trimmed = written.trim();
    let looks = match trimmed.as_bytes().first() {
        Some(b'{') => Types::OBJECT,
        Some(b'[') => Types::ARRAY,
        Some(b't' | b'f' | b'T' | b'F') => Types::BOOLEAN,
        Some(b'n' | b'N') => Types::NULL,
        Some(b'0'..=b'9' | b'-') => Types::NUMBER,
        _ => Types::STRING,
    };
    let wanted = types.has(looks) && looks != Types::STRING;
    if wanted && serde_json::from_str::<&RawValue>(trimmed).is_ok() {
        return out.push_str(trimmed);
    }
    // Python's spelling, which models trained on it use in these formats.
    let spelled = match trimmed {
        "True" | "TRUE" => Some(("true", Types::BOOLEAN)),
        "False" | "FALSE" => Some(("false", Types::BOOLEAN)),
        "None" => Some(("null", Types::NULL)),
        _ => None,
    };
    if let Some((word, _)) = spelled.filter(|(_, of)| types.has(*of) && !types.has(Types::STRING)) {
        return out.push_str(word);
    }
    let damaged = looks == Types::OBJECT || looks == Types::ARRAY;
    if wanted && damaged && !types.has(Types::STRING) {
        return out.push_str(trimmed);
    }
    let quoted = serde_json::from_str::<&RawValue>(trimmed).is_ok() && trimmed.starts_with('"');
    if quoted && types != Types::NONE && !types.has(Types::STRING) {
        return out.push_str(trimmed);
    }
    push_string(written, out);
}

/// Append `text` as a JSON string.
pub(super) fn push_string(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

/// Whether names and top-level types of `arguments` are those of an object schema.
pub(super) fn fits(schema: &Value, arguments: &Map<String, Value>) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    let mut required = required.into_iter().flatten().filter_map(Value::as_str);
    if !required.all(|name| arguments.contains_key(name)) {
        return false;
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let open = match schema.get("additionalProperties") {
        None => properties.is_none(),
        Some(Value::Bool(open)) => *open,
        Some(_) => true,
    };
    arguments.iter().all(|(name, value)| {
        let known = properties.is_some_and(|properties| properties.contains_key(name));
        let types = of_property(Some(schema), name);
        (known || open) && (types == Types::NONE || types.has(Types::of(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn encoded(written: &str, schema: Value) -> String {
        let schema = json!({"properties": {"k": schema}, "$defs": {"n": {"type": "integer"}}});
        let mut out = String::new();
        encode(written, of_property(Some(&schema), "k"), &mut out);
        out
    }

    #[test]
    fn values_take_the_declared_type() {
        for (written, schema, expected) in [
            ("42", json!({"type": "integer"}), "42"),
            ("42", json!({"type": "string"}), "\"42\""),
            ("42", json!({}), "\"42\""),
            (" 1.50\n", json!({"type": "number"}), "1.50"),
            ("007", json!({"type": "integer"}), "\"007\""),
            ("007", json!({"type": ["integer", "string"]}), "\"007\""),
            ("7", json!({"type": ["integer", "string"]}), "7"),
            ("True", json!({"type": "boolean"}), "true"),
            ("True", json!({"type": ["boolean", "string"]}), "\"True\""),
            (
                "null",
                json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
                "null",
            ),
            ("None", json!({"type": ["number", "null"]}), "null"),
            ("3", json!({"$ref": "#/$defs/n"}), "3"),
            ("3", json!({"enum": [1, 2, 3]}), "3"),
            ("{\"a\": 1}", json!({"properties": {}}), "{\"a\": 1}"),
            (
                "{\"a\": 1}",
                json!({"type": "string"}),
                "\"{\\\"a\\\": 1}\"",
            ),
            ("['a',]", json!({"type": "array"}), "['a',]"),
            ("\"x\"", json!({"type": "string"}), "\"\\\"x\\\"\""),
            ("\"x\"", json!({"type": "integer"}), "\"x\""),
            (" a\n", json!({"type": "string"}), "\" a\\n\""),
            ("", json!({"type": "integer"}), "\"\""),
        ] {
            assert_eq!(
                encoded(written, schema.clone()),
                expected,
                "{written:?} {schema}"
            );
        }
    }
}
