//! How a backend is: what checks, requests and operators say, and what follows for it.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Backend, Failure};
use crate::config::KvLayout;
use crate::fleet::breaker::{Breaker, Changed};
use crate::fleet::cancelled::Cancelled;
use crate::fleet::comeback::{Comeback, LEAST};
use crate::fleet::live::Live;
use crate::fleet::router::Preset;
use crate::fleet::state::{BackendState, Observation, Transition};
use crate::fleet::told::Voice;
use crate::fleet::treatment::HealthEvent;

impl Backend {
    /// Its state, draining apart.
    pub fn state(&self) -> BackendState {
        self.live.health.lock().state()
    }

    /// Why it is not ready, in words for people; `None` when it is.
    pub fn trouble(&self) -> Option<String> {
        self.live.trouble.load().as_deref().cloned()
    }

    /// Whether it gets no new requests because an operator said so.
    pub fn draining(&self) -> bool {
        self.live.draining.load(Ordering::Relaxed)
    }

    /// Gives it no new requests; those it has go on.
    pub fn drain(&self) {
        if !self.live.draining.swap(true, Ordering::Relaxed) {
            tracing::info!(backend = %self.id, "draining");
        }
    }

    /// Takes [`Self::drain`] back.
    pub fn undrain(&self) {
        if self.live.draining.swap(false, Ordering::Relaxed) {
            tracing::info!(backend = %self.id, "no longer draining");
            self.offer_place();
        }
    }

    /// Whether it can take a request now.
    pub fn available(&self) -> bool {
        let ready = self.live.ready.load(Ordering::Acquire);
        ready && !self.draining() && self.live.peer.load().is_some()
    }

    /// Whether it gets nothing because its requests failed, whatever its checks say.
    pub fn ejected(&self) -> bool {
        self.live.suspect.load(Ordering::Relaxed) && !self.breaker(|b, now| b.allows(now))
    }

    fn breaker<T>(&self, tell: impl FnOnce(&mut Breaker, Duration) -> T) -> T {
        let mut breaker = self.live.breaker.lock();
        let told = tell(&mut breaker, self.live.comeback.age());
        let suspect = !breaker.is_closed();
        self.live.suspect.store(suspect, Ordering::Relaxed);
        told
    }

    /// A request goes there; whether it is the one on trial.
    pub(in crate::fleet) fn breaker_enters(&self) -> bool {
        self.live.suspect.load(Ordering::Relaxed) && self.breaker(Breaker::enter)
    }

    /// The request on trial is over, with or without a verdict.
    pub(in crate::fleet) fn trial_ends(&self) {
        self.breaker(Breaker::undecided);
    }

    pub(in crate::fleet) fn breaker_succeeded(&self, on_trial: bool) {
        let changed = self.breaker(|breaker, now| breaker.succeeded(on_trial, now));
        if let Some(Changed::Back(after)) = changed {
            tracing::info!(backend = %self.id, after_ms = after.as_millis() as u64, "no longer ejected");
            let from = "ejected";
            self.events().add(HealthEvent::Recovered { from, after });
            self.offer_place();
        }
    }

    pub(in crate::fleet) fn breaker_failed(&self, on_trial: bool) {
        // Random keys are all the randomness that is needed.
        let random = RandomState::new().build_hasher().finish();
        let spread = random as f64 / u64::MAX as f64;
        let patience = self.patience;
        let changed = self.breaker(|breaker, now| breaker.failed(on_trial, now, patience, spread));
        if let Some(Changed::Ejected(length)) = changed {
            tracing::warn!(backend = %self.id, for_ms = length.as_millis() as u64, "ejected: its requests fail");
        }
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
        self.live.answered.fetch_add(1, Ordering::Relaxed);
        self.observe(Observation::Served, "");
    }

    /// Tells that a request to it was closed before its end: the slot should soon be idle. `step` is the time
    /// between the last two things it told.
    pub fn observe_cancel(&self, step: Option<Duration>) {
        self.live.cancelled.begin(step);
    }

    /// An answer that began at `since` was lost because the KV cache overflowed.
    pub(in crate::fleet) fn observe_overflow(&self, since: Instant) {
        let loads = self.live.comeback.loads();
        let was_known = self.kv() == KvLayout::Unified;
        let is_new = self.live.cache.overflowed(since, loads, Instant::now());
        self.events().add(HealthEvent::Overflowed { is_new });
        if is_new {
            let (held, total) = (self.kv_held(), self.kv_tokens());
            tracing::warn!(
                backend = %self.id,
                held,
                total,
                was_known,
                "kv_overflow: the cache that its slots share is full, and every answer under way is lost"
            );
        }
    }

