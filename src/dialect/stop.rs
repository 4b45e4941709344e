//! A client's stop sequences, bounded: every token is compared with all of them.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Most sequences of one request. OpenAI allows 4; agents send fewer than 10.
const MOST: usize = 128;

/// Longest sequence in bytes.
const LONGEST: usize = 1024;

/// A text, a list of texts, or null. Empty texts are left out: they would end every answer before it
/// began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopSequences(pub Vec<String>);

impl StopSequences {
    fn add<E: Error>(&mut self, text: String) -> Result<(), E> {
        if text.len() > LONGEST {
            return Err(E::custom(format_args!(
                "a sequence exceeds {LONGEST} bytes"
            )));
        }
        if self.0.len() == MOST {
            return Err(E::custom(format_args!("more than {MOST} sequences")));
        }
        if !text.is_empty() {
            self.0.push(text);
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for StopSequences {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = StopSequences;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_unit<E>(self) -> Result<StopSequences, E> {
                Ok(StopSequences::default())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<StopSequences, E> {
                let mut all = StopSequences::default();
                all.add(text.to_owned())?;
                Ok(all)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StopSequences, A::Error> {
                let mut all = StopSequences::default();
                while let Some(text) = seq.next_element()? {
                    all.add(text)?;
                }
                Ok(all)
            }
        }
        deserializer.deserialize_any(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let read: Result<StopSequences, _> = serde_json::from_str(text);
        read.map(|stop| stop.0).map_err(|error| error.to_string())
    }

    #[test]
    fn one_many_and_none() {
        assert_eq!(read("null").unwrap(), Vec::<String>::new());
        assert_eq!(read("\"a\"").unwrap(), ["a"]);
        assert_eq!(read(r#"["a","","b"]"#).unwrap(), ["a", "b"]);
        assert!(read("7").is_err());
        assert!(read("[7]").is_err());
    }

    #[test]
    fn number_and_length_are_bounded() {
        let many = |count| format!("[{}\"b\"]", "\"b\",".repeat(count - 1));
        assert_eq!(read(&many(MOST)).unwrap().len(), MOST);
        assert!(read(&many(MOST + 1)).unwrap_err().contains("more than"));
        assert!(read(&format!("\"{}\"", "b".repeat(LONGEST + 1))).is_err());
    }
}
