//! What is known of a request that looks for a place.

use std::time::Duration;

use super::admission::Caller;
use super::backend::{Backend, BackendId};
use super::kv::Footprint;
use super::warmth::{Begun, Prefix, Warmth};
use crate::spec::rollout::Assigned;
use crate::spec::{Asked, Choice};

/// Of a request with its JSON, on average.
const BYTES_PER_TOKEN: u64 = 4;

/// What is known of a request that looks for a place.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Hash of its session and conversation.
    pub conversation: Option<u64>,
    /// The conversation whose KV cache it can use: its own, or one it branches off from.
    pub cache: Option<Known>,
    /// How much of that cache is of use: all of it, or less after the client went back.
    pub common: f64,
    /// Beginning of its prompt, where that is worth a place of its own. Need not be found out for a
    /// conversation that stays where it is.
    pub prefix: Option<Prefix>,
    /// The session's main conversation, beside which this request is a side call.
    pub spare: Option<Known>,
    /// For whom.
    pub caller: Caller,
    /// What it wants of speculative decoding, where it wants anything.
    pub spec: Option<SpecWish>,
    /// What it takes of a KV cache, where somebody reckons with that.
    pub footprint: Option<Footprint>,
    /// Its session's side of a rollout, where its pool has one.
    pub rollout: Option<Assigned>,
    /// It takes no slot: neither does it wait for one.
    pub beside: bool,
}

/// A conversation that a backend has served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Who.
    pub backend: BackendId,
    /// Hash of its session and conversation.
    pub conversation: u64,
}

/// What a request wants of speculative decoding.
#[derive(Clone, Debug)]
pub struct SpecWish {
    /// What, and who says so.
    pub choice: Choice,
    /// Longest time of reading its prompt anew that is worth it; none: whatever it takes.
    pub reprefill_max: Option<Duration>,
    /// Prompt tokens a backend reads in a second where that is not known.
    pub reprefill_rate: u32,
}

impl Wish {
    /// Whether it is to run without speculation.
    pub fn spec_off(&self) -> bool {
        let spec = self.spec.as_ref();
        spec.is_some_and(|wish| wish.choice.asked == Asked::Off)
    }

    /// Name of the profile that is in effect for it on `backend`.
    pub fn effective(&self, backend: &Backend) -> String {
        let runs = backend.runs();
        match &self.spec {
            Some(wish) => wish.choice.asked.effective(&runs, backend.honours()),
            None => runs.name(),
        }
        .to_owned()
    }

    /// Who has the KV cache.
    pub fn preferred(&self) -> Option<&BackendId> {
        self.cache.as_ref().map(|cache| &cache.backend)
    }

    /// Its turn, for those who remember what is where.
    pub(super) fn begun(&self) -> Option<Begun> {
        Some(Begun {
            conversation: self.conversation?,
            prefix: self.prefix,
            tokens: self.caller.bytes / BYTES_PER_TOKEN,
        })
    }

    /// Whether a backend with this warmth, which has served the conversation, may still have its cache.
    pub(super) fn may_be_held(&self, warmth: &Warmth) -> bool {
        let cache = self.cache.as_ref();
        cache.is_none_or(|cache| warmth.may_hold(cache.conversation))
    }

    /// Prompt tokens that the backend whose cache it can use need not read again; estimated where that is
    /// not known.
    pub(super) fn saved(&self, warmth: &Warmth) -> u64 {
        if !self.may_be_held(warmth) {
            return 0;
        }
        let cache = self.cache.as_ref();
        let known = cache.and_then(|cache| warmth.tokens(cache.conversation));
        let tokens = known.unwrap_or(self.caller.bytes / BYTES_PER_TOKEN);
        match cache {
            Some(_) => (tokens as f64 * self.common) as u64,
            None => tokens,
        }
    }

    /// Prompt tokens that a backend with this warmth should find in its cache.
    pub(super) fn predicted(&self, warmth: &Warmth) -> u64 {
        let cache = self.cache.as_ref();
        let own = cache.and_then(|cache| warmth.tokens(cache.conversation));
        let own = own.map(|tokens| (tokens as f64 * self.common) as u64);
        let shared = || self.prefix.and_then(|prefix| warmth.prefix_tokens(prefix));
        own.or_else(shared).unwrap_or(0)
    }
}
