//! One simulated server's shared state: slots, admission, live settings, counters.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use super::{
    cache::{Slots, Task},
    config::{SimConfig, Speculation},
    control::{Recorded, Requests},
    errors::ApiError,
    metrics::{Metrics, Passes},
    rng::Rng,
    router::Router,
    script::Scripts,
    step::ErrorStep,
    timings::Timings,
    tokens::Token,
};

/// States that stop everything at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    /// Slots stay busy without progress.
    pub(crate) wedged: bool,
    /// Nothing is answered but `/sim/...`, as after SIGSTOP.
    pub(crate) frozen: bool,
    /// Number of overflows of the shared KV cache; each fails every running request.
    pub(crate) faults: u64,
}

/// What may change while the server runs.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) build_info: String,
    pub(crate) prefill_tps: f64,
    pub(crate) decode_tps: f64,
    pub(crate) speculation: Speculation,
    /// Abandoned requests keep their slot until they would have ended.
    pub(crate) orphans: bool,
    pub(crate) loading: bool,
    /// The model is out of memory until the next request.
    pub(crate) sleeping: bool,
    pub(crate) ready_at: Instant,
    /// Errors for the next generation requests.
    pub(crate) failures: VecDeque<ErrorStep>,
}

/// A server.
#[derive(Debug)]
pub(crate) struct Sim {
    pub(crate) config: SimConfig,
    pub(crate) live: Mutex<Live>,
    pub(crate) gate: watch::Sender<Gate>,
    pub(crate) slots: Mutex<Slots>,
    pub(crate) metrics: Mutex<Metrics>,
    pub(crate) scripts: Mutex<Scripts>,
    pub(crate) requests: Mutex<Requests>,
    pub(crate) life: watch::Sender<Life>,
    /// In router mode: its models.
    pub(crate) router: Option<Router>,
    permits: Arc<Semaphore>,
    deferred: AtomicUsize,
    tasks: AtomicU64,
    started: Instant,
}

/// Whether the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    /// Killed: listener and connections are gone, until the restart if there is one.
    Dead {
        restart_after: Option<Duration>,
    },
    /// Ended for good by its owner.
    Stopped,
}

impl Sim {
    pub(crate) fn new(mut config: SimConfig) -> Self {
        config.total_slots = config.total_slots.clamp(1, 1024);
        config.n_ctx = config.n_ctx.max(8);
        config.n_batch = config.n_batch.max(1);
        let live = Live {
            build_info: config.build_info.clone(),
            prefill_tps: config.prefill_tps,
            decode_tps: config.decode_tps,
            speculation: config.speculation.clone(),
            orphans: false,
            loading: false,
            sleeping: false,
            ready_at: Instant::now() + config.load_time,
            failures: VecDeque::new(),
        };
        let slots = Self::fresh_slots(&config);
        Self {
            live: Mutex::new(live),
            gate: watch::Sender::new(Gate::default()),
            slots: Mutex::new(slots),
            metrics: Mutex::default(),
            scripts: Mutex::default(),
            requests: Mutex::default(),
            life: watch::Sender::new(Life::Alive),
            router: Router::new(&config),
            permits: Arc::new(Semaphore::new(config.total_slots)),
            deferred: AtomicUsize::new(0),
            tasks: AtomicU64::new(0),
            started: Instant::now(),
            config,
        }
    }

    fn fresh_slots(config: &SimConfig) -> Slots {
        let shared = config.kv_unified.then_some(config.n_ctx);
        Slots::new(config.total_slots, shared, config.cache_ram_tokens)
    }

    /// Forgets what a restarted process forgets, and loads again.
    pub(crate) fn restart(&self) {
        *self.slots.lock() = Self::fresh_slots(&self.config);
        *self.metrics.lock() = Metrics::default();
        self.live.lock().ready_at = Instant::now() + self.config.load_time;
        self.gate.send_replace(Gate::default());
        if let Some(router) = &self.router {
            router.restart();
        }
        self.life.send_if_modified(|life| {
            let dead = matches!(life, Life::Dead { .. });
            if dead {
                *life = Life::Alive;
            }
            dead
        });
    }

    pub(crate) fn is_loading(&self) -> bool {
        let live = self.live.lock();
        live.loading || Instant::now() < live.ready_at
    }

    /// The scripted failure for this generation request, if one is due.
    pub(crate) fn take_failure(&self) -> Option<ErrorStep> {
        self.live.lock().failures.pop_front()
    }

    pub(crate) fn record(&self, request: Recorded) {
        self.requests.lock().push(request);
    }

