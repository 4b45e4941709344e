//! One backend: where it is, how it is, and how much it is doing.

mod condition;
mod speculation;

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora_core::protocols::l4::socket::SocketAddr as L4Addr;
use pingora_core::upstreams::peer::HttpPeer;
use serde::{Serialize, Serializer};

use crate::config::{self, Config, KvLayout, Secret, SlotCount};
use crate::fleet::FleetError;
use crate::fleet::admission::{Pace, Queue};
use crate::fleet::breaker::Patience;
use crate::fleet::facts::Facts;
use crate::fleet::kv::{Cache, Footprint, Room};
use crate::fleet::lease::Place;
use crate::fleet::live::Live;
use crate::fleet::peer;
use crate::fleet::rendezvous;
use crate::fleet::resolve::Addresses;
use crate::fleet::state::Thresholds;
use crate::fleet::target::{self, Target};
pub use condition::{Closing, Unbegun};
pub use speculation::Probed;

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

/// One llama-server, or one preset of a router, as it is configured; what happens to it meanwhile is
/// in [`Live`].
#[derive(Debug)]
pub struct Backend {
    id: BackendId,
    key: u64,
    pool: Arc<str>,
    target: Target,
    model: Option<String>,
    profile: Option<Arc<str>>,
    /// Names of configured profiles that draft in every answer.
    drafting: Vec<Box<str>>,
    log_file: Option<PathBuf>,
    api_key: Option<Secret>,
    slots: SlotCount,
    n_ctx: Option<NonZeroU64>,
    kv: KvLayout,
    kv_tokens: Option<NonZeroU64>,
    /// Turns go only where its cache has room for them.
    reserves: bool,
    weight: NonZeroU32,
    timeouts: config::Timeouts,
    thresholds: Thresholds,
    patience: Patience,
    live: Arc<Live>,
}

impl Backend {
    pub(in crate::fleet) fn new(
        backend: &config::Backend,
        pool: Arc<str>,
        config: &Config,
    ) -> Result<Self, FleetError> {
        let target = Target::parse(&backend.url)?;
        let name = backend.name.clone();
        let id = BackendId(name.unwrap_or_else(|| target.default_name.clone()).into());
        let thresholds = Thresholds::of(&config.fleet.health);
        let this = Self {
            key: rendezvous::key(id.as_str()),
            id,
            pool,
            model: backend.model.clone(),
            profile: backend.profile.as_deref().map(Into::into),
            drafting: config.spec.drafting(),
            log_file: backend.log_file.clone(),
            api_key: backend.api_key().cloned(),
            slots: backend.slots,
            n_ctx: backend.n_ctx,
            kv: backend.kv,
            kv_tokens: backend.kv_tokens,
            reserves: config.fleet.reserve,
            weight: backend.weight,
            timeouts: config.timeouts.clone(),
            patience: Patience::of(&config.fleet.health),
            live: Arc::new(Live::new(thresholds)),
            thresholds,
            target,
        };
        match &this.target.site {
            target::Site::Address(address) => this.found(vec![*address]),
            target::Site::Socket(_) => this.connect_to_site(None),
            target::Site::Named(..) => {}
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

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.target.is_loopback()
    }

    /// Where it is, for people and for commands: host, port and path, or `unix:/path`.
    pub fn address(&self) -> String {
        self.target.shown()
    }

    /// Path before every request path: empty, or `/prefix` without a slash at its end.
    pub fn base_path(&self) -> &str {
        &self.target.base_path
    }

    /// The model name to send instead of the client's.
    pub fn upstream_model(&self) -> Option<&str> {
        self.model.as_deref()
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
            SlotCount::Auto => self.live.facts.load().total_slots,
        }
    }

    /// Context window of one slot in tokens: as configured, else as the server says, `None` while
    /// neither is known.
    pub fn n_ctx(&self) -> Option<u64> {
        let configured = self.n_ctx.map(NonZeroU64::get);
        configured.or_else(|| self.live.facts.load().n_ctx)
    }

    /// Whether it can go on with the beginning of an answer without saying that again. Tried with b11434; what older
    /// builds do with `continue_final_message` is not known.
    pub fn continues_answers(&self) -> bool {
        self.live.facts.load().build_number() >= Some(11434)
    }

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

    /// Where to connect to; `None` while its hostname is not resolved. Connection, read and write
    /// timeouts are those of the configuration (reads: `first_event`), idle connections are kept for
    /// less than llama-server keeps them.
    pub fn peer(&self) -> Option<HttpPeer> {
        self.live.peer.load().as_deref().cloned()
    }

    /// What it said about itself last.
    pub fn facts(&self) -> Arc<Facts> {
        self.live.facts.load_full()
    }

    /// Requests it is serving for this gateway.
    pub fn inflight(&self) -> usize {
        self.live.inflight.load(Ordering::Relaxed)
    }

    /// Those of them that take a slot.
    pub(in crate::fleet) fn taken(&self) -> usize {
        let beside = self.live.beside.load(Ordering::Relaxed);
        self.inflight().saturating_sub(beside)
    }

