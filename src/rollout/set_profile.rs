//! `hooks.set_profile`: a drained backend is restarted by the operator's command and comes back with another
//! profile, which is asserted before it gets requests again.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::around::backends;
use crate::config::{Rollout, RolloutHooks, Subject};
use crate::fleet::{Backend, Fleet, assert_speculation};
use crate::spec::NONE;
use crate::spec::rollout::State;

/// Time between two looks at a backend that drains or is to come back.
const EVERY: Duration = Duration::from_millis(500);

/// A backend on its way to another profile. Dropped before its command has begun, it serves as before; after that
/// it stays drained until somebody has looked at it.
pub(super) struct Setting {
    backend: Arc<Backend>,
    profile: String,
    slots: u32,
    progress: Arc<Progress>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Progress {
    /// The command was run: what the backend is now is not known.
    has_begun: AtomicBool,
    outcome: Mutex<Option<Result<(), String>>>,
}

impl Setting {
    /// Takes the next backend, if there is a command and one that can be spared; none of those that were `given` the
    /// profile before.
    pub(super) fn begin(
        fleet: &Fleet,
        plan: &Rollout,
        state: &State,
        given: &HashMap<String, String>,
    ) -> Option<Self> {
        let Subject::Profile(profile) = &plan.candidate else {
            return None;
        };
        if plan.hooks.set_profile.is_empty() {
            return None;
        }
        let routing = state.routing(plan);
        let mut all = backends(fleet, plan);
        all.retain(|b| b.available() && !b.at_site(|site| routing.is_candidate(site)));
        all.retain(|b| given.get(b.id().as_str()) != Some(profile));
        let is_control = |b: &Arc<Backend>| b.id().as_str() == state.control(plan);
        if state.needs_control(plan) {
            all.retain(|b| !is_control(b));
        }
        all.sort_by_key(is_control);
        Some(Self::of(Arc::clone(all.first()?), profile, plan))
    }

    /// Takes `backend`, which is to run `profile` for a crossover, unless it was `given` that before.
    pub(super) fn exchange(
        fleet: &Fleet,
        plan: &Rollout,
        backend: &str,
        profile: &str,
        given: &HashMap<String, String>,
    ) -> Option<Self> {
        let was_given = given.get(backend).is_some_and(|last| last == profile);
        if plan.hooks.set_profile.is_empty() || was_given {
            return None;
        }
        let all = backends(fleet, plan);
        let backend = all.into_iter().find(|b| b.id().as_str() == backend)?;
        backend
            .available()
            .then(|| Self::of(backend, profile, plan))
    }

    fn of(backend: Arc<Backend>, profile: &str, plan: &Rollout) -> Self {
        let slots = backend.slots().unwrap_or(1);
        let progress = Arc::<Progress>::default();
        let (at, profile) = (Arc::clone(&backend), profile.to_owned());
        let (hooks, told, asked) = (plan.hooks.clone(), Arc::clone(&progress), profile.clone());
        let task = tokio::spawn(async move {
            let outcome = set(&at, &asked, &hooks, &told.has_begun).await;
            *told.outcome.lock() = Some(outcome);
        });
        Self {
            backend,
            profile,
            slots,
            progress,
            task,
        }
    }

    pub(super) fn profile(&self) -> &str {
        &self.profile
    }

    /// Its slots while it serves nobody: they are the pool's all the same.
    pub(super) fn slots_away(&self) -> u32 {
        if self.backend.available() {
            0
        } else {
            self.slots
        }
    }

    /// The backend, once it runs the profile.
    pub(super) fn done(&self) -> Option<Arc<Backend>> {
        let done = matches!(*self.progress.outcome.lock(), Some(Ok(())));
        done.then(|| Arc::clone(&self.backend))
    }

    /// Why it does not.
    pub(super) fn failed(&self) -> Option<String> {
        match &*self.progress.outcome.lock() {
            Some(Err(error)) => Some(format!(
                "hooks.set_profile on {}: {error}; the backend stays drained",
                self.backend.id()
            )),
            _ => None,
        }
    }
}

/// A backend that was `given` a profile and does not run it: setting it again would go on for ever.
pub(super) fn lapsed(
    fleet: &Fleet,
    plan: &Rollout,
    given: &HashMap<String, String>,
) -> Option<String> {
    let all = backends(fleet, plan);
    let lapsed = all.iter().find(|b| {
        let given = given.get(b.id().as_str());
        given.is_some_and(|profile| !b.at_site(|site| site.runs_profile(profile)))
    })?;
    Some(format!(
        "hooks.set_profile on {}: the profile was set, and it runs {}",
        lapsed.id(),
        lapsed.runs().name()
    ))
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.task.abort();
        if !self.progress.has_begun.load(Ordering::Acquire) {
            self.backend.undrain();
        }
    }
}

async fn set(
    backend: &Backend,
    profile: &str,
    hooks: &RolloutHooks,
    has_begun: &AtomicBool,
) -> Result<(), String> {
    backend.drain();
    let until = Instant::now() + hooks.timeout;
    while backend.inflight() > 0 {
        if Instant::now() > until {
            return Err("its requests do not end".to_owned());
        }
        sleep(EVERY).await;
    }
    has_begun.store(true, Ordering::Release);
    run(backend, profile, hooks).await?;
    let until = Instant::now() + hooks.timeout;
    let speculates = profile != NONE;
    loop {
        let asked = timeout(hooks.timeout, assert_speculation(backend, speculates)).await;
        let error = match asked {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => "it does not answer".to_owned(),
        };
        if Instant::now() > until {
            return Err(error);
        }
        sleep(EVERY).await;
    }
}

/// Runs the operator's command. It gets nothing of the gateway's environment, where secrets are.
async fn run(backend: &Backend, profile: &str, hooks: &RolloutHooks) -> Result<(), String> {
    let Some((program, arguments)) = hooks.set_profile.split_first() else {
        return Err("there is no command".to_owned());
    };
    tracing::info!(backend = %backend.id(), profile, program, "ROLLOUT: setting the profile");
    let spawned = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("DROVER_BACKEND", backend.id().as_str())
        .env("DROVER_ADDRESS", backend.address())
        .env("DROVER_PROFILE", profile)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|error| format!("{program}: {error}"))?;
    match timeout(hooks.timeout, child.wait()).await {
        Err(_) => Err(format!("{program} was killed after {:?}", hooks.timeout)),
        Ok(Err(error)) => Err(format!("{program}: {error}")),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{program}: {status}")),
    }
}

#[cfg(test)]
mod tests;
