//! Durations and sizes as people write them, for `#[serde(with = …)]`, and how the schema names them.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Durations: `500ms`, `30s`, `2h`, `1h 30m`.
pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer, de};

    /// Longer spans than this are surely mistakes, and would overflow the clock arithmetic of timers.
    pub(in crate::config) const MAX: Duration = Duration::from_secs(366 * 24 * 3600);

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(Visitor)
    }

    struct Visitor;

    impl Visitor {
        fn needs_unit<E: de::Error>(value: impl std::fmt::Display) -> E {
            E::custom(format!(
                "a duration needs a unit: {value}s or {value}ms instead of {value}"
            ))
        }
    }

    impl de::Visitor<'_> for Visitor {
        type Value = Duration;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a duration such as 500ms, 30s or 2h")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            if let Ok(number) = text.parse::<f64>() {
                return Err(Self::needs_unit(number));
            }
            let value = humantime::parse_duration(text).map_err(|e| {
                E::custom(format!(
                    "`{text}` is not a duration such as 500ms, 30s or 2h: {e}"
                ))
            })?;
            if value > MAX {
                return Err(E::custom(format!("`{text}` is longer than a year")));
            }
            Ok(value)
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Duration, E> {
            Err(Self::needs_unit(value))
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Duration, E> {
            Err(E::custom(format!("{value} is not a duration")))
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<Duration, E> {
            Err(Self::needs_unit(value))
        }
    }
}

/// The same, or `null`.
pub(super) mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::duration::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Given(#[serde(with = "super::duration")] Duration);
        let given = Option::<Given>::deserialize(deserializer)?;
        Ok(given.map(|Given(value)| value))
    }
}

/// Sizes: a number of bytes, or with a unit (`32MiB`, `64kB`).
pub(super) mod size {
    use bytesize::ByteSize;
    use serde::{Deserialize, Deserializer, Serializer, de};

    const UNITS: [(u64, &str); 4] = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];

    /// Writes the largest unit that loses nothing, so that what is shown can be read back.
    pub(in crate::config) fn serialize<S: Serializer>(
        value: &ByteSize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes = value.as_u64();
        match UNITS
            .iter()
            .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        {
            Some((unit, name)) => serializer.collect_str(&format_args!("{}{name}", bytes / unit)),
            None => serializer.serialize_u64(bytes),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ByteSize, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Bytes(u64),
            Text(String),
            Other(de::IgnoredAny),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Bytes(bytes) => Ok(ByteSize::b(bytes)),
            Raw::Text(text) => text.parse().map_err(|_| {
                de::Error::custom(format!(
                    "`{text}` is not a size such as 4096, 64KiB or 32MiB"
                ))
            }),
            Raw::Other(_) => Err(de::Error::custom(
                "expected a size such as 4096, 64KiB or 32MiB",
            )),
        }
    }
}

/// Schema of a duration.
pub(super) fn duration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "duration" })
}

/// Schema of a duration or `null`.
pub(super) fn optional_duration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "format": "duration" })
}

/// Schema of a size.
pub(super) fn size_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "string"], "format": "size" })
}

/// Schema of a list of networks in CIDR notation.
pub(super) fn networks_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "string", "format": "CIDR" } })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytesize::ByteSize;
    use rstest::rstest;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct D(#[serde(with = "super::duration")] Duration);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct S(#[serde(with = "super::size")] ByteSize);

    #[rstest]
    #[case("\"30s\"", Duration::from_secs(30), "\"30s\"")]
    #[case("\"2h\"", Duration::from_secs(7200), "\"2h\"")]
    #[case("\"1h 30m\"", Duration::from_secs(5400), "\"1h 30m\"")]
    #[case("\"1500ms\"", Duration::from_millis(1500), "\"1s 500ms\"")]
    #[case("\"0s\"", Duration::ZERO, "\"0s\"")]
    fn durations(#[case] json: &str, #[case] value: Duration, #[case] shown: &str) {
        let parsed: D = serde_json::from_str(json).unwrap();
        assert_eq!(parsed, D(value));
        assert_eq!(serde_json::to_string(&parsed).unwrap(), shown);
        assert_eq!(serde_json::from_str::<D>(shown).unwrap(), parsed);
    }

    #[rstest]
    #[case("30", "30s")]
    #[case("\"30\"", "30s")]
    #[case("1.5", "1.5s")]
    #[case("-1", "not a duration")]
    #[case("\"soon\"", "such as")]
    #[case("\"100000y\"", "longer than a year")]
    fn bad_durations(#[case] json: &str, #[case] hint: &str) {
        let error = serde_json::from_str::<D>(json).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }

    #[rstest]
    #[case("4096", 4096, "\"4KiB\"")]
    #[case("\"32MiB\"", 32 << 20, "\"32MiB\"")]
    #[case("\"64kB\"", 64_000, "64000")]
    #[case("\"1.5 GiB\"", 3 << 29, "\"1536MiB\"")]
    #[case("0", 0, "0")]
    fn sizes(#[case] json: &str, #[case] bytes: u64, #[case] shown: &str) {
        let parsed: S = serde_json::from_str(json).unwrap();
        assert_eq!(parsed, S(ByteSize::b(bytes)));
        assert_eq!(serde_json::to_string(&parsed).unwrap(), shown);
        assert_eq!(serde_json::from_str::<S>(shown).unwrap(), parsed);
    }

    #[rstest]
    #[case("-1")]
    #[case("\"big\"")]
    #[case("[1]")]
    fn bad_sizes(#[case] json: &str) {
        let error = serde_json::from_str::<S>(json).unwrap_err().to_string();
        assert!(error.contains("size such as"), "{error}");
    }
}
