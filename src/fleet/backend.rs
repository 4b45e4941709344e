//! One backend: where it is, how it is, and how much it is doing.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use pingora_core::upstreams::peer::HttpPeer;
use serde::{Serialize, Serializer};

use super::FleetError;
use super::comeback::Comeback;
use super::facts::Facts;
use super::peer;
use super::rendezvous;
use super::resolve::Addresses;
use super::state::{BackendState, HealthState, Observation, Transition};
use super::target::Target;
use crate::config::{self, Config, KvLayout, Secret, SlotCount};

/// Identity of a backend: its name, unique in the fleet. (An address is not enough: presets of a
/// router share one.)
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(Arc<str>);

impl BackendId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for BackendId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for BackendId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// How a request failed on a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made: the backend is down at once, until the next good check.
    Connect,
    /// It answered 503 because it is loading its model.
    Loading,
    /// The connection broke, the answer was none, or it never came: counts like a failed check.
    Broken,
}

/// One llama-server, or one preset of a router.
#[derive(Debug)]
pub struct Backend {
    id: BackendId,
    key: u64,
    pool: Arc<str>,
    target: Target,
    model: Option<String>,
    profile: Option<String>,
    api_key: Option<Secret>,
    slots: SlotCount,
    kv: KvLayout,
    weight: NonZeroU32,
    timeouts: config::Timeouts,

    addresses: Mutex<Addresses>,
    peer: ArcSwapOption<HttpPeer>,
    health: Mutex<HealthState>,
    facts: ArcSwap<Facts>,
    trouble: ArcSwapOption<String>,
    checked: AtomicBool,
    draining: AtomicBool,
    inflight: AtomicUsize,
    comeback: Comeback,
}

impl Backend {
    pub(super) fn new(
        backend: &config::Backend,
        pool: Arc<str>,
        config: &Config,
    ) -> Result<Self, FleetError> {
        let target = Target::parse(&backend.url)?;
        let name = backend.name.clone();
        let health = &config.fleet.health;
        let id = BackendId(name.unwrap_or_else(|| target.default_name()).into());
        let this = Self {
            key: rendezvous::key(id.as_str()),
            id,
            pool,
            model: backend.model.clone(),
            profile: backend.profile.clone(),
            api_key: backend.api_key().cloned(),
            slots: backend.slots,
            kv: backend.kv,
            weight: backend.weight,
            timeouts: config.timeouts.clone(),
            addresses: Mutex::default(),
            peer: ArcSwapOption::empty(),
            health: Mutex::new(HealthState::new(
                health.unhealthy_after,
                health.healthy_after,
            )),
            facts: ArcSwap::default(),
            trouble: ArcSwapOption::empty(),
            checked: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            inflight: AtomicUsize::new(0),
            comeback: Comeback::new(),
            target,
        };
        if let Some(address) = this.target.address {
            this.found(vec![address]);
        }
        Ok(this)
    }

    /// Its name.
    pub fn id(&self) -> &BackendId {
        &self.id
    }

    /// Name of its pool.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// Value of the `Host` header of requests to it.
    pub fn host_header(&self) -> &str {
        &self.target.host_header
    }

    /// Path before every request path: empty, or `/prefix` without a slash at its end.
    pub fn base_path(&self) -> &str {
        &self.target.base_path
    }

    /// The model name to send instead of the client's.
    pub fn upstream_model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Speculative profile it was started with, as configured.
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// The key it asks for, to be sent as `Authorization: Bearer …`.
    pub fn api_key(&self) -> Option<&str> {
        self.api_key.as_ref().map(Secret::expose)
    }

    /// Share of the load relative to its pool.
    pub fn weight(&self) -> NonZeroU32 {
        self.weight
    }

    /// Number of slots: as configured, else as the server says, `None` while neither is known.
    pub fn slots(&self) -> Option<u32> {
        match self.slots {
            SlotCount::Fixed(count) => Some(count.get()),
            SlotCount::Auto => self.facts.load().total_slots,
        }
    }

    /// How its slots hold their KV cache, as configured.
    pub fn kv(&self) -> KvLayout {
        self.kv
    }

    /// Where to connect to; `None` while its hostname is not resolved. Connection, read and write
    /// timeouts are those of the configuration (reads: `first_event`), idle connections are kept for
    /// less than llama-server keeps them.
    pub fn peer(&self) -> Option<HttpPeer> {
        self.peer.load().as_deref().cloned()
    }

