//! Arguments as a client may read them: what two readers may read differently is not read at all.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why nobody can tell what arguments say.
pub(super) type Fault = &'static str;

/// The arguments, and why they may be read as something else.
///
/// A key that comes twice is one thing to a client that takes the first and another to one that takes
/// the last; text that is no JSON object here may be one to a more lenient parser.
pub(super) fn read(text: &str) -> (Value, Option<Fault>) {
    if text.trim().is_empty() {
        return (Value::Object(Map::new()), None);
    }
    let twice = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Strict(&twice)
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    match read {
        Ok(value @ Value::Object(_)) if twice.get() => {
            (value, Some("a key comes twice in its arguments"))
        }
        Ok(value @ Value::Object(_)) => (value, None),
        Ok(Value::Null) => (Value::Object(Map::new()), None),
        _ => (Value::Null, Some("its arguments are no JSON object")),
    }
}

/// Reads a value, and notes when a key comes twice.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a Cell<bool>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(self)?;
            if all.insert(key, value).is_some() {
                self.0.set(true);
            }
        }
        Ok(all.into())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(r#"{"a": [1, 2.5, -3, null, true, {"b": "\u0041"}]}"#, false)]
    #[case("", false)]
    #[case("null", false)]
    #[case(r#"{"a": 1, "a": 1}"#, true)]
    #[case(r#"{"a": 1, "\u0061": 2}"#, true)]
    #[case(r#"{"x": [{"a": 1, "a": 2}]}"#, true)]
    #[case(r#"{"a": "\ud800"}"#, true)]
    #[case(r#"{"a": 1} {"a": 2}"#, true)]
    #[case(r#"["ls"]"#, true)]
    #[case(r#"{"a": 1,}"#, true)]
    fn what_may_be_read_otherwise_is_a_fault(#[case] text: &str, #[case] is: bool) {
        let (value, fault) = read(text);
        assert_eq!(fault.is_some(), is, "{value}");
        if let (false, Ok(plain)) = (is, serde_json::from_str::<Value>(text)) {
            assert!(value == plain || plain.is_null());
        }
    }
}
