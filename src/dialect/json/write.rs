//! Writing.

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;

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

/// The same value in one line: events end at line breaks, and clients may write over several. Strings
/// and numbers keep their bytes.
pub fn one_line(value: &RawValue) -> Box<RawValue> {
    let text = value.get();
    if memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_none() {
        return value.to_owned();
    }
    let mut line = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string || !c.is_ascii_whitespace() {
            line.push(c);
        }
        in_string = match c {
            '"' => in_string == escaped,
            _ => in_string,
        };
        escaped = in_string && c == '\\' && !escaped;
    }
    RawValue::from_string(line).unwrap_or_else(|_| RawValue::NULL.to_owned())
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
    use super::super::Members;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_line_keeps_strings_and_numbers() {
        let text = "{\n \"a b\\\"\\\\\" : [ 1.50 ,\r\n\t\"\\n { \\\\\" ]\n}";
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        assert_eq!(
            one_line(raw).get(),
            "{\"a b\\\"\\\\\":[1.50,\"\\n { \\\\\"]}"
        );
        let raw: &RawValue = serde_json::from_str("[ 1 ]").unwrap();
        assert_eq!(one_line(raw).get(), "[ 1 ]");
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(serde_json::Value::from),
            "[ -~\n\r\"\\\\é]{0,12}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::btree_map("[ -~\n\"\\\\]{0,4}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn one_line_is_the_same_value_in_one_line(value in value()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap() + "\n";
            let raw: &RawValue = serde_json::from_str(&pretty).unwrap();
            let line = one_line(raw);
            prop_assert!(!line.get().contains(['\n', '\r']));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(line.get()).unwrap(), value);
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
