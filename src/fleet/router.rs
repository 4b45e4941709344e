//! llama-server in router mode: several models behind one address, each a process of its own that is started when it
//! is asked for and ended when others need its place (b11434, `tools/server/server-models.cpp`).
//!
//! A question about a model loads it unless it says `autoload=false`, which all of ours do. What is known of a model
//! that is not loaded is what the router tells of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::backend::Backend;
use super::facts::Facts;
use super::probe::Probe;

/// How a model stands that a router serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Not in memory: a request loads it, where the router loads by itself.
    Unloaded,
    /// Being loaded, or downloaded.
    Loading,
    /// In memory.
    Loaded,
    /// Its process runs, without the model (`--sleep-idle-seconds`): a request wakes it.
    Sleeping,
    /// Not in memory, because loading it failed.
    Failed,
}

impl Preset {
    /// Its name for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Sleeping => "sleeping",
            Self::Failed => "failed",
        }
    }

    /// Whether a request to it waits until the model has been read from disk.
    pub(super) const fn is_cold(self) -> bool {
        matches!(self, Self::Unloaded | Self::Loading | Self::Failed)
    }
}

/// What a router says of the model of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// How it stands; `None`: the router knows no such model.
    pub(super) preset: Option<Preset>,
    /// Exit code of the process that failed to load it.
    pub(super) exit_code: Option<i64>,
    /// Whether a request loads it.
    pub(super) autoload: bool,
    /// Models in memory at a time; 0: no limit.
    pub(super) most: Option<u64>,
    build: Option<String>,
    slots: Option<u32>,
    n_ctx: Option<u64>,
}

#[derive(Deserialize)]
struct Props {
    role: Option<String>,
    #[serde(default)]
    models_autoload: bool,
    max_instances: Option<i64>,
    build_info: Option<String>,
}

#[derive(Deserialize)]
struct Listing {
    data: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    aliases: Vec<String>,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    value: String,
    args: Vec<String>,
    failed: bool,
    exit_code: Option<i64>,
}

/// Whether the server behind `backend` is a router; `None`: it cannot be said now.
pub(super) async fn is_router(
    probe: &dyn Probe,
    backend: &Backend,
    patience: Duration,
) -> Option<bool> {
    let props: Props = get(probe, backend, "/props", patience).await?;
    Some(props.role.as_deref() == Some("router"))
}

/// What the router behind `backend` says of its model; `None`: it is no router, or does not answer.
pub(super) async fn ask(probe: &dyn Probe, backend: &Backend, patience: Duration) -> Option<Told> {
    let wanted = backend.upstream_model()?;
    let props: Props = get(probe, backend, "/props", patience).await?;
    if props.role.as_deref() != Some("router") {
        return None;
    }
    let listing: Listing = get(probe, backend, "/v1/models", patience).await?;
    Some(told(&props, listing, wanted))
}

/// A model in the list of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// What requests call it.
    pub(super) name: String,
    /// Its `--spec-type`; `none` where it has none.
    pub(super) profile: Option<String>,
}

/// The models that the router behind `backend` lists; `None`: it is no router, or does not answer.
pub(super) async fn list(
    probe: &dyn Probe,
    backend: &Backend,
    patience: Duration,
) -> Option<Vec<Model>> {
    if !is_router(probe, backend, patience).await? {
        return None;
    }
    let listing: Listing = get(probe, backend, "/v1/models", patience).await?;
    let models = listing.data.into_iter();
    Some(models.map(Listed::into_model).collect())
}

impl Listed {
    fn into_model(self) -> Model {
        let args = self.status.unwrap_or_default().args;
        let at = args.iter().position(|arg| arg == "--spec-type");
        let spec = at.and_then(|at| args.get(at + 1)).cloned();
        Model {
            name: self.id,
            profile: (!args.is_empty()).then(|| spec.unwrap_or_else(|| "none".to_owned())),
        }
    }
}

fn told(props: &Props, listing: Listing, wanted: &str) -> Told {
    let names = |model: &Listed| model.id == wanted || model.aliases.iter().any(|a| a == wanted);
    let status = listing.data.into_iter().find(names);
    let status = status.map(|model| model.status.unwrap_or_default());
    let preset = status.as_ref().map(|status| match status.value.as_str() {
        "loaded" => Preset::Loaded,
        "sleeping" => Preset::Sleeping,
        "loading" | "downloading" | "downloaded" => Preset::Loading,
        _ if status.failed => Preset::Failed,
        _ => Preset::Unloaded,
    });
    let args = status.as_ref().map(|status| status.args.as_slice());
    let args = args.unwrap_or_default();
    let slots = argument(args, "--parallel").and_then(|n| u32::try_from(n).ok());
    let slots = slots.filter(|slots| *slots > 0);
    let shared = args.iter().any(|arg| arg == "--kv-unified");
    let split = slots.filter(|_| !shared);
    Told {
        preset,
        exit_code: status.as_ref().and_then(|status| status.exit_code),
        autoload: props.models_autoload,
        most: props.max_instances.map(|most| most.max(0).unsigned_abs()),
        build: props.build_info.clone(),
        n_ctx: argument(args, "--ctx-size").and_then(|n| n.checked_div(split?.into())),
        slots,
    }
}

/// The number that follows `flag`; one that is not positive leaves the choice to the server.
fn argument(args: &[String], flag: &str) -> Option<u64> {
    let at = args.iter().position(|arg| arg == flag)?;
    args.get(at + 1)?.parse().ok().filter(|n| *n > 0)
}

async fn get<T: for<'de> Deserialize<'de>>(
    probe: &dyn Probe,
    backend: &Backend,
    path: &str,
    patience: Duration,
) -> Option<T> {
    let reply = timeout(patience, probe.get(backend, path))
        .await
        .ok()?
        .ok()?;
    (reply.status == 200)
        .then(|| serde_json::from_slice(&reply.body).ok())
        .flatten()
}

impl Facts {
    /// These facts with what the router says of the model while it cannot speak for itself. What it said when it was
    /// loaded stays: it will be the same again.
    pub(super) fn with_told(&self, told: &Told) -> Self {
        let gone = told.preset.is_none_or(Preset::is_cold);
        Self {
            preset: told.preset,
            build: self.build.clone().or_else(|| told.build.clone()),
            total_slots: self.total_slots.or(told.slots),
            n_ctx: self.n_ctx.or(told.n_ctx),
            is_sleeping: told.preset == Some(Preset::Sleeping),
            idle_slots: self.idle_slots.filter(|_| !gone),
            kv_tokens: self.kv_tokens.filter(|_| !gone),
            ..self.clone()
        }
    }
}

/// A model that could not be loaded is tried again from time to time: each try may push another model out of memory.
#[derive(Debug, Default)]
pub(super) struct Retry {
    since: Option<Instant>,
}

impl Retry {
    /// It is in memory, or could be.
    pub(super) fn reset(&mut self) {
        self.since = None;
    }

    /// It has failed. Whether requests may try it until the next look.
    pub(super) fn is_due(&mut self, every: Duration) -> bool {
        let now = Instant::now();
        let due = self.since.is_some_and(|since| now - since >= every);
        if due || self.since.is_none() {
            self.since = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests;
