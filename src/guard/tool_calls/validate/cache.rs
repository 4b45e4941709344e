//! Compiled sets of schemas, kept between the requests of a session.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::Validators;
use crate::turn::Tool;

/// Most sets kept: about one per client kind and project, not one per session.
const MAX_SETS: usize = 256;

/// Most memory all sets together are estimated to hold, in bytes.
const MAX_WEIGHT: usize = 256 << 20;

static SETS: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

/// Identifies a set of tools by names and schemas.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(tools: &[Tool]) -> Self {
        let mut hash = Sha256::new();
        for tool in tools {
            let schema = tool.parameters.as_ref().map_or("null", |raw| raw.get());
            for text in [tool.name.as_str(), schema] {
                hash.update(text.len().to_le_bytes());
                hash.update(text);
            }
        }
        Self(hash.finalize().into())
    }
}

/// The set of `key`; `compile` runs outside the lock, so that one slow set delays nobody else.
pub(super) fn get_or_insert(key: Key, compile: impl FnOnce() -> Validators) -> Arc<Validators> {
    if let Some(set) = SETS.lock().get(key) {
        return set;
    }
    let set = Arc::new(compile());
    SETS.lock().insert(key, set)
}

#[derive(Default)]
struct Cache {
    sets: HashMap<Key, Entry>,
    weight: usize,
    clock: u64,
}

struct Entry {
    set: Arc<Validators>,
    used: u64,
}

impl Cache {
    fn get(&mut self, key: Key) -> Option<Arc<Validators>> {
        self.clock += 1;
        let entry = self.sets.get_mut(&key)?;
        entry.used = self.clock;
        Some(Arc::clone(&entry.set))
    }

    fn insert(&mut self, key: Key, set: Arc<Validators>) -> Arc<Validators> {
        if let Some(first) = self.get(key) {
            return first;
        }
        while !self.sets.is_empty()
            && (self.sets.len() >= MAX_SETS || self.weight + set.weight > MAX_WEIGHT)
        {
            self.evict();
        }
        self.weight += set.weight;
        let entry = Entry {
            set: Arc::clone(&set),
            used: self.clock,
        };
        self.sets.insert(key, entry);
        set
    }

    /// Drop the set that was not used for longest.
    fn evict(&mut self) {
        let oldest = self.sets.iter().min_by_key(|(_, entry)| entry.used);
        if let Some(key) = oldest.map(|(key, _)| *key)
            && let Some(entry) = self.sets.remove(&key)
        {
            self.weight -= entry.set.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(weight: usize) -> Arc<Validators> {
        let mut set = Validators::compile(&[]);
        set.weight = weight;
        Arc::new(set)
    }

    fn key(number: usize) -> Key {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Key(bytes)
    }

    #[test]
    fn the_least_recently_used_set_goes_first() {
        let mut cache = Cache::default();
        for number in 0..MAX_SETS {
            cache.insert(key(number), set(1));
        }
        assert!(cache.get(key(0)).is_some());
        cache.insert(key(MAX_SETS), set(1));
        assert_eq!(cache.sets.len(), MAX_SETS);
        assert!(cache.get(key(0)).is_some());
        assert!(cache.get(key(1)).is_none());
        assert_eq!(cache.weight, MAX_SETS);
    }

    #[test]
    fn heavy_sets_make_room_for_each_other() {
        let mut cache = Cache::default();
        for number in 0..10 {
            cache.insert(key(number), set(MAX_WEIGHT / 2 - 1));
        }
        assert_eq!(cache.sets.len(), 2);
        assert!(cache.weight <= MAX_WEIGHT);
        assert!(cache.get(key(9)).is_some());
    }
}
