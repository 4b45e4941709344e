//! How a backend is: what checks, requests and operators say, and what follows for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Backend, Failure};
use crate::config::KvLayout;
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

    /// Tells that a request failed because of the backend (never call it for errors of the client).
    pub fn observe_failure(&self, failure: Failure) -> Option<Transition> {
        match failure {
            Failure::Connect => {
                self.live.doubted.notify_one();
                self.observe(Observation::Unreachable, "a request could not connect")
            }
            Failure::Loading => self.observe(Observation::Loading, "loading its model"),
            // One request's word is not enough: what takes a backend out for it is capped, and a check tells more.
            Failure::Broken => {
                self.live.doubted.notify_one();
                None
            }
        }
    }

    /// Completes when a request has failed since this was last asked: a check should see why.
    pub(in crate::fleet) async fn doubted(&self) {
        self.live.doubted.notified().await;
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
        match observation {
            Observation::Loading => self.live.comeback.gone(),
            Observation::Well => self.live.comeback.serves(),
            _ => {}
        }
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
