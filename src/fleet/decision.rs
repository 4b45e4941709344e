//! Why a request went where it went, for people who ask.

use lru::LruCache;
use parking_lot::Mutex;
use serde::{Serialize, Serializer};

use super::backend::BackendId;
use super::candidates::Candidates;
use super::select::Reason;
use crate::config::Priority;
use crate::spec::Cause;
use crate::spec::rollout::Arm;

/// One selection.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// Who was chosen.
    pub chosen: BackendId,
    /// Why.
    pub reason: Reason,
    /// Who has the conversation's KV cache, as far as is known.
    pub sticky: Option<BackendId>,
    /// Whether the prompt's stable prefix has a home.
    pub has_prefix: bool,
    /// Who was to be left to the session's main conversation.
    pub spare: Option<BackendId>,
    /// Prompt tokens the chosen backend should find in its cache.
    pub predicted_cached_tokens: u64,
    /// A second one, while the first stayed silent.
    pub hedge: bool,
    /// What it waited for a free place, where it had to.
    pub waited: Option<Waited>,
    /// What became of its wish for a speculative profile, where it had one.
    pub spec: Option<Profiled>,
    /// Its side of a rollout, where its pool has one.
    pub rollout: Option<Armed>,
    /// Every backend of the pool, in the order of the configuration.
    pub candidates: Box<Candidates>,
}

/// A wish for a speculative profile.
#[derive(Clone, Debug, Serialize)]
pub struct Profiled {
    /// `off`, or the name of a profile.
    pub asked: Box<str>,
    /// Who asks.
    pub cause: Cause,
    /// Why it was not met; none: it was.
    pub unserved: Option<Unserved>,
    /// What leaving its cache was weighed at, where it had one and had to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighed: Option<Box<Weighed>>,
}

/// A profile on another backend, weighed against reading the prompt there anew.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Weighed {
    /// Who has the cache.
    pub home: BackendId,
    /// Prompt tokens that would have to be read anew.
    pub tokens: u64,
    /// How long that would take.
    pub seconds: f64,
    /// How long it may take, which is what the profile is worth (`spec.reprefill_max`); none: whatever it takes.
    pub at_most: Option<f64>,
    /// Which way it went: to the profile, or not.
    pub moved: bool,
}

/// A session's side of a rollout.
#[derive(Clone, Debug, Serialize)]
pub struct Armed {
    /// The rollout.
    pub rollout: Box<str>,
    /// The side.
    pub arm: Arm,
    /// Whether that side had room.
    pub served: bool,
}

/// Why a request runs with another profile than it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unserved {
    /// No backend that could take it runs the profile.
    NoBackend,
    /// Those that run it have no free slot.
    NoRoom,
    /// Reading its prompt anew would take longer than `spec.reprefill_max`.
    Reprefill,
}

impl Unserved {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoBackend => "no_backend",
            Self::NoRoom => "no_room",
            Self::Reprefill => "reprefill",
        }
    }
}

/// A wait for a free place.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Waited {
    /// How long, in seconds.
    pub seconds: f64,
    /// How many waited when it came.
    pub ahead: usize,
    /// The class it waited in at first.
    pub class: Priority,
    /// Longest time it would wait for the backend that has its cache, in seconds.
    pub for_cache: Option<f64>,
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What is known of one request.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Its id, as in `x-request-id`.
    pub request: Box<str>,
    /// Its session, where it has one.
    pub session: Option<Box<str>>,
    /// Its pool.
    pub pool: Box<str>,
    /// One selection for each attempt.
    pub decisions: Vec<Decision>,
    /// Prompt tokens, once the answer is complete.
    pub prompt_tokens: Option<u64>,
    /// Those of them that were found in the cache.
    pub cached_tokens: Option<u64>,
}

/// The decisions of the last requests.
#[derive(Debug)]
pub struct Explanations(Mutex<LruCache<Box<str>, Explained>>);

impl Explanations {
    /// For so many requests.
    pub(super) fn new(last: std::num::NonZeroUsize) -> Self {
        // Not allocated at once: the bound may be large.
        let mut cache = LruCache::unbounded();
        cache.resize(last);
        Self(Mutex::new(cache))
    }

    /// A backend was selected for `request`.
    pub fn decided(&self, request: &str, session: Option<String>, pool: &str, decision: Decision) {
        let mut all = self.0.lock();
        if let Some(known) = all.get_mut(request) {
            known.decisions.push(decision);
            return;
        }
        all.put(
            request.into(),
            Explained {
                request: request.into(),
                session: session.map(Into::into),
                pool: pool.into(),
                decisions: vec![decision],
                prompt_tokens: None,
                cached_tokens: None,
            },
        );
    }

    /// `request` was answered; what was predicted for its first attempt, where that is still known.
    pub fn answered(&self, request: &str, prompt: u64, cached: u64) -> Option<u64> {
        let mut all = self.0.lock();
        let known = all.peek_mut(request)?;
        known.prompt_tokens = Some(prompt);
        known.cached_tokens = Some(cached);
        let first = known.decisions.first()?;
        Some(first.predicted_cached_tokens)
    }

    /// What is known of `request`.
    pub fn of(&self, request: &str) -> Option<Explained> {
        self.0.lock().peek(request).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(chosen: &str) -> Decision {
        Decision {
            chosen: chosen.into(),
            reason: Reason::Affinity,
            sticky: None,
            has_prefix: true,
            spare: None,
            predicted_cached_tokens: 70,
            hedge: false,
            waited: None,
            spec: None,
            rollout: None,
            candidates: Box::default(),
        }
    }

    #[test]
    fn the_last_ones_are_kept_with_what_came_of_them() {
        let ring = Explanations::new(std::num::NonZeroUsize::new(2).unwrap());
        for n in 0..3 {
            ring.decided(&n.to_string(), None, "p", decision("a"));
        }
        assert!(ring.of("0").is_none());
        ring.decided("2", None, "p", decision("b"));
        assert_eq!(ring.answered("2", 100, 80), Some(70));
        assert_eq!(ring.answered("0", 100, 80), None);
        let told = ring.of("2").unwrap();
        assert_eq!((told.decisions.len(), told.cached_tokens), (2, Some(80)));
        let json = serde_json::to_value(told).unwrap();
        assert_eq!(json["decisions"][1]["chosen"], "b");
        assert_eq!(json["decisions"][0]["reason"], "affinity");
        assert_eq!(ring.of("1").unwrap().cached_tokens, None, "under way");
    }
}
