//! One session, and one turn in it.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use parking_lot::Mutex;

use super::key::{SessionId, Source};
use super::lineage::{Kind, LineageId, Transcript};
use super::monitor::{Cache, SessionMonitor};
use crate::fleet::BackendId;
use crate::guard::context::{self, ContextState};
use crate::guard::loops::{self, Settled};
use crate::policy::SessionPolicy;
use crate::turn::Usage;

/// One session.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) source: Source,
    pub(super) principal: Box<str>,
    pub(super) monitor: Mutex<SessionMonitor>,
    /// Where a policy is in force: what it knows of the session.
    pub(super) policy: Mutex<Option<Box<SessionPolicy>>>,
    /// Hash of the last calls whose results have come.
    pub(super) last_step: AtomicU32,
}

/// One turn's stay in its session.
pub struct Visit {
    pub(super) session: Arc<Session>,
    pub(super) transcript: Transcript,
    /// The conversation inside the session, as far as it was known when the turn began.
    pub lineage: LineageId,
    /// Where that conversation has its KV cache.
    pub preferred: Option<BackendId>,
    /// The conversation that left it there.
    pub cache: Option<Cache>,
    /// The session's main conversation and its backend, when this is a side call.
    pub main: Option<(LineageId, BackendId)>,
    /// Whether the same turn was answered before.
    pub is_retry: bool,
    /// Requests of the session in the last 60 s, this one included.
    pub rate: u32,
    /// What is known of the conversation's size, and what was left out of it.
    pub context: context::Remembered,
    /// What loop protection knows about it.
    pub loops: loops::Remembered,
}

impl Visit {
    /// The session's public name.
    pub fn session(&self) -> SessionId {
        self.session.id
    }

    /// Whether this is a subagent that says who it is.
    pub fn is_agent(&self) -> bool {
        self.transcript.kind() == Kind::Agent
    }

    /// Whether policy knows nothing of the session yet.
    pub fn is_new_to_policy(&self) -> bool {
        self.session.policy.lock().is_none()
    }

    /// What policy knew of the session in an earlier life of the gateway; what it has learned since stays.
    pub fn recalled(&self, known: SessionPolicy) {
        self.session
            .policy
            .lock()
            .get_or_insert_with(|| Box::new(known));
    }

    /// What policy knows of the session, to be read and changed.
    pub fn policy<R>(&self, with: impl FnOnce(&mut SessionPolicy) -> R) -> R {
        with(self.session.policy.lock().get_or_insert_default())
    }

    /// Hash of a conversation of the session, the same in the whole process.
    pub fn conversation(&self, lineage: LineageId) -> u64 {
        self.session.id.hash_with(lineage.base, lineage.sibling)
    }
}

/// How a turn was answered.
#[derive(Clone, Debug)]
pub struct Served {
    /// By whom; none when nothing was generated.
    pub backend: Option<BackendId>,
    /// What it took.
    pub usage: Usage,
    /// What to remember of its size, and of what was left out.
    pub context: ContextState,
    /// What loop protection remembers of it.
    pub loops: Option<Settled>,
}
