//! Keywords of a schema, read leniently: what is not as it should be says nothing.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::pattern;
use super::shape::{Shape, Text};
use crate::dialect::json::Members;

/// Longest repetition asked of the grammar. llama.cpp refuses more than 2,000 (`llama-grammar.cpp`)
/// and is slow long before.
const MAX_REPETITION: u64 = 100;

/// Largest magnitude of an integer bound: as many digits as the grammar's `integer` has.
const MAX_INTEGER: f64 = 1e15;

/// What `node` says about a string, as far as the grammar can.
pub(super) fn text(node: &Members<'_>) -> Text {
    if let Some(pattern) = parsed::<String>(node.get("pattern"))
        && pattern::is_plain(&pattern)
    {
        return Text::Pattern(pattern);
    }
    match parsed::<String>(node.get("format")) {
        Some(format) if ["date", "time", "date-time", "uuid"].contains(&format.as_str()) => {
            Text::Format(format)
        }
        _ => {
            let (min, max) = counts(node, "minLength", "maxLength");
            Text::Length { min, max }
        }
    }
}

/// What `node` says about an integer.
pub(super) fn integer(node: &Members<'_>) -> Shape {
    let bound = |name| parsed::<f64>(node.get(name)).filter(|n| n.abs() <= MAX_INTEGER);
    let min = bound("minimum").map(f64::ceil);
    let min = min.or_else(|| bound("exclusiveMinimum").map(|n| n.floor() + 1.0));
    let max = bound("maximum").map(f64::floor);
    let max = max.or_else(|| bound("exclusiveMaximum").map(|n| n.ceil() - 1.0));
    if min.zip(max).is_some_and(|(min, max)| min > max) {
        return Shape::Integer {
            min: None,
            max: None,
        };
    }
    Shape::Integer {
        min: min.map(|n| n as i64),
        max: max.map(|n| n as i64),
    }
}

/// Two bounds of a length, those the grammar can hold.
pub(super) fn counts(node: &Members<'_>, min: &str, max: &str) -> (Option<u64>, Option<u64>) {
    let count = |name| parsed::<u64>(node.get(name)).filter(|n| *n <= MAX_REPETITION);
    match (count(min), count(max)) {
        (Some(min), Some(max)) if min > max => (None, None),
        counts => counts,
    }
}

/// The alternatives of `node`; the grammar has one rule for both kinds.
pub(super) fn alternatives<'a>(node: &Members<'a>) -> Option<Vec<&'a RawValue>> {
    list(node.get("oneOf")).or_else(|| list(node.get("anyOf")))
}

/// The members of an object.
pub(super) fn members(schema: &RawValue) -> Option<Members<'_>> {
    serde_json::from_str(schema.get()).ok()
}

/// The items of an array that has any.
pub(super) fn list(value: Option<&RawValue>) -> Option<Vec<&RawValue>> {
    let items: Vec<&RawValue> = serde_json::from_str(value?.get()).ok()?;
    (!items.is_empty()).then_some(items)
}

/// A value of the expected type.
pub(super) fn parsed<'de, T: Deserialize<'de>>(value: Option<&'de RawValue>) -> Option<T> {
    serde_json::from_str(value?.get()).ok()
}
