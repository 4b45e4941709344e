//! Schemas that llama-server can make a grammar of.
//!
//! For the tools of a request it builds one (`common/json-schema.cpp` and
//! `json-schema-to-grammar.cpp`, b11434), and what it refuses there costs the whole request. What it
//! would refuse, or turn into a grammar that no valid call fits, is left out; everything else keeps its
//! bytes and its order.

use std::borrow::Cow;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::json::{Members, ObjectWriter, write_array};
use crate::guard::tool_calls::is_plain_pattern;

/// Most repetitions of a character; more are refused (`MAX_REPETITION_THRESHOLD`, `llama-grammar.cpp`).
const MAX_LENGTH: u64 = 2000;

/// Most repetitions of an item, which has several rules.
const MAX_ITEMS: u64 = 500;

/// Deepest nesting looked at; what lies below is left as it is.
const MAX_DEPTH: usize = 60;

const TYPES: &[&str] = &[
    "object", "array", "string", "integer", "number", "boolean", "null",
];

/// The schema without what would be refused; none when it is fine as it is.
pub(super) fn cleaned(schema: &RawValue) -> Option<Box<RawValue>> {
    let mut cleaner = Cleaner {
        root: schema,
        changed: false,
    };
    let mut out = BytesMut::with_capacity(schema.get().len());
    cleaner.node(schema, &mut out, 0);
    if !cleaner.changed {
        return None;
    }
    serde_json::from_slice(&out).ok()
}

struct Cleaner<'a> {
    root: &'a RawValue,
    changed: bool,
}

/// What becomes of a keyword.
enum Keep {
    AsItIs,
    Dropped,
    /// A schema.
    Node,
    /// Schemas in an array.
    Nodes,
    /// Schemas by name.
    Named,
}

impl<'a> Cleaner<'a> {
    fn node(&mut self, schema: &'a RawValue, out: &mut BytesMut, depth: usize) {
        if depth > MAX_DEPTH {
            return out.extend_from_slice(schema.get().as_bytes());
        }
        let Some(members) = object(schema) else {
            // `true`, or nonsense; the builder wants an object.
            self.changed = true;
            return out.extend_from_slice(b"{}");
        };
        // Names by pattern are beyond the grammar, and without them it would allow the fixed ones only.
        let by_pattern = members.get("patternProperties").is_some();
        let mut node = ObjectWriter::new(out);
        for (name, value) in &members.0 {
            let keep = match name.as_ref() {
                "patternProperties" => Keep::Dropped,
                "additionalProperties" if by_pattern => Keep::Dropped,
                name => self.keyword(name, value),
            };
            self.changed |= matches!(keep, Keep::Dropped);
            match keep {
                Keep::Dropped => {}
                Keep::AsItIs => node.raw(name, value),
                Keep::Node => self.node(value, node.key(name), depth + 1),
                Keep::Nodes => {
                    let nodes = list(value).unwrap_or_default();
                    write_array(node.key(name), nodes, |out, one| {
                        self.node(one, out, depth + 1);
                    });
                }
                Keep::Named => {
                    let named = object(value).map_or(Vec::new(), |named| named.0);
                    let mut object = ObjectWriter::new(node.key(name));
                    for (name, one) in named {
                        self.node(one, object.key(&name), depth + 1);
                    }
                    object.end();
                }
            }
        }
        if by_pattern {
            node.member("additionalProperties", &true);
        }
        node.end();
    }

    fn keyword(&self, name: &str, value: &RawValue) -> Keep {
        let fine = match name {
            "properties" | "$defs" | "definitions" => {
                return match object(value) {
                    Some(_) => Keep::Named,
                    None => Keep::Dropped,
                };
            }
            "anyOf" | "oneOf" | "allOf" => {
                return match list(value) {
                    Some(nodes) if !nodes.is_empty() => Keep::Nodes,
                    _ => Keep::Dropped,
                };
            }
            "items" | "prefixItems" if list(value).is_some() => return Keep::Nodes,
            "items" | "prefixItems" => return Keep::Node,
            "additionalProperties" if object(value).is_some() => return Keep::Node,
            "additionalProperties" => parsed::<bool>(value).is_some(),
            "$ref" => parsed::<String>(value).is_some_and(|to| self.resolves(&to)),
            "pattern" => parsed::<String>(value).is_some_and(|p| is_plain_pattern(&p)),
            "format" => parsed::<String>(value).is_some(),
            "minLength" | "maxLength" => parsed::<u64>(value).is_some_and(|n| n <= MAX_LENGTH),
            "minItems" | "maxItems" => parsed::<u64>(value).is_some_and(|n| n <= MAX_ITEMS),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => is_bound(value),
            "enum" => list(value).is_some_and(|values| !values.is_empty()),
            "type" => is_type(value),
            _ => true,
        };
        if fine { Keep::AsItIs } else { Keep::Dropped }
    }

    /// As the builder looks for it: steps are names as they are written.
    fn resolves(&self, reference: &str) -> bool {
        let Some(path) = reference.strip_prefix("#/") else {
            return false;
        };
        let mut target = self.root;
        for step in path.split('/') {
            let found = match object(target) {
                Some(members) => members.get(step),
                None => {
                    list(target).and_then(|items| items.get(step.parse::<usize>().ok()?).copied())
                }
            };
            match found {
                Some(found) => target = found,
                None => return false,
            }
        }
        true
    }
}

fn is_bound(value: &RawValue) -> bool {
    // As many digits as an `int64_t` holds.
    parsed::<i64>(value).is_some() || parsed::<f64>(value).is_some_and(|n| n.abs() < 9e18)
}

fn is_type(value: &RawValue) -> bool {
    let known = |name: &Cow<'_, str>| TYPES.contains(&name.as_ref());
    match list(value) {
        Some(_) => parsed::<Vec<Cow<'_, str>>>(value)
            .is_some_and(|names| !names.is_empty() && names.iter().all(known)),
        None => parsed::<Cow<'_, str>>(value).is_some_and(|name| known(&name)),
    }
}

fn object(value: &RawValue) -> Option<Members<'_>> {
    serde_json::from_str(value.get()).ok()
}

fn list(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

fn parsed<'de, T: Deserialize<'de>>(value: &'de RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests;
