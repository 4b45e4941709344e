//! How a backend that was away comes back: with empty caches perhaps, and slowly.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::state::BackendState;

/// Part of its share of the load that a backend gets at once.
pub(super) const LEAST: f64 = 0.1;

/// When a backend was away.
#[derive(Debug)]
pub(super) struct Comeback {
    loads: AtomicU64,
    /// Times it has put its model out of memory without ending its process.
    naps: AtomicU64,
    /// It was seen to load, or nobody listened there: what comes back is another process.
    is_gone: AtomicBool,
    born: Instant,
    /// Milliseconds from `born` until it was ready once more; 0: it has not been away.
    back_at: AtomicU64,
    /// What it went into when it was last ready, and when.
    away: Mutex<Option<(BackendState, Instant)>>,
}

impl Comeback {
    pub(super) fn new() -> Self {
        Self {
            loads: AtomicU64::new(0),
            naps: AtomicU64::new(0),
            is_gone: AtomicBool::new(false),
            born: Instant::now(),
            back_at: AtomicU64::new(0),
            away: Mutex::default(),
        }
    }

    /// Time since the gateway knows the backend.
    pub(super) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Its state has changed. When it is ready again: what it was instead at first, and how long it was away.
    pub(super) fn moved(
        &self,
        from: BackendState,
        to: BackendState,
    ) -> Option<(BackendState, Duration)> {
        let mut away = self.away.lock();
        if from == BackendState::Ready {
            *away = Some((to, Instant::now()));
        }
        if to != BackendState::Ready {
            return None;
        }
        // Away is who was ready before.
        let (into, since) = away.take()?;
        let at = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.back_at.store(at.max(1), Ordering::Relaxed);
        Some((into, since.elapsed()))
    }

    /// The process of its model has ended, and another one may be there.
    pub(super) fn unloaded(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
    }

    /// Its process is gone, or has just begun; what it had is lost once it serves again.
    pub(super) fn gone(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }

    /// It serves.
    pub(super) fn serves(&self) {
        if self.is_gone.load(Ordering::Relaxed) && self.is_gone.swap(false, Ordering::Relaxed) {
            self.unloaded();
        }
    }

    /// Its model is out of memory until the next request (`--sleep-idle-seconds`).
    pub(super) fn fell_asleep(&self) {
        self.naps.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was seen to be another process than before.
    pub(super) fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    /// How often its caches were lost, for whatever reason.
    pub(super) fn losses(&self) -> u64 {
        self.loads() + self.naps.load(Ordering::Relaxed)
    }

    /// Part of its share of the load it gets: from a tenth up to all of it within `slow_start` after it
    /// came back. At the gateway's own start nothing else is warmer.
    pub(super) fn pace(&self, slow_start: Duration, now: Instant) -> f64 {
        let back_at = self.back_at.load(Ordering::Relaxed);
        if back_at == 0 || slow_start.is_zero() {
            return 1.0;
        }
        let back_at = self.born + Duration::from_millis(back_at);
        let part = now.saturating_duration_since(back_at).as_secs_f64() / slow_start.as_secs_f64();
        part.clamp(LEAST, 1.0)
    }
}
