//! What the watchdog's verdicts lead to, and what is told of it.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::backend::{Backend, WhyClosed};
use super::facts::Slots;
use super::state::Observation;
use super::watchdog::{Finding, Heal, Look, Watchdog};
use crate::config::Watchdog as Orders;

/// What happened to the health of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthEvent {
    /// The watchdog found something.
    Found(Finding),
    /// Something was done about it.
    Healed(Heal),
    /// Its requests fail: it gets none for a while.
    Ejected,
    /// An answer was lost because the KV cache that its slots share is full.
    Overflowed {
        /// The first one of this overflow.
        is_new: bool,
    },
    /// Its slots have come to rest after a request was closed.
    Rested {
        /// So long after.
        after: Duration,
    },
    /// It serves again.
    Recovered {
        /// Why it did not: a state, or `ejected`.
        from: &'static str,
        /// Since when.
        after: Duration,
    },
}

/// Has the watchdog look at what `/slots` tells, and does what it says.
pub(super) fn treat(
    backend: &Arc<Backend>,
    slots: &Slots,
    look_at: &mut Watchdog,
    orders: &Orders,
) {
    let now = Instant::now();
    let look = Look {
        busy: slots.busy(),
        idle: slots.idle(),
        unbegun: backend.unbegun(),
        answered: backend.answered(),
        own: backend.inflight(),
        closed: backend.cancelled().pending(),
    };
    let verdict = look_at.look(&look, now, orders);
    if let Some(finding) = verdict.found {
        backend.events().add(HealthEvent::Found(finding));
        tracing::warn!(
            backend = %backend.id(),
            finding = finding.as_str(),
            busy = look.busy.len(),
            idle = look.idle,
            inflight = look.own,
            "watchdog: {}",
            finding.in_words()
        );
    }
    if let Some(heal) = verdict.heal {
        apply(backend, heal, look_at.finding(), orders);
    }
    // Whoever came after the first closing is stuck as well, once it has been silent for as long.
    if look_at.is_healing()
        && let Some(since) = now.checked_sub(orders.stuck_after)
    {
        backend.close_if_silent_since(since, WhyClosed::Stuck);
    }
    if let Some(after) = verdict.over {
        tracing::info!(backend = %backend.id(), after_ms = after.as_millis() as u64, "watchdog: it gets on again");
        backend.observe(Observation::Unwedged, "");
    }
}

fn apply(backend: &Arc<Backend>, heal: Heal, finding: Option<Finding>, orders: &Orders) {
    match heal {
        // Done at every look from now on.
        Heal::Close => {}
        Heal::Quarantine => {
            let why = finding.map_or("", Finding::in_words);
            backend.observe(Observation::Wedged, why);
        }
        // What no longer belongs to the fleet is not the gateway's to restart; its name may be another one's.
        Heal::Hook if orders.hook.is_empty() || backend.leaving() => return,
        Heal::Hook => {
            let (backend, orders) = (Arc::clone(backend), orders.clone());
            // Its checks go on meanwhile.
            tokio::spawn(async move { run_hook(&backend, finding, &orders).await });
        }
    }
    backend.events().add(HealthEvent::Healed(heal));
    tracing::warn!(backend = %backend.id(), step = heal.as_str(), "watchdog: healing");
}

/// Runs the operator's command. It gets nothing of the gateway's environment, where secrets are.
async fn run_hook(backend: &Backend, finding: Option<Finding>, orders: &Orders) {
    let Some((program, arguments)) = orders.hook.split_first() else {
        return;
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("DROVER_BACKEND", backend.id().as_str())
        .env("DROVER_ADDRESS", backend.address())
        .env("DROVER_FINDING", finding.map_or("", Finding::as_str))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let ended = match command.spawn() {
        Err(error) => Err(error.to_string()),
        Ok(mut child) => match timeout(orders.hook_timeout, child.wait()).await {
            Err(_) => Err(format!("killed after {:?}", orders.hook_timeout)),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(status.to_string()),
        },
    };
    match ended {
        Ok(()) => tracing::info!(backend = %backend.id(), program, "watchdog: the hook has run"),
        Err(error) => {
            tracing::error!(backend = %backend.id(), program, error, "watchdog: the hook failed");
        }
    }
}
