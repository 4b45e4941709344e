//! The `/sim/...` paths.

use std::{sync::Arc, time::Duration};

use super::{Gone, HttpRequest, Wire};
use crate::sim::{
    control::{Die, Patch},
    engine::Sim,
    errors::ApiError,
};

/// Answers a control request; `path` is what follows `/sim/`.
pub(super) async fn answer(
    sim: &Arc<Sim>,
    wire: &mut Wire,
    request: &HttpRequest,
    path: &str,
) -> Result<(), Gone> {
    let bad = |error: String| ApiError::invalid(error).body();
    let patch = match (request.method.as_str(), path) {
        ("GET", "state") => Ok(Patch::default()),
        ("POST", "state") => serde_json::from_slice(&request.body).map_err(|e| e.to_string()),
        ("POST", "wedge") => Ok(Patch {
            wedged: Some(true),
            ..Patch::default()
        }),
        ("POST", "freeze") => Ok(Patch {
            frozen: Some(true),
            ..Patch::default()
        }),
        ("POST", "resume") => Ok(Patch {
            wedged: Some(false),
            frozen: Some(false),
            loading: Some(false),
            ..Patch::default()
        }),
        ("POST", "die") => return die(sim, wire, request).await,
        ("GET", "requests") => {
            let shown = sim.requests.lock().shown().to_string();
            return wire.json(200, shown).await;
        }
        ("DELETE", "requests") => {
            sim.requests.lock().clear();
            return wire.json(200, "{}").await;
        }
        _ => return super::routes::not_found(wire).await,
    };
    match patch.and_then(|patch: Patch| sim.patch(patch)) {
        Ok(()) => {
            let state = sim.state().to_string();
            wire.json(200, state).await
        }
        Err(error) => wire.json(400, bad(error)).await,
    }
}

async fn die(sim: &Arc<Sim>, wire: &mut Wire, request: &HttpRequest) -> Result<(), Gone> {
    let order = if request.body.is_empty() {
        Ok(Die::default())
    } else {
        serde_json::from_slice(&request.body)
    };
    match order {
        Ok(order) => {
            wire.keep_alive = false;
            wire.json(200, "{}").await?;
            sim.die(order.restart_ms.map(Duration::from_millis));
            Err(Gone)
        }
        Err(error) => {
            wire.json(400, ApiError::invalid(error.to_string()).body())
                .await
        }
    }
}
