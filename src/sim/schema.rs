//! Makes up a JSON document that a JSON Schema accepts, as grammar-constrained decoding would.
//!
//! Covered: `const`, `enum`, `anyOf`/`oneOf` (first), `allOf` (its first part, unless properties
//! stand beside it), local `$ref`, type lists, bounds of strings, numbers and arrays, common string
//! formats, required properties in their order. `pattern` is not.

use serde_json::{Value, json};

use super::rng::Rng;

const DEPTH: usize = 24;
const WORDS: [&str; 12] = [
    "alpha", "report", "main", "north", "green", "table", "sample", "river", "value", "note",
    "paper", "stone",
];
const TYPES: [&str; 7] = [
    "object", "array", "string", "number", "integer", "boolean", "null",
];

/// A document of `schema`, as JSON text in the style models write it (`": "` and `", "`).
pub(crate) fn document(schema: &Value, rng: &mut Rng) -> String {
    let mut out = String::new();
    Writer { root: schema, rng }.value(schema, DEPTH, &mut out);
    out
}

/// The first unknown `type` inside a schema, which the real server refuses.
pub(crate) fn unknown_type(schema: &Value) -> Option<String> {
    let Value::Object(map) = schema else {
        return None;
    };
    let named = map.get("type").and_then(Value::as_str);
    if let Some(name) = named.filter(|name| !TYPES.contains(name)) {
        return Some(name.to_owned());
    }
    let nested = map.get("properties").and_then(Value::as_object);
    let mut parts = nested
        .into_iter()
        .flat_map(|p| p.values())
        .chain(map.get("items"));
    parts.find_map(unknown_type)
}

struct Writer<'a> {
    root: &'a Value,
    rng: &'a mut Rng,
}

impl Writer<'_> {
    fn value(&mut self, schema: &Value, depth: usize, out: &mut String) {
        if depth == 0 {
            return out.push_str("null");
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = target
                .strip_prefix('#')
                .and_then(|path| self.root.pointer(path));
            let target = target.cloned().unwrap_or(Value::Null);
            return self.value(&target, depth - 1, out);
        }
        if let Some(fixed) = schema.get("const") {
            return out.push_str(&fixed.to_string());
        }
        if let Some(Value::Array(choices)) = schema.get("enum")
            && !choices.is_empty()
        {
            let choice = self.rng.below(choices.len());
            return out.push_str(&choices[choice].to_string());
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema.get(key).and_then(|list| list.get(0))
                && schema.get("properties").is_none()
            {
                return self.value(first, depth - 1, out);
            }
        }
        match kind(schema) {
            "object" => self.object(schema, depth, out),
            "array" => self.array(schema, depth, out),
            "integer" => out.push_str(&self.number(schema, true)),
            "number" => out.push_str(&self.number(schema, false)),
            "boolean" => out.push_str(if self.rng.chance(0.5) {
                "true"
            } else {
                "false"
            }),
            "null" => out.push_str("null"),
            _ => out.push_str(&json!(self.string(schema)).to_string()),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize, out: &mut String) {
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        out.push('{');
        for (index, name) in required.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            out.push_str(&json!(name).to_string());
            out.push_str(": ");
            let property = schema.get("properties").and_then(|p| p.get(name));
            self.value(property.unwrap_or(&Value::Null), depth - 1, out);
        }
        out.push('}');
    }

    fn array(&mut self, schema: &Value, depth: usize, out: &mut String) {
        let fixed = schema.get("prefixItems").and_then(Value::as_array);
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1) as usize;
        let most = schema
            .get("maxItems")
            .and_then(Value::as_u64)
            .unwrap_or(u64::MAX) as usize;
        let len = least.max(fixed.map_or(1, Vec::len)).min(most).min(64);
        out.push('[');
        for index in 0..len {
            if index > 0 {
                out.push_str(", ");
            }
            let item = fixed
                .and_then(|list| list.get(index))
                .or(schema.get("items"));
            self.value(item.unwrap_or(&Value::Null), depth - 1, out);
        }
        out.push(']');
    }

    fn number(&mut self, schema: &Value, whole: bool) -> String {
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        let least = bound("minimum").or(bound("exclusiveMinimum").map(|low| low + 1.0));
        let most = bound("maximum").or(bound("exclusiveMaximum").map(|high| high - 1.0));
        let low = least.unwrap_or_else(|| most.map_or(1.0, |most| most.min(1.0)));
        let high = most.unwrap_or(low + 98.0).max(low);
        let mut number = (low + self.rng.unit() * (high - low))
            .floor()
            .max(low.ceil())
            .min(high);
        if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0) {
            number = (number / step).ceil() * step;
        }
        if whole {
            format!("{}", number as i64)
        } else {
            json!(number).to_string()
        }
    }

    fn string(&mut self, schema: &Value) -> String {
        let fixed = match schema.get("format").and_then(Value::as_str) {
            Some("date") => "2026-01-15",
            Some("date-time") => "2026-01-15T10:30:00Z",
            Some("time") => "10:30:00Z",
            Some("email") => "someone@example.com",
            Some("uri" | "uri-reference") => "https://example.com/",
            Some("uuid") => "3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f",
            Some("ipv4") => "192.0.2.1",
            _ => "",
        };
        if !fixed.is_empty() {
            return fixed.to_owned();
        }
        let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0) as usize;
        let most = schema
            .get("maxLength")
            .and_then(Value::as_u64)
            .unwrap_or(u64::MAX) as usize;
        let mut text = self.rng.pick(&WORDS).to_owned();
        while text.len() < least.min(65_536) {
            text.push(' ');
            text.push_str(self.rng.pick(&WORDS));
        }
        text.truncate(most.max(least));
        text
    }
}

