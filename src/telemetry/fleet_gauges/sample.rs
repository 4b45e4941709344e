//! What the gauges show.

use std::sync::Arc;

use crate::fleet::DraftCounts;
use crate::spec::Signature;

/// One backend as the gauges show it.
#[derive(Clone, Debug)]
pub struct BackendSample {
    /// The backend's name in the configuration.
    pub backend: Arc<str>,
    /// Its pool's.
    pub pool: Arc<str>,
    /// Its state now, one of `states`.
    pub state: &'static str,
    /// Every state a backend can be in; the gauge is 1 for `state` and 0 for the others.
    pub states: &'static [&'static str],
    /// Whether an operator has taken it out.
    pub is_draining: bool,
    /// Whether it gets no requests, or one on trial, because its requests failed.
    pub is_ejected: bool,
    /// Leases held on it now.
    pub inflight: u64,
    /// Its slots, where that is known.
    pub slots: Option<u32>,
    /// Those at work when they were last read.
    pub busy_slots: Option<u32>,
    /// Slots that others than this gateway hold.
    pub other_slots: usize,
    /// Share of its KV cache that was taken then, from 0 to 1.
    pub kv_used: Option<f64>,
    /// Context of a slot, in tokens.
    pub n_ctx: Option<u64>,
    /// The build it reports, or nothing.
    pub build: Arc<str>,
    /// The model it reports, or nothing.
    pub model: Arc<str>,
    /// Its configured speculative profile, or nothing.
    pub profile: Arc<str>,
    /// What it counts of its drafts, where that was read.
    pub drafts: Option<Arc<DraftCounts>>,
}

/// A finding of speculative decoding that is on.
#[derive(Clone, Debug)]
pub struct FoundSample {
    /// Of what.
    pub signature: Signature,
    /// Its pool.
    pub pool: Arc<str>,
    /// Its backend.
    pub backend: Arc<str>,
    /// What that runs.
    pub profile: Arc<str>,
    /// Its build.
    pub build: Arc<str>,
    /// What explains most of it, or nothing.
    pub explained_by: String,
}

/// What waits in one pool, of one class.
#[derive(Clone, Debug)]
pub struct QueueSample {
    /// The pool's name in the configuration.
    pub pool: Arc<str>,
    /// `interactive` or `batch`.
    pub class: &'static str,
    /// Requests waiting now.
    pub waiting: u64,
}

/// The fleet as the gauges show it.
#[derive(Clone, Debug, Default)]
pub struct FleetSample {
    /// Its backends.
    pub backends: Vec<BackendSample>,
    /// The queues of its pools.
    pub queues: Vec<QueueSample>,
    /// What is wrong with speculative decoding.
    pub found: Vec<FoundSample>,
}
