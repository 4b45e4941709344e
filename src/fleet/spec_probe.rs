//! Trying out whether a backend drafts, and whether it does without when a request asks for that: the same short prompt
//! twice, once with `speculative.n_max: 0` (`spec.probe`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::backend::{Backend, Probed};
use super::probe::Probe;
use super::state::BackendState;

/// Longest wait for an answer: a large model on a slow machine takes a second for a few tokens.
const PATIENCE: Duration = Duration::from_secs(120);

/// Tokens of an answer.
const TOKENS: u64 = 64;

/// Text without surprises, so that n-gram types have something to draft.
const PROMPT: &str = "Write the word row sixty-four times, and nothing else: row row row row row row row row row \
    row row row row row row row row row row row row row row row";

/// Whether it is time: it speculates, nobody has tried this build yet, and nobody else uses it.
pub(super) fn is_due(backend: &Backend) -> bool {
    let facts = backend.facts();
    let is_idle = facts.idle_slots.is_some() && facts.idle_slots == facts.total_slots;
    facts.speculative == Some(true)
        && backend.probed().is_none()
        && backend.state() == BackendState::Ready
        && !facts.is_sleeping
        && is_idle
        && backend.inflight() == 0
}

/// Tries; health checks go on meanwhile. A backend that cannot be asked is not asked again until its build changes.
pub(super) fn begin(backend: &Arc<Backend>, probe: &Arc<dyn Probe>) {
    let (backend, probe) = (Arc::clone(backend), Arc::clone(probe));
    let nothing = Probed {
        generated: 0,
        drafted: 0,
        drafted_though_off: 0,
    };
    backend.set_probed(nothing);
    tokio::spawn(async move {
        let build = backend.facts().build.clone();
        match both(&*probe, &backend).await {
            Ok(found) if backend.facts().build == build => {
                tracing::info!(backend = %backend.id(), ?found, "speculation was tried");
                backend.set_probed(found);
            }
            Ok(_) => {}
            Err(why) => tracing::warn!(backend = %backend.id(), why, "speculation cannot be tried"),
        }
    });
}

async fn both(probe: &dyn Probe, backend: &Backend) -> Result<Probed, String> {
    let (generated, drafted) = once(probe, backend, false).await?;
    let (_, drafted_though_off) = once(probe, backend, true).await?;
    Ok(Probed {
        generated,
        drafted,
        drafted_though_off,
    })
}

/// Generated and drafted tokens of one answer.
async fn once(probe: &dyn Probe, backend: &Backend, off: bool) -> Result<(u64, u64), String> {
    let mut body = json!({
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": true,
    });
    if off {
        body["speculative.n_max"] = json!(0);
    }
    let asked = tokens(probe, backend, "/v1/chat/completions", body);
    let (generated, drafted) = timeout(PATIENCE, asked)
        .await
        .map_err(|_| format!("no answer within {PATIENCE:?}"))??;
    Ok((generated.ok_or("its answer has no timings")?, drafted))
}

/// Tokens that `backend` generates, where it tells, and drafts for `body`, which is given the backend's model.
///
/// # Errors
/// In words: why there is no answer.
pub(super) async fn tokens(
    probe: &dyn Probe,
    backend: &Backend,
    path: &str,
    mut body: Value,
) -> Result<(Option<u64>, u64), String> {
    if let Some(model) = backend.upstream_model() {
        body["model"] = json!(model);
    }
    let body = Bytes::from(body.to_string());
    let reply = probe.post(backend, path, body).await?;
    if reply.status != 200 {
        return Err(format!("status {}", reply.status));
    }
    let answer: Value = serde_json::from_slice(&reply.body).map_err(|error| error.to_string())?;
    let told = |count: &str| answer["timings"][count].as_u64();
    Ok((told("predicted_n"), told("draft_n").unwrap_or(0)))
}
