//! What policy knows of a session, in the store: it outlives the process, and so do the leases of its calls.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use super::Shared;
use super::context::Context;
use crate::config::Config;
use crate::exchange::Leases;
use crate::policy::SessionPolicy;
use crate::policy::lease::Grant;
use crate::session::{SessionId, Sessions, Visit};
use crate::store::{Store, StoreError, Swap};

/// Times another gateway may be faster.
const MAX_TRIES: usize = 8;

fn key(session: SessionId) -> String {
    format!("policy/session/{session}")
}

/// On the first visit of a session: what was known of it before the process began.
pub(super) async fn recall(shared: &Shared, ctx: &Context) {
    let Some(visit) = ctx.visit.as_ref().filter(|visit| visit.is_new_to_policy()) else {
        return;
    };
    let entry = match shared.store.get(&key(visit.session())).await {
        Ok(Some(entry)) => entry,
        Ok(None) => return,
        Err(error) => {
            return tracing::warn!(%error, "what policy knew of a session cannot be read");
        }
    };
    match serde_json::from_slice::<SessionPolicy>(&entry.value) {
        Ok(known) => visit.recalled(known),
        Err(error) => tracing::warn!(%error, "what policy knew of a session cannot be read"),
    }
}

/// Free the leases of calls whose results the request has brought.
pub(super) async fn settle(shared: &Shared, ctx: &Context) {
    let Some(visit) = ctx.visit.as_ref().filter(|visit| !visit.is_new_to_policy()) else {
        return;
    };
    let answered = visit.policy(|known| std::mem::take(&mut known.answered));
    for (grant, went_well) in answered {
        free(&shared.leases, &grant, went_well).await;
    }
}

async fn free(leases: &Leases, grant: &Grant, went_well: bool) {
    if let Err(error) = leases.free(grant, went_well).await {
        tracing::warn!(%error, "a lease lasts to the end of its window");
    }
}

/// Keep what policy knows of the session, if that has changed.
pub(super) async fn keep(shared: &Shared, config: &Config, visit: &Visit) {
    let Some(value) = visit.policy(SessionPolicy::to_keep) else {
        return;
    };
    let key = key(visit.session());
    let kept = write(&*shared.store, &key, &value, config.limits.session_ttl);
    if let Err(error) = kept.await {
        visit.policy(SessionPolicy::not_kept);
        tracing::warn!(%error, "what policy knows of a session is lost with the process");
    }
}

/// The last one counts: all of them have seen the same transcript.
async fn write(
    store: &dyn Store,
    key: &str,
    value: &[u8],
    expires_in: Duration,
) -> Result<(), StoreError> {
    let mut expected = store.get(key).await?.map(|entry| entry.version);
    for _ in 0..MAX_TRIES {
        match store
            .swap(key, expected, Some(value), Some(expires_in))
            .await?
        {
            Swap::Done(_) => return Ok(()),
            Swap::Conflict(newer) => expected = newer.map(|entry| entry.version),
        }
    }
    Ok(())
}

/// Gives back what sessions have when they end.
pub struct Leavers {
    sessions: Arc<Sessions>,
    leases: Leases,
}

impl Leavers {
    /// Of `sessions`, to `leases`.
    pub fn new(sessions: Arc<Sessions>, leases: Leases) -> Self {
        Self { sessions, leases }
    }

    async fn run(&self) {
        loop {
            for grant in self.sessions.leases_of_ended().await {
                let ended = self.leases.ended(&grant.repository, &grant.session).await;
                if let Err(error) = ended {
                    tracing::warn!(%error, "the leases of a session last to the end of their windows");
                }
            }
        }
    }
}

#[async_trait]
impl BackgroundService for Leavers {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.run() => {}
            _ = shutdown.changed() => {}
        }
    }
}
