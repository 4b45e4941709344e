//! Which request fields may pass from a client to a backend.

use std::borrow::Cow;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::dialect::json;
use crate::dialect::stop::StopSequences;
use crate::turn::{Extra, TurnError};

/// Fields that reach across sessions, change server state, or feed llama-server's own parser and
/// must never come from a client (b11434, `server-schema.cpp` and the copy-through of
/// `oaicompat_chat_params_parse`).
const REFUSED: &[&str] = &[
    "chat_format",
    "chat_parser",
    "generation_prompt",
    // Pinning a busy slot swaps another conversation's KV cache into the running answer.
    "id_slot",
    "lora",
    "message_delimiters",
    "n_cmpl",
    "preserved_tokens",
    "reasoning_control",
    "response_fields",
    "slot_id",
    "speculative",
    // The gateway's own business: it decides how the backend streams and pings.
    "return_progress",
    "return_tokens",
    "sse_ping_interval",
    "timings_per_token",
    // Adds the full prompt and the server's settings to the answer.
    "verbose",
];

/// Families of such fields.
const REFUSED_PREFIXES: &[&str] = &["__", "grammar_", "speculative."];

/// Whether a field that the gateway does not interpret may be forwarded. Everything may that is
/// not known to be dangerous: an unknown field is most likely a sampling option of a newer build.
pub fn is_forwardable(name: &str) -> bool {
    !REFUSED.contains(&name)
        && !REFUSED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Keep a field that the gateway does not interpret, if it may be forwarded at all.
///
/// # Errors
/// [`TurnError::BadRequest`] for a value that would harm the backend ([`check`]).
pub fn forward(extra: &mut Extra, name: &str, value: &RawValue) -> Result<(), TurnError> {
    if is_forwardable(name) {
        check(name, value)?;
        extra.push((name.to_owned(), value.to_owned()));
    }
    Ok(())
}

/// Refuse a value that would harm the backend and, by failover, the next one.
///
/// # Errors
/// [`TurnError::BadRequest`] naming the field.
pub fn check(name: &str, value: &RawValue) -> Result<(), TurnError> {
    let harm = match name {
        "grammar" => grammar_nests_too_deep(value).then_some("the grammar nests too deeply"),
        // llama-server compares every token with all of them.
        "stop" => {
            let stop: Result<StopSequences, _> = serde_json::from_str(value.get());
            return stop
                .map(|_| ())
                .map_err(|error| TurnError::bad_field(name, format!("`{name}`: {error}")));
        }
        // Embeddings take the parts of a message (`input: {"content": [...]}`).
        "content" | "input" | "prompt" => names_remote_media(value).then_some(REMOTE_MEDIA),
        _ => None,
    };
    match harm {
        Some(why) => Err(TurnError::bad_field(name, format!("`{name}`: {why}"))),
        None => Ok(()),
    }
}

/// llama.cpp's GBNF parser (`llama-grammar.cpp`) descends with every group; 20,000 exhaust its
/// stack, which ends the process. Groups inside literals, classes, tokens and comments are none.
fn grammar_nests_too_deep(value: &RawValue) -> bool {
    let Ok(grammar) = serde_json::from_str::<String>(value.get()) else {
        return false;
    };
    let mut bytes = grammar.bytes();
    let mut depth = 0usize;
    while let Some(byte) = bytes.next() {
        let end = match byte {
            b'(' => {
                depth += 1;
                if depth > json::MAX_DEPTH {
                    return true;
                }
                continue;
            }
            b')' => {
                depth = depth.saturating_sub(1);
                continue;
            }
            b'"' => b'"',
            b'[' => b']',
            b'<' => b'>',
            b'#' => b'\n',
            _ => continue,
        };
        let escapes = matches!(end, b'"' | b']');
        while let Some(inner) = bytes.next() {
            match inner {
                b'\\' if escapes => _ = bytes.next(),
                // A comment ends at either.
                b'\r' if end == b'\n' => break,
                inner if inner == end => break,
                _ => {}
            }
        }
    }
    false
}

/// Why media must be inline.
pub const REMOTE_MEDIA: &str =
    "media must be sent inline; the gateway does not let the backend fetch remote addresses";

/// Whether some content part in `value` makes llama-server open an address or a file
/// (`handle_media`, `server-common.cpp`): that would let any client call any host from there.
pub fn names_remote_media(value: &RawValue) -> bool {
    // Most prompts are plain strings.
    value.get().starts_with(['{', '['])
        && serde_json::from_str::<Media>(value.get()).is_ok_and(|media| media.found)
}

/// What was seen in a JSON value.
#[derive(Clone, Copy, Default)]
struct Media {
    /// It is the name of a kind of media part.
    is_kind: bool,
    /// It is a text that names another place.
    is_remote: bool,
    /// Something in it names another place.
    has_remote: bool,
    /// A media part in it names another place.
    found: bool,
}

impl<'de> Deserialize<'de> for Media {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Media;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Media, E> {
                Ok(Media::default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<Media, E> {
                Ok(Media::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Media, E> {
                Ok(Media::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Media, E> {
                Ok(Media::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Media, E> {
                Ok(Media::default())
            }

            fn visit_str<E>(self, text: &str) -> Result<Media, E> {
                const KINDS: &[&str] = &[
                    "image_url",
                    "input_audio",
                    "input_image",
                    "input_video",
                    "video_url",
                ];
                let is_remote = text.starts_with("http") || text.starts_with("file:");
                Ok(Media {
                    is_kind: KINDS.contains(&text),
                    is_remote,
                    has_remote: is_remote,
                    found: false,
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Media, A::Error> {
                let mut all = Media::default();
                while let Some(one) = seq.next_element::<Media>()? {
                    all.found |= one.found;
                }
                Ok(all)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Media, A::Error> {
                let mut all = Media::default();
                let mut is_part = false;
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    let one: Media = map.next_value()?;
                    is_part |= key == "type" && one.is_kind;
                    // Texts may talk about addresses; these keys are opened.
                    let opened = matches!(&*key, "url" | "data" | "image_url") && one.is_remote;
                    all.has_remote |= opened || (!one.is_remote && one.has_remote);
                    all.found |= one.found;
                }
                all.found |= is_part && all.has_remote;
                Ok(all)
            }
        }
        deserializer.deserialize_any(Look)
    }
}

#[cfg(test)]
mod tests;