    /// When the slots of requests that were just closed should be idle, if that is still to come.
    pub fn rests_at(&self) -> Option<Instant> {
        self.live.cancelled.rests_at()
    }

    /// Takes an observation in; `why` is told to people if it changes the state.
    pub(in crate::fleet) fn observe(
        &self,
        observation: Observation,
        why: &str,
    ) -> Option<Transition> {
        let mut health = self.live.health.lock();
        let transition = health.observe(observation);
        let ready = health.state() == BackendState::Ready;
        self.live.ready.store(ready, Ordering::Release);
        match health.state() {
            BackendState::Ready => self.live.trouble.store(None),
            _ if why.is_empty() => {}
            _ => self.live.trouble.store(Some(Arc::new(why.to_owned()))),
        }
        drop(health);
        if let Some(Transition { from, to }) = transition {
            if let Some((from, after)) = self.live.comeback.moved(from, to) {
                let from = from.as_str();
                self.events().add(HealthEvent::Recovered { from, after });
            }
            if to != BackendState::Ready {
                self.live.others.forget();
            }
            match to {
                BackendState::Down | BackendState::Wedged => {
                    tracing::warn!(backend = %self.id, %from, %to, why, "backend state");
                }
                _ => tracing::info!(backend = %self.id, %from, %to, why, "backend state"),
            }
            self.offer_place();
        }
        transition
    }

    /// Requests that were closed, until their slots are idle.
    pub(in crate::fleet) fn cancelled(&self) -> &Cancelled {
        &self.live.cancelled
    }

    /// When it was away.
    pub(in crate::fleet) fn comeback(&self) -> &Comeback {
        &self.live.comeback
    }

    /// Part of its share of the load it gets: little where a request would first have its model loaded, and while it
    /// comes back.
    pub(in crate::fleet) fn pace_of_share(&self, slow_start: Duration, now: Instant) -> f64 {
        match self.live.cold.load(Ordering::Relaxed) {
            true => LEAST,
            false => self.live.comeback.pace(slow_start, now),
        }
    }

    /// Its state as people are shown it: one that serves is busy while all its slots are taken, and loading while its
    /// router reads its model.
    pub fn shown_state(&self) -> BackendState {
        let facts = self.live.facts.load();
        let all_busy = facts.idle_slots == Some(0) && facts.total_slots > Some(0);
        match self.state() {
            BackendState::Ready if facts.preset == Some(Preset::Loading) => BackendState::Loading,
            BackendState::Ready if all_busy || !self.is_free() => BackendState::Busy,
            state => state,
        }
    }

    /// Requests that no slot has begun.
    pub(in crate::fleet) fn unbegun(&self) -> usize {
        self.live.unbegun.load(Ordering::Relaxed)
    }

    /// Requests that it has answered.
    pub(in crate::fleet) fn answered(&self) -> u64 {
        self.live.answered.load(Ordering::Relaxed)
    }

    /// Counts a request that was sent, until what is returned is dropped: its answer has begun.
    pub fn begins(&self) -> Unbegun {
        self.live.unbegun.fetch_add(1, Ordering::Relaxed);
        Unbegun(Arc::clone(&self.live))
    }

    /// Has requests closed that were silent since then.
    pub(in crate::fleet) fn close_if_silent_since(&self, then: Option<Instant>) {
        self.live.closed_if_silent_since.send_replace(then);
    }

    /// For a request to it: when it is to be closed.
    pub fn closing(&self) -> Closing {
        Closing(self.live.closed_if_silent_since.subscribe())
    }

    pub(in crate::fleet) fn events(&self) -> &Voice {
        &self.live.events
    }
}

/// A request that was sent and not begun.
#[derive(Debug)]
pub struct Unbegun(Arc<Live>);

impl Drop for Unbegun {
    fn drop(&mut self) {
        self.0.unbegun.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a request that it is to be closed because its backend is stuck.
#[derive(Debug)]
pub struct Closing(watch::Receiver<Option<Instant>>);

impl Closing {
    /// Completes when requests that were silent since `then` are to be closed.
    pub async fn of_silent_since(&mut self, then: Instant) {
        let told = self
            .0
            .wait_for(|since| since.is_some_and(|since| then <= since));
        if told.await.is_err() {
            // The backend is gone, and with it who would say so.
            std::future::pending().await
        }
    }
}