fn kind(schema: &Value) -> &str {
    let named = match schema.get("type") {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Array(names)) => names.first().and_then(Value::as_str),
        _ => None,
    };
    match named {
        Some(name) => name,
        None if schema.get("properties").is_some() => "object",
        None if schema.get("items").is_some() => "array",
        None => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(schema: &Value) -> Value {
        let text = document(schema, &mut Rng::seeded(&[7]));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn a_constrained_tool_call() {
        let schema = json!({"anyOf": [{
            "type": "object",
            "properties": {
                "name": {"const": "get_weather"},
                "arguments": {
                    "type": "object",
                    "properties": {"city": {"type": "string", "maxLength": 3}, "unit": {"enum": ["c", "f"]}},
                    "required": ["city", "unit"]
                }
            },
            "required": ["name", "arguments"]
        }]});
        let call = made(&schema);
        assert_eq!(call["name"], "get_weather");
        assert!(call["arguments"]["city"].as_str().unwrap().len() <= 3);
        assert!(["c", "f"].contains(&call["arguments"]["unit"].as_str().unwrap()));
    }

    #[test]
    fn bounds_hold() {
        for seed in 0..200 {
            let schema = json!({
                "type": "object",
                "properties": {
                    "age": {"type": "integer", "minimum": 18, "maximum": 20},
                    "step": {"type": "integer", "minimum": 1, "maximum": 100, "multipleOf": 5},
                    "below": {"type": "number", "maximum": -3},
                    "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2},
                    "long": {"type": "string", "minLength": 50},
                    "when": {"type": "string", "format": "date"},
                    "node": {"$ref": "#/$defs/node"}
                },
                "required": ["age", "step", "below", "list", "long", "when", "node"],
                "$defs": {"node": {"type": ["null", "string"]}}
            });
            let text = document(&schema, &mut Rng::seeded(&[seed]));
            let made: Value = serde_json::from_str(&text).unwrap();
            assert!((18..=20).contains(&made["age"].as_i64().unwrap()), "{text}");
            assert_eq!(made["step"].as_i64().unwrap() % 5, 0, "{text}");
            assert!(made["below"].as_f64().unwrap() <= -3.0, "{text}");
            assert_eq!(made["list"].as_array().unwrap().len(), 2);
            assert!(made["long"].as_str().unwrap().len() >= 50);
            assert_eq!(made["when"], "2026-01-15");
            assert!(made["node"].is_null());
            assert!(
                text.starts_with("{\"age\": "),
                "required order is kept: {text}"
            );
        }
    }

    #[test]
    fn endless_schemas_end_and_unknown_types_are_found() {
        let endless =
            json!({"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]});
        assert!(made(&endless).is_object());
        let odd = json!({"type": "object", "properties": {"x": {"type": "banana"}}});
        assert_eq!(unknown_type(&odd).as_deref(), Some("banana"));
        assert_eq!(unknown_type(&endless), None);
    }
}
