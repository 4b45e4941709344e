//! The slots of a backend, and how they hold their KV cache.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How many slots a backend has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotCount {
    /// `total_slots` of its `/props`.
    #[default]
    Auto,
    /// This many.
    Fixed(NonZeroU32),
}

impl Serialize for SlotCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Fixed(count) => count.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SlotCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = SlotCount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a number of slots, at least 1")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SlotCount, E> {
                match text {
                    "auto" => Ok(SlotCount::Auto),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<SlotCount, E> {
                u32::try_from(count)
                    .ok()
                    .and_then(NonZeroU32::new)
                    .map(SlotCount::Fixed)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(count), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for SlotCount {
    fn schema_name() -> Cow<'static, str> {
        "SlotCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1 }] })
    }
}

/// How the slots of a backend hold their KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KvLayout {
    /// Not known: unified from the first overflow of its cache until the server is started anew.
    #[default]
    Auto,
    /// `--kv-unified`: one cache, shared by all slots.
    Unified,
    /// Each slot has its own part.
    Split,
}