    /// Requests that wait for a slot.
    pub(crate) fn deferred(&self) -> usize {
        self.deferred.load(Ordering::Relaxed)
    }

    pub(crate) fn busy(&self) -> usize {
        self.slots.lock().busy()
    }

    /// The monotonic clock in microseconds, which `/metrics` calls the start time.
    pub(crate) fn uptime_us(&self) -> u128 {
        self.started.elapsed().as_micros()
    }

    /// A new task's number and its generator.
    pub(crate) fn next_task(&self) -> (u64, Rng) {
        let task = self.tasks.fetch_add(1, Ordering::Relaxed);
        (task, Rng::seeded(&[self.config.seed, task]))
    }

    /// Waits for `n` free slots, first come first served.
    pub(crate) async fn admit(&self, n: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let permits = Arc::clone(&self.permits);
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_many_owned(n) {
            return Ok(permit);
        }
        let _waiting = Waiting::new(&self.deferred);
        permits
            .acquire_many_owned(n)
            .await
            .map_err(|_| ApiError::server("server is stopping"))
    }

    /// One decode step's time without drafts, if speed is limited, given the load right now.
    pub(crate) fn step_time(&self) -> (Option<Duration>, f64) {
        let live = self.live.lock();
        let (tps, cost) = (live.decode_tps, live.speculation.verify_cost);
        drop(live);
        if tps <= 0.0 {
            return (None, cost);
        }
        let others = if self.config.contention > 0.0 {
            self.busy().saturating_sub(1)
        } else {
            0
        };
        let slower = 1.0 + self.config.contention * others as f64;
        (
            Some(Duration::from_secs_f64((slower / tps).min(3600.0))),
            cost,
        )
    }

    /// After more tokens are in the cache: fails everything if a shared cache is full.
    pub(crate) fn check_cache(&self) {
        if self.config.kv_unified && self.slots.lock().overflows() {
            self.gate.send_modify(|gate| gate.faults += 1);
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A slot in use; dropping it gives the slot back and counts what was generated.
#[derive(Debug)]
pub(crate) struct SlotLease {
    sim: Arc<Sim>,
    pub(crate) slot: usize,
    prompt: Arc<[Token]>,
    pub(crate) generated: Vec<Token>,
    pub(crate) timings: Timings,
    pub(crate) passes: Passes,
    _permit: OwnedSemaphorePermit,
}

impl SlotLease {
    /// Takes a slot for `prompt`. `None` cannot happen while permits equal slots.
    pub(crate) fn take(
        sim: &Arc<Sim>,
        permit: OwnedSemaphorePermit,
        prompt: &Arc<[Token]>,
        reuse: bool,
        mut task: Task,
    ) -> Option<Self> {
        let mut slots = sim.slots.lock();
        let assignment = slots.assign(prompt, reuse)?;
        task.cached = assignment.cached;
        slots.slots[assignment.slot].task = Some(task);
        drop(slots);
        Some(Self {
            sim: Arc::clone(sim),
            slot: assignment.slot,
            prompt: Arc::clone(prompt),
            generated: Vec::new(),
            timings: Timings {
                cache_n: assignment.cached,
                ..Timings::default()
            },
            passes: Passes::default(),
            _permit: permit,
        })
    }

    /// Tokens of the prompt.
    pub(crate) fn prompt_len(&self) -> usize {
        self.prompt.len()
    }

    /// Shows progress in `/slots`.
    pub(crate) fn show(&self) {
        let mut slots = self.sim.slots.lock();
        if let Some(task) = &mut slots.slots[self.slot].task {
            task.cached = self.timings.cache_n;
            task.processed = self.timings.prompt_n;
            task.decoded = self.timings.predicted_n;
        }
    }
}

impl Drop for SlotLease {
    fn drop(&mut self) {
        let evaluated = (self.timings.cache_n + self.timings.prompt_n).min(self.prompt.len());
        let mut tokens = self.prompt[..evaluated].to_vec();
        // The last generated token was never decoded, so it is not in the cache.
        let decoded = self.generated.len().saturating_sub(1);
        tokens.extend_from_slice(&self.generated[..decoded]);
        let mut slots = self.sim.slots.lock();
        let busy = slots.busy();
        if self.slot < slots.slots.len() {
            slots.release(self.slot, tokens);
        }
        drop(slots);
        self.sim
            .metrics
            .lock()
            .released(&self.timings, &self.passes, busy);
    }
}

/// Unix seconds.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
