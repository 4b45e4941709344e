//! `/api/rollouts`.

use http::StatusCode;
use serde_json::json;

use super::State;
use super::reply::{self, Reply};
use crate::rollout::{OrderError, now_ms};
use crate::spec::rollout::Command;

/// The order that a path names.
pub(super) fn command(name: &str, full: Option<&str>) -> Option<Command> {
    Some(match name {
        "start" => Command::Start,
        "pause" => Command::Pause,
        "resume" => Command::Resume,
        "promote" if full.is_some_and(|full| full != "false") => Command::PromoteFully,
        "promote" => Command::Promote,
        "abort" => Command::Abort,
        _ => return None,
    })
}

pub(super) fn list(state: &State) -> Reply {
    let views = state.rollouts.views();
    let all: Vec<_> = views.iter().map(|view| &view.overview).collect();
    reply::json(StatusCode::OK, &json!({ "rollouts": all }))
}

pub(super) fn one(state: &State, name: &str) -> Reply {
    match state.rollouts.view(name) {
        Some(view) => reply::json(StatusCode::OK, &*view),
        None => unknown(),
    }
}

pub(super) async fn order(state: &State, name: &str, command: Command) -> Reply {
    match state.rollouts.order(name, command, now_ms()).await {
        Ok(view) => reply::json(StatusCode::OK, &*view),
        Err(OrderError::Unknown(_)) => unknown(),
        Err(error @ (OrderError::Refused(_) | OrderError::Conflict)) => {
            reply::error(StatusCode::CONFLICT, "refused", &error.to_string())
        }
        Err(error @ OrderError::Store(_)) => {
            tracing::error!(%error, rollout = name, "a rollout cannot be written down");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            reply::error(status, "store_failed", &error.to_string())
        }
    }
}

fn unknown() -> Reply {
    reply::error(
        StatusCode::NOT_FOUND,
        "rollout_not_found",
        "no rollout of this name; GET /api/rollouts lists them",
    )
}
