//! Why a request went where it went, for people who ask.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Most selections that are remembered of a request: the first ones, and the last.
const MOST_DECISIONS: usize = 16;

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
    /// Selections before the last one that are not among them, since there were too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u32,
    /// Prompt tokens, once the answer is complete.
    pub prompt_tokens: Option<u64>,
    /// Those of them that were found in the cache.
    pub cached_tokens: Option<u64>,
}

/// As serde calls it.
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Explained {
    fn add(&mut self, decision: Decision) {
        if self.decisions.len() >= MOST_DECISIONS {
            self.decisions.pop();
            self.left_out += 1;
        }
        self.decisions.push(decision);
    }
}

/// A request, told apart from others to which their clients have given the same id.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Its id, as in `x-request-id`.
    pub id: &'a str,
    /// From [`Explanations::number`].
    pub number: u64,
}

/// The decisions of the last requests. Of those with one id, the one that began last is remembered.
#[derive(Debug)]
pub struct Explanations {
    requests: Mutex<LruCache<Box<str>, (u64, Explained)>>,
    begun: AtomicU64,
}

impl Explanations {
    /// For so many requests.
    pub(super) fn new(last: NonZeroUsize) -> Self {
        let this = Self {
            // Not allocated at once: the bound may be large.
            requests: Mutex::new(LruCache::unbounded()),
            begun: AtomicU64::new(0),
        };
        this.keep(last);
        this
    }

    /// From now on for so many.
    pub(super) fn keep(&self, last: NonZeroUsize) {
        self.requests.lock().resize(last);
    }

    /// The number of a request that begins.
    pub fn number(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed)
    }

    /// A backend was selected for `request`.
    pub fn decided(
        &self,
        request: Asking<'_>,
        session: Option<String>,
        pool: &str,
        decision: Decision,
    ) {
        let mut all = self.requests.lock();
        match all.get_mut(request.id) {
            Some((number, known)) if *number == request.number => return known.add(decision),
            Some((number, _)) if *number > request.number => return,
            _ => {}
        }
        let explained = Explained {
            request: request.id.into(),
            session: session.map(Into::into),
            pool: pool.into(),
            decisions: vec![decision],
            left_out: 0,
            prompt_tokens: None,
            cached_tokens: None,
        };
        all.put(request.id.into(), (request.number, explained));
    }

    /// `request` was answered: its prompt's tokens, and those of them that were in the cache.
    pub fn answered(&self, request: Asking<'_>, prompt: u64, cached: u64) {
        let mut all = self.requests.lock();
        let Some((number, known)) = all.peek_mut(request.id) else {
            return;
        };
        if *number == request.number {
            known.prompt_tokens = Some(prompt);
            known.cached_tokens = Some(cached);
        }
    }

    /// What is known of the request with this id.
    pub fn of(&self, id: &str) -> Option<Explained> {
        let all = self.requests.lock();
        all.peek(id).map(|(_, known)| known.clone())
    }
}

#[cfg(test)]
mod tests;
