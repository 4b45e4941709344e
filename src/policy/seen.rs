//! Calls that have counted, and decisions that were recorded.

use std::collections::{HashSet, VecDeque};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::Xxh3;

use crate::turn::ToolCall;

/// Calls of a session that are known by their hash, so that none counts twice. More calls than this
/// fit into no context window.
const MAX: usize = 8192;

/// See the module's documentation. As text: 16 hexadecimal digits each, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Seen {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether the call has not counted yet.
    pub(super) fn is_new(&mut self, call: &ToolCall) -> bool {
        let mut hash = Xxh3::new();
        for part in [&call.id, &call.name, &call.arguments] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        self.insert(hash.digest())
    }

    /// Whether `hash` is new, which it is not any more.
    pub(super) fn insert(&mut self, hash: u64) -> bool {
        if !self.known.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Serialize for Seen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.order.len() * 16);
        for hash in &self.order {
            text.push_str(&format!("{hash:016x}"));
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut seen = Self::default();
        for digits in text.as_bytes().chunks(16) {
            let digits = str::from_utf8(digits).map_err(D::Error::custom)?;
            seen.insert(u64::from_str_radix(digits, 16).map_err(D::Error::custom)?);
        }
        Ok(seen)
    }
}
