//! What can be handed to a parser that trusts its input.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Deepest nesting accepted from a client. Real agents stay under 20; llama-server converts schemas
/// and contents recursively, so depth is the cheapest way to hurt it.
pub const MAX_DEPTH: usize = 100;

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    }
}