    /// Whether a request would be worked on at once, as far as is known.
    pub(in crate::fleet) fn is_free(&self) -> bool {
        let slots = self.slots();
        slots.is_none_or(|slots| self.taken() < slots as usize)
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

    /// Hash of its name.
    pub(in crate::fleet) fn key(&self) -> u64 {
        self.key
    }

    pub(in crate::fleet) fn set_facts(&self, facts: Facts) {
        let before = self.live.facts.load();
        let more = facts.total_slots > before.total_slots;
        self.forget_trials(&before, &facts);
        drop(before);
        self.live.facts.store(Arc::new(facts));
        if more {
            self.offer_place();
        }
    }

    /// Whether its first check has finished.
    pub(in crate::fleet) fn checked(&self) -> bool {
        *self.live.checked.borrow()
    }

    pub(in crate::fleet) fn set_checked(&self) {
        self.live.checked.send_replace(true);
    }

    /// Completes when its first check has finished.
    pub(in crate::fleet) async fn first_check(&self) {
        // The sender lives as long as `self`.
        let _ = self.live.checked.subscribe().wait_for(|done| *done).await;
    }

    /// Whether `other` is the same server under the same name, however else it is configured.
    pub(in crate::fleet) fn is_same(&self, other: &Self) -> bool {
        (&self.id, &self.target, &self.model) == (&other.id, &other.target, &other.model)
    }

    /// This configuration with the state, the facts and the leases of `before`, the same server.
    pub(in crate::fleet) fn continuing(self, before: &Self) -> Self {
        let live = Arc::clone(&before.live);
        if self.profile != before.profile {
            // Somebody has written down what it runs.
            live.profile.store(None);
        }
        Self { live, ..self }
    }

    /// Whether both are handles of one running backend.
    pub(in crate::fleet) fn shares_state(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.live, &other.live)
    }

    /// Lets this configuration rule the state it shares with the handle it replaces.
    pub(in crate::fleet) fn take_over(&self) {
        self.live.health.lock().set_thresholds(self.thresholds);
        let known = self.live.addresses.lock();
        self.connect_to_site(known.current());
    }

    /// Whether it is no longer configured and only finishes what it has.
    pub fn leaving(&self) -> bool {
        self.live.leaving.load(Ordering::Relaxed)
    }

    pub(in crate::fleet) fn leave_fleet(&self) {
        self.live.leaving.store(true, Ordering::Relaxed);
        tracing::info!(backend = %self.id, inflight = self.inflight(), "removed from the fleet");
    }

    /// The name to resolve, `None` when it is given by address.
    pub(in crate::fleet) fn hostname(&self) -> Option<(&str, u16)> {
        match &self.target.site {
            target::Site::Named(host, port) => Some((host, *port)),
            target::Site::Address(_) | target::Site::Socket(_) => None,
        }
    }

    /// Its hostname stands for these addresses now; a connection in use stays where it is.
    pub(in crate::fleet) fn found(&self, addresses: Vec<SocketAddr>) {
        let mut known = self.live.addresses.lock();
        let before = known.current();
        known.update(addresses);
        self.point_at(&known, before);
    }

    /// The address in use does not answer: the next one of the hostname is tried.
    pub(in crate::fleet) fn try_next_address(&self) {
        let mut known = self.live.addresses.lock();
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
        self.connect_to_site(Some(address));
    }

    /// New connections go to its socket, or else to `address`, where one is known.
    fn connect_to_site(&self, address: Option<SocketAddr>) {
        let address = match &self.target.site {
            target::Site::Socket(socket) => Some(L4Addr::Unix(socket.clone())),
            target::Site::Address(_) | target::Site::Named(..) => address.map(L4Addr::Inet),
        };
        if let Some(address) = address {
            let peer = peer::build(&self.id, &self.target, address, &self.timeouts);
            self.live.peer.store(Some(Arc::new(peer)));
        }
    }

    pub(in crate::fleet) fn enter(&self, place: Place) {
        self.live.inflight.fetch_add(1, Ordering::Relaxed);
        if place == Place::Beside {
            self.live.beside.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request has left after so long.
    pub(in crate::fleet) fn leave(&self, place: Place, after: Duration) {
        match place {
            Place::Slot => self.live.pace.lock().served(after),
            Place::Beside => _ = self.live.beside.fetch_sub(1, Ordering::Relaxed),
        }
        self.live.inflight.fetch_sub(1, Ordering::Relaxed);
    }

    /// How fast it is.
    pub(in crate::fleet) fn pace(&self) -> Pace {
        *self.live.pace.lock()
    }

    /// It has read so many tokens of a prompt in so long.
    pub(in crate::fleet) fn has_read(&self, tokens: u64, time: Duration) {
        self.live.pace.lock().read(tokens, time);
    }

    /// Its places go to those who wait here.
    pub(in crate::fleet) fn serves_queue(&self, queue: &Arc<Queue>) {
        *self.live.queue.lock() = Some(Arc::clone(queue));
    }

    /// One of its places became free.
    pub(in crate::fleet) fn place_freed(&self) {
        let queue = self.live.queue.lock().clone();
        if let Some(queue) = queue {
            queue.freed();
        }
    }

    /// It may have a free place: whoever waits for one gets it.
    pub(in crate::fleet) fn offer_place(&self) {
        let queue = self.live.queue.lock().clone();
        if let Some(queue) = queue {
            queue.offered();
        }
    }
}
