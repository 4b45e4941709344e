//! What a backend is at this moment, as opposed to how it is configured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::sync::{Notify, watch};

use super::admission::{Pace, Queues};
use super::backend::{BackendId, Others, Probed, Silent};
use super::breaker::Breaker;
use super::cancelled::Cancelled;
use super::comeback::Comeback;
use super::facts::Facts;
use super::kv;
use super::resolve::Addresses;
use super::state::{HealthState, Thresholds};
use super::told::Voice;
use super::warmth::Warmth;
use crate::spec::Trial;

/// The state of one backend. A reload makes a new [`Backend`](super::Backend) around the same state,
/// so that the leases of both count together.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) addresses: Mutex<Addresses>,
    pub(super) peer: ArcSwapOption<HttpPeer>,
    pub(super) health: Mutex<HealthState>,
    /// Whether that says ready: selections look here.
    pub(super) ready: AtomicBool,
    pub(super) facts: ArcSwap<Facts>,
    /// The profile it was given since, by a rollout.
    pub(super) profile: ArcSwapOption<Arc<str>>,
    pub(super) trouble: ArcSwapOption<String>,
    /// Whether the first check has finished.
    pub(super) checked: watch::Sender<bool>,
    pub(super) draining: AtomicBool,
    /// No longer configured.
    pub(super) leaving: AtomicBool,
    pub(super) inflight: AtomicUsize,
    /// Those of them that take no slot.
    pub(super) beside: AtomicUsize,
    pub(super) pace: Mutex<Pace>,
    pub(super) breaker: Mutex<Breaker>,
    /// Whether the breaker is anything but closed: selections look here first.
    pub(super) suspect: AtomicBool,
    /// A request has failed there since the last check.
    pub(super) doubted: Notify,
    /// Who waits for its places.
    pub(super) queues: Mutex<Queues>,
    pub(super) comeback: Comeback,
    pub(super) cancelled: Cancelled,
    /// Slots that are not this gateway's.
    pub(super) others: Others,
    /// Requests that no slot has begun.
    pub(super) unbegun: AtomicUsize,
    /// A request would first have its model loaded: selections look here.
    pub(super) cold: AtomicBool,
    /// Requests that were answered.
    pub(super) answered: AtomicU64,
    /// Requests that were silent since then are to be closed.
    pub(super) closed_if_silent: watch::Sender<Option<Silent>>,
    pub(super) events: Voice,
    /// Whether it does without drafts when a request asks for that; codes of `backend::speculation`.
    pub(super) honours: AtomicU8,
    /// What its answers have shown of that.
    pub(super) trial: Mutex<Trial>,
    /// What a probe has shown of that.
    pub(super) probed: Mutex<Option<Probed>>,
    /// The KV cache, where its slots share one.
    pub(super) cache: kv::Cache,
    /// What its pool remembered of its caches, once it is in none.
    pub(super) left_warm: Mutex<Warmth>,
}

impl Live {
    pub(super) fn new(id: &BackendId, thresholds: Thresholds) -> Self {
        Self {
            addresses: Mutex::default(),
            peer: ArcSwapOption::empty(),
            health: Mutex::new(HealthState::new(thresholds)),
            ready: AtomicBool::new(false),
            facts: ArcSwap::default(),
            profile: ArcSwapOption::empty(),
            trouble: ArcSwapOption::empty(),
            checked: watch::Sender::new(false),
            draining: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            inflight: AtomicUsize::new(0),
            beside: AtomicUsize::new(0),
            pace: Mutex::default(),
            breaker: Mutex::default(),
            suspect: AtomicBool::new(false),
            doubted: Notify::new(),
            queues: Mutex::default(),
            comeback: Comeback::new(),
            cancelled: Cancelled::new(Voice::of(id)),
            others: Others::default(),
            unbegun: AtomicUsize::new(0),
            cold: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            closed_if_silent: watch::Sender::new(None),
            events: Voice::of(id),
            honours: AtomicU8::new(0),
            trial: Mutex::default(),
            probed: Mutex::default(),
            cache: kv::Cache::default(),
            left_warm: Mutex::default(),
        }
    }
}
