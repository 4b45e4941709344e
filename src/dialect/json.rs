//! JSON that keeps what it does not understand.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Deepest nesting accepted from a client. Real agents stay under 20; llama-server converts schemas
/// and contents recursively, so depth is the cheapest way to hurt it.
pub const MAX_DEPTH: usize = 100;

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

/// Whether `text` nests deeper than `limit`. Looks at brackets outside strings only, so it is right
/// for valid JSON and harmless for anything else.
pub fn deeper_than(text: &[u8], limit: usize) -> bool {
    let mut depth = 0usize;
    let mut position = 0;
    while let Some(&byte) = text.get(position) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => position += string_length(&text[position + 1..]) + 1,
            _ => {}
        }
        position += 1;
    }
    false
}

/// Bytes up to the closing quote of a string that starts at `text`.
fn string_length(text: &[u8]) -> usize {
    let mut position = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &text[position..]) {
        position += found;
        if text[position] == b'"' {
            return position;
        }
        position += 2;
        if position >= text.len() {
            break;
        }
    }
    text.len()
}

/// Whether `text` is a JSON object that llama-server's parser (nlohmann::json) reads as well: no
/// number beyond a double, no lone surrogate, and no nesting that would exhaust a recursive reader
/// (`serde_json` gives up at 128 levels).
pub fn is_sound_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<Sound>(text).is_ok()
}

/// A value that was read completely; `IgnoredAny` only looks for its end.
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Sound;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_str<E>(self, _: &str) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Sound, A::Error> {
                while seq.next_element::<Sound>()?.is_some() {}
                Ok(Sound)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sound, A::Error> {
                while map.next_entry::<Sound, Sound>()?.is_some() {}
                Ok(Sound)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// Append `value` as JSON.
///
/// Writing plain data into memory cannot fail; if a type's `Serialize` ever does, the output stays
/// valid JSON.
pub fn write<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    let before = out.len();
    if serde_json::to_writer(out.writer(), value).is_err() {
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

/// `value` as a raw JSON value.
pub fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Write an object member by member, raw values included.
pub struct ObjectWriter<'a> {
    out: &'a mut BytesMut,
    first: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Open the object.
    pub fn new(out: &'a mut BytesMut) -> Self {
        out.extend_from_slice(b"{");
        Self { out, first: true }
    }

    /// Write a key; the caller appends exactly one JSON value to the returned buffer.
    pub fn key(&mut self, name: &str) -> &mut BytesMut {
        if !std::mem::replace(&mut self.first, false) {
            self.out.extend_from_slice(b",");
        }
        write(self.out, name);
        self.out.extend_from_slice(b":");
        self.out
    }

    /// Write a member.
    pub fn member<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        write(self.key(name), value);
    }

    /// Write a member verbatim.
    pub fn raw(&mut self, name: &str, value: &RawValue) {
        self.key(name).extend_from_slice(value.get().as_bytes());
    }

    /// Close the object.
    pub fn end(self) {
        self.out.extend_from_slice(b"}");
    }
}

/// Append an array whose elements are written by `element`.
pub fn write_array<T>(
    out: &mut BytesMut,
    items: impl IntoIterator<Item = T>,
    mut element: impl FnMut(&mut BytesMut, T),
) {
    out.extend_from_slice(b"[");
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            out.extend_from_slice(b",");
        }
        element(out, item);
    }
    out.extend_from_slice(b"]");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn depth_ignores_brackets_in_strings() {
        assert!(!deeper_than(br#"["[[[\"[[", "\\", "["]"#, 1));
        assert!(deeper_than(b"[[1]]", 1));
        assert!(!deeper_than(b"[[1],[2]]", 2));
        assert!(deeper_than(&b"[".repeat(1_000_000), MAX_DEPTH));
    }

    #[test]
    fn a_sound_object_is_one_for_every_parser() {
        for sound in [
            "{}",
            " {\"a\":[1,-2,1.5e3,\"\\ud83e\\udd99\",null,true,{}],\"a\":1}",
        ] {
            assert!(is_sound_object(sound), "{sound}");
        }
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        for unsound in [
            "",
            "[]",
            "{",
            "{}x",
            "{\"a\":1e999}",
            "{\"a\":\"\\ud800\"}",
            "{\"\\udc00\":1}",
            "\u{feff}{}",
            "{}\0",
            &deep,
        ] {
            assert!(
                !is_sound_object(unsound),
                "{}",
                &unsound[..unsound.len().min(40)]
            );
        }
    }

    proptest! {
        #[test]
        fn depth_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            deeper_than(&bytes, 3);
        }

        #[test]
        fn an_object_written_member_by_member_parses(
            members in proptest::collection::vec((".{0,8}", ".{0,8}"), 0..6)
        ) {
            let mut out = BytesMut::new();
            let mut object = ObjectWriter::new(&mut out);
            for (key, value) in &members {
                object.member(key, value);
            }
            object.end();
            let parsed: Members<'_> = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(parsed.0.len(), members.len());
        }
    }
}
