//! The KV cache of a backend: how its slots share it, and what is held of it.

use std::num::NonZeroU64;

use super::Backend;
use crate::config::KvLayout;
use crate::fleet::facts::Facts;
use crate::fleet::kv::{Cache, Footprint, Room};

impl Backend {
    /// How its slots hold their KV cache: as configured, else `Unified` once that was seen.
    pub fn kv(&self) -> KvLayout {
        match self.kv {
            KvLayout::Auto if self.live.cache.is_shared(self.live.comeback.loads()) => {
                KvLayout::Unified
            }
            configured => configured,
        }
    }

    /// Tokens of the one KV cache that its slots share; `None` where each has its own, or that is not known.
    pub fn kv_tokens(&self) -> Option<u64> {
        if self.kv() != KvLayout::Unified || self.slots() == Some(1) {
            return None;
        }
        let configured = self.kv_tokens.map(NonZeroU64::get);
        configured.or_else(|| self.live.facts.load().n_ctx.or_else(|| self.n_ctx()))
    }

    /// Tokens of it that running turns of this gateway hold.
    pub fn kv_held(&self) -> u64 {
        self.live.cache.held()
    }

    /// Whether turns reserve room where slots share a cache (`fleet.reserve`).
    pub fn reserves(&self) -> bool {
        self.reserves
    }

    /// Whether turns reserve room in its cache, or will once that has overflowed.
    pub(in crate::fleet) fn may_reserve(&self) -> bool {
        self.reserves && self.kv() != KvLayout::Split && self.slots() != Some(1)
    }

    /// Room in its cache, where turns reserve some.
    pub(in crate::fleet) fn room(&self) -> Option<Room> {
        let total = self.kv_tokens().filter(|_| self.reserves)?;
        Some(Room {
            held: self.kv_held(),
            total,
            drafts: self.runs().speculates(),
        })
    }

    /// Whether its cache has room, or none is reserved there.
    pub(in crate::fleet) fn fits(&self, footprint: Option<Footprint>) -> bool {
        self.room().is_none_or(|room| room.fits(footprint))
    }

    pub(in crate::fleet) fn cache(&self) -> &Cache {
        &self.live.cache
    }

    /// Share of its KV cache that held tokens when its slots were last read, from 0 to 1.
    pub fn kv_used(&self) -> Option<f64> {
        let facts = self.live.facts.load();
        let slots = match self.kv() {
            KvLayout::Unified => return self.unified_used(&facts),
            KvLayout::Auto | KvLayout::Split => u64::from(facts.total_slots?),
        };
        let capacity = facts.n_ctx? * slots;
        let used = facts.kv_tokens.unwrap_or(0) as f64;
        (capacity > 0 && facts.idle_slots.is_some()).then(|| (used / capacity as f64).min(1.0))
    }

    fn unified_used(&self, facts: &Facts) -> Option<f64> {
        let total = self.kv_tokens.map(NonZeroU64::get).or(facts.n_ctx)?;
        let used = facts.kv_tokens.unwrap_or(0) as f64;
        facts.idle_slots.map(|_| (used / total as f64).min(1.0))
    }
}