    /// Its state, draining apart.
    pub fn state(&self) -> BackendState {
        self.health.lock().state()
    }

    /// Why it is not ready, in words for people; `None` when it is.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.load().as_deref().cloned()
    }

    /// What it said about itself last.
    pub fn facts(&self) -> Arc<Facts> {
        self.facts.load_full()
    }

    /// Requests it is serving for this gateway.
    pub fn inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed)
    }

    /// Whether it gets no new requests because an operator said so.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Gives it no new requests; those it has go on.
    pub fn drain(&self) {
        if !self.draining.swap(true, Ordering::Relaxed) {
            tracing::info!(backend = %self.id, "draining");
        }
    }

    /// Takes [`Self::drain`] back.
    pub fn undrain(&self) {
        if self.draining.swap(false, Ordering::Relaxed) {
            tracing::info!(backend = %self.id, "no longer draining");
        }
    }

    /// Whether it can take a request now.
    pub fn available(&self) -> bool {
        self.state() == BackendState::Ready && !self.draining() && self.peer.load().is_some()
    }

    /// Tells that a request failed because of the backend (never call it for errors of the client).
    pub fn observe_failure(&self, failure: Failure) -> Option<Transition> {
        match failure {
            Failure::Connect => {
                self.observe(Observation::Unreachable, "a request could not connect")
            }
            Failure::Loading => self.observe(Observation::Loading, "loading its model"),
            Failure::Broken => self.observe(Observation::Failed, "a request broke off"),
        }
    }

    /// Tells that a request was answered.
    pub fn observe_success(&self) {
        self.observe(Observation::Served, "");
    }

    /// Takes an observation in; `why` is told to people if it changes the state.
    pub(super) fn observe(&self, observation: Observation, why: &str) -> Option<Transition> {
        let mut health = self.health.lock();
        let transition = health.observe(observation);
        match health.state() {
            BackendState::Ready => self.trouble.store(None),
            _ if why.is_empty() => {}
            _ => self.trouble.store(Some(Arc::new(why.to_owned()))),
        }
        drop(health);
        if let Some(Transition { from, to }) = transition {
            self.comeback.moved(from, to);
            match to {
                BackendState::Down => {
                    tracing::warn!(backend = %self.id, %from, %to, why, "backend state");
                }
                _ => tracing::info!(backend = %self.id, %from, %to, why, "backend state"),
            }
        }
        transition
    }

    /// Hash of its name.
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// When it was away.
    pub(super) fn comeback(&self) -> &Comeback {
        &self.comeback
    }

    pub(super) fn set_facts(&self, facts: Facts) {
        self.facts.store(Arc::new(facts));
    }

    /// Whether its first check has finished.
    pub(super) fn checked(&self) -> bool {
        self.checked.load(Ordering::Acquire)
    }

    pub(super) fn set_checked(&self) {
        self.checked.store(true, Ordering::Release);
    }

    /// The name to resolve, `None` when it is given by address.
    pub(super) fn hostname(&self) -> Option<(&str, u16)> {
        match self.target.address {
            Some(_) => None,
            None => Some((&self.target.host, self.target.port)),
        }
    }

    /// Its hostname stands for these addresses now; a connection in use stays where it is.
    pub(super) fn found(&self, addresses: Vec<SocketAddr>) {
        let mut known = self.addresses.lock();
        let before = known.current();
        known.update(addresses);
        self.point_at(&known, before);
    }

    /// The address in use does not answer: the next one of the hostname is tried.
    pub(super) fn try_next_address(&self) {
        let mut known = self.addresses.lock();
        let before = known.current();
        known.advance();
        self.point_at(&known, before);
    }

    fn point_at(&self, known: &Addresses, before: Option<SocketAddr>) {
        let Some(address) = known.current().filter(|now| Some(*now) != before) else {
            return;
        };
        if let Some(before) = before {
            tracing::info!(backend = %self.id, from = %before, to = %address, "backend address");
        }
        let peer = peer::build(&self.id, &self.target, address, &self.timeouts);
        self.peer.store(Some(Arc::new(peer)));
    }

    pub(super) fn enter(&self) {
        self.inflight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.inflight.fetch_sub(1, Ordering::Relaxed);
    }
}
