//! Requests as members that keep their order and bytes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{MAX_DEPTH, deeper_than};
use crate::turn::TurnError;

/// A request's body, which has to be one object.
///
/// # Errors
/// [`TurnError::BadRequest`] when it is none, or nests deeper than [`MAX_DEPTH`].
pub fn body(body: &[u8]) -> Result<Members<'_>, TurnError> {
    if deeper_than(body, MAX_DEPTH) {
        return Err(TurnError::bad_request("the request nests too deeply"));
    }
    serde_json::from_slice(body)
        .map_err(|error| TurnError::bad_request(format!("the request is no JSON object: {error}")))
}

/// A field's value; null stands for "not given" where `T` is an option.
///
/// # Errors
/// [`TurnError::BadRequest`] naming the field when it is no `T`.
pub fn field<'a, T: Deserialize<'a>>(name: &str, value: &'a RawValue) -> Result<T, TurnError> {
    serde_json::from_str(value.get())
        .map_err(|error| TurnError::bad_field(name, format!("`{name}`: {error}")))
}

/// A field's elements.
///
/// # Errors
/// [`TurnError::BadRequest`] naming the field when it is no array.
pub fn list<'a>(name: &str, value: &'a RawValue) -> Result<Vec<&'a RawValue>, TurnError> {
    field(name, value)
}

/// A field's number of things, at least 1; fractions are cut off.
///
/// # Errors
/// [`TurnError::BadRequest`] naming the field when it is no such number.
pub fn positive(name: &str, value: &RawValue) -> Result<u64, TurnError> {
    let number: f64 = field(name, value)?;
    if number < 1.0 {
        return Err(TurnError::bad_field(
            name,
            format!("`{name}` must be at least 1"),
        ));
    }
    Ok(number as u64)
}

/// A field that is not null.
pub fn given(value: &RawValue) -> Option<&RawValue> {
    (value.get() != "null").then_some(value)
}

/// An object's members in the order and bytes they came.
#[derive(Debug)]
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The value of `name`; the last one when a key is repeated, as llama-server reads it.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some(Key(key)) = map.next_key()? {
                    members.push((key, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A key, borrowed unless it contains escapes (plain `Cow` always copies).
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_order_bytes_and_the_last_of_a_repeated_key() {
        let text = r#"{"b": 1.50, "a\u0041": {"x" : [ ]}, "b": 2}"#;
        let members: Members<'_> = serde_json::from_str(text).unwrap();
        let keys: Vec<_> = members.0.iter().map(|(key, _)| key.as_ref()).collect();
        assert_eq!(keys, ["b", "aA", "b"]);
        assert_eq!(members.get("aA").unwrap().get(), r#"{"x" : [ ]}"#);
        assert_eq!(members.get("b").unwrap().get(), "2");
    }

    #[test]
    fn a_body_is_one_object_of_bounded_depth() {
        let deep = "[".repeat(MAX_DEPTH + 1);
        for (text, why) in [
            ("", "no JSON object"),
            ("[1]", "no JSON object"),
            (&deep, "deeply"),
        ] {
            let Err(TurnError::BadRequest { message, .. }) = body(text.as_bytes()) else {
                panic!("{text}")
            };
            assert!(message.contains(why), "{message}");
        }
        assert_eq!(body(b"{\"a\":1}").unwrap().0.len(), 1);
    }

    #[test]
    fn a_wrong_field_is_named() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let param = |error| match error {
            TurnError::BadRequest { param, .. } => param,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            param(field::<bool>("f", &raw("7")).unwrap_err()).as_deref(),
            Some("f")
        );
        assert_eq!(
            param(positive("n", &raw("0.5")).unwrap_err()).as_deref(),
            Some("n")
        );
        assert_eq!(positive("n", &raw("2.5")).unwrap(), 2);
        assert_eq!(list("l", &raw("[1,2]")).unwrap().len(), 2);
        assert!(given(&raw("null")).is_none() && given(&raw("0")).is_some());
    }
}
