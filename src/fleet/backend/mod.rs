//! One backend: where it is, how it is, and how much it is doing.

mod cache;
mod closing;
mod condition;
mod ejection;
mod id;
mod others;
mod site;
mod speculation;

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::{self, Config, KvLayout, Secret, SlotCount};
use crate::fleet::FleetError;
use crate::fleet::admission::{Pace, Queue};
use crate::fleet::breaker::Patience;
use crate::fleet::facts::Facts;
use crate::fleet::lease::Place;
use crate::fleet::live::Live;
use crate::fleet::rendezvous;
use crate::fleet::router::Preset;
use crate::fleet::state::Thresholds;
use crate::fleet::target::{self, Target};
use crate::fleet::warmth::Warmth;
pub(in crate::fleet) use closing::Silent;
pub use closing::{Closing, WhyClosed};
pub use condition::Unbegun;
pub use id::BackendId;
pub(super) use others::Others;
pub use speculation::Probed;

/// How a request failed on a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made: the backend is down at once, until the next good check.
    Connect,
    /// It answered 503 because it is loading its model.
    Loading,
    /// The connection broke, the answer was none, or it never came. Several in a row eject it, and a check tells
    /// whether it is down.
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
    /// How long a look at its slots says anything: two of them must not be too far apart.
    looks_last: Duration,
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
        let id = BackendId::from(name.as_deref().unwrap_or(&target.default_name));
        let thresholds = Thresholds::of(&config.fleet.health);
        let this = Self {
            key: rendezvous::key(id.as_str()),
            live: Arc::new(Live::new(&id, thresholds)),
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
            looks_last: 2 * (config.fleet.health.interval + config.fleet.health.slots_every),
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

    /// What it said about itself last.
    pub fn facts(&self) -> Arc<Facts> {
        self.live.facts.load_full()
    }

    /// Requests it is serving for this gateway.
    pub fn inflight(&self) -> usize {
        self.live.inflight.load(Ordering::Relaxed)
    }

    /// Hash of its name.
    pub(in crate::fleet) fn key(&self) -> u64 {
        self.key
    }

    pub(in crate::fleet) fn set_facts(&self, facts: Facts) {
        let before = self.live.facts.load();
        let more = facts.total_slots > before.total_slots;
        self.forget_trials(&before, &facts);
        if facts.is_sleeping && !before.is_sleeping {
            self.live.comeback.fell_asleep();
        }
        drop(before);
        let cold = facts.preset.is_some_and(Preset::is_cold);
        self.live.cold.store(cold, Ordering::Relaxed);
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

    /// Lets this configuration rule the state it shares with the handle it replaces, which may have left.
    pub(in crate::fleet) fn take_over(&self) {
        if self.live.leaving.swap(false, Ordering::Relaxed) {
            tracing::info!(backend = %self.id, inflight = self.inflight(), "back in the fleet");
        }
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

    /// What its pool remembered of its caches, once it is in none.
    pub(in crate::fleet) fn left_warm(&self) -> &Mutex<Warmth> {
        &self.live.left_warm
    }

    pub(in crate::fleet) fn enter(&self, place: Place) {
        self.live.inflight.fetch_add(1, Ordering::Relaxed);
        if place == Place::Beside {
            self.live.beside.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request has left; `worked`: so long was it at work, unless it failed.
    pub(in crate::fleet) fn leave(&self, place: Place, worked: Option<Duration>) {
        match (place, worked) {
            (Place::Slot, Some(time)) => self.live.pace.lock().served(time),
            (Place::Slot, None) => {}
            (Place::Beside, _) => _ = self.live.beside.fetch_sub(1, Ordering::Relaxed),
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
        self.live.queues.lock().is_now(queue);
    }

    /// One of its places became free.
    pub(in crate::fleet) fn place_freed(&self) {
        let queues = self.live.queues.lock().all();
        queues.iter().for_each(|queue| queue.freed());
    }

    /// It may have a free place: whoever waits for one gets it.
    pub(in crate::fleet) fn offer_place(&self) {
        let queues = self.live.queues.lock().all();
        queues.iter().for_each(|queue| queue.offered());
    }
}
