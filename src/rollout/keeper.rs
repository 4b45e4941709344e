//! The state of one rollout and where it is written down.
//!
//! Whatever changes where sessions go is written first and takes effect then: a process that is killed in between goes
//! on from the one or from the other. What came of turns is written every few seconds; a process that is killed has
//! forgotten the last ones, of both sides.

use std::time::Duration;

use tokio::time::Instant;

use super::OrderError;
use crate::config::Rollout;
use crate::fleet::Fleet;
use crate::spec::rollout::{Command, Event, Look, Phase, State};
use crate::store::{Store, StoreError, Swap};

/// Time between two writings of what came of turns.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub(super) struct Keeper {
    plan: Rollout,
    state: State,
    /// Of what is written down; none: nothing is.
    version: Option<u64>,
    /// Turns came since.
    is_dirty: bool,
    written: Instant,
}

/// Why a change was not written down.
enum NotWritten {
    /// Somebody else was faster; theirs holds now.
    Conflict,
    Store(StoreError),
}

impl Keeper {
    /// As it was written down.
    pub(super) async fn restore(
        store: &dyn Store,
        plan: &Rollout,
        now_ms: u64,
    ) -> Result<Self, StoreError> {
        let entry = store.get(&key(plan)).await?;
        let state = entry.as_ref().map(|entry| parse(&entry.value, plan));
        let mut keeper = Self {
            state: state.unwrap_or_else(|| State::new(plan)),
            plan: plan.clone(),
            version: entry.map(|entry| entry.version),
            is_dirty: false,
            written: Instant::now(),
        };
        // Its configuration may have changed while no process ran.
        keeper.is_dirty = !keeper.state.reconcile(plan, now_ms).is_empty();
        Ok(keeper)
    }

    pub(super) fn plan(&self) -> &Rollout {
        &self.plan
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Backends that were given another profile run it still.
    pub(super) fn give_profiles(&mut self, fleet: &Fleet) {
        for (name, profile) in self.state.profiles() {
            if let Some(backend) = fleet.backend(name) {
                backend.give_profile(profile);
            }
        }
    }

    /// The configuration was loaded anew.
    pub(super) async fn replan(
        &mut self,
        store: &dyn Store,
        plan: &Rollout,
        now_ms: u64,
    ) -> Vec<Event> {
        if self.plan == *plan {
            return Vec::new();
        }
        self.plan = plan.clone();
        let events = self.state.reconcile(plan, now_ms);
        if !events.is_empty() {
            // The configuration says so, whatever the store does.
            let _ = self.write(store, self.state.clone()).await;
        }
        events
    }

    /// An order of somebody.
    pub(super) async fn order(
        &mut self,
        store: &dyn Store,
        command: Command,
        now_ms: u64,
    ) -> Result<Vec<Event>, OrderError> {
        let mut next = self.state.clone();
        let events = next.order(&self.plan, command, now_ms)?;
        match self.write(store, next).await {
            Ok(()) => Ok(events),
            Err(NotWritten::Conflict) => Err(OrderError::Conflict),
            Err(NotWritten::Store(error)) => Err(error.into()),
        }
    }

    /// Takes in turns.
    pub(super) fn push(&mut self, turn: &super::Turn) {
        let super::Turn {
            assigned,
            session,
            seen,
        } = turn;
        let (routing, arm) = (&assigned.routing, assigned.arm);
        self.state.push(routing, arm, session, seen);
        self.is_dirty = true;
    }

    /// Looks, and writes down what follows.
    pub(super) async fn look(&mut self, store: &dyn Store, look: &Look) -> Vec<Event> {
        let mut next = self.state.clone();
        let events = next.look(&self.plan, look);
        if events.is_empty() && next.phase() == self.state.phase() {
            return Vec::new();
        }
        let name = self.plan.name.clone();
        match self.write(store, next.clone()).await {
            Ok(()) => events,
            Err(NotWritten::Conflict) => {
                tracing::warn!(rollout = name, "another process has changed the rollout");
                Vec::new()
            }
            Err(NotWritten::Store(error)) if next.phase().is_active() => {
                tracing::error!(rollout = name, %error, "a rollout cannot be written down, and stays where it is");
                Vec::new()
            }
            // Away from harm, written down or not. A success waits: it is found again.
            Err(NotWritten::Store(error)) if next.phase() != Phase::Promoted => {
                tracing::error!(rollout = name, %error, "a rollback cannot be written down, and holds until a restart");
                self.state = next;
                self.is_dirty = true;
                events
            }
            Err(NotWritten::Store(_)) => Vec::new(),
        }
    }

    /// The operator's command has done its work.
    pub(super) async fn profile_set(
        &mut self,
        store: &dyn Store,
        backend: &str,
        profile: &str,
        now_ms: u64,
    ) -> Option<Event> {
        let mut next = self.state.clone();
        let event = next.profile_set(backend, profile, now_ms);
        self.write(store, next).await.ok().map(|()| event)
    }

    /// Writes down what came of turns, now and then.
    pub(super) async fn write_turns(&mut self, store: &dyn Store) {
        if !self.is_dirty || self.written.elapsed() < WRITE_EVERY {
            return;
        }
        if let Err(NotWritten::Store(error)) = self.write(store, self.state.clone()).await {
            tracing::error!(rollout = self.plan.name, %error, "a rollout cannot be written down");
            // Not again at once.
            self.written = Instant::now();
        }
    }

    async fn write(&mut self, store: &dyn Store, next: State) -> Result<(), NotWritten> {
        let value = serde_json::to_vec(&next).unwrap_or_default();
        let swapped = store
            .swap(&key(&self.plan), self.version, Some(&value), None)
            .await;
        match swapped.map_err(NotWritten::Store)? {
            Swap::Done(version) => {
                self.version = Some(version);
                self.state = next;
                self.is_dirty = false;
                self.written = Instant::now();
                Ok(())
            }
            Swap::Conflict(theirs) => {
                self.version = theirs.as_ref().map(|entry| entry.version);
                if let Some(entry) = theirs {
                    self.state = parse(&entry.value, &self.plan);
                }
                Err(NotWritten::Conflict)
            }
        }
    }
}

fn key(plan: &Rollout) -> String {
    format!("rollout/{}", plan.name)
}

/// What cannot be read was written by another version: nothing is known then.
fn parse(value: &[u8], plan: &Rollout) -> State {
    serde_json::from_slice(value).unwrap_or_else(|error| {
        tracing::error!(rollout = plan.name, %error, "what was written down of the rollout cannot be read; it begins anew");
        State::new(plan)
    })
}

#[cfg(test)]
mod tests;
