//! `/api/log`: what is logged, changed while the process runs.

use http::StatusCode;
use serde::Serialize;

use super::reply::{self, Reply};
use crate::telemetry::level::Level;

/// Body of both answers.
#[derive(Serialize)]
struct Shown<'a> {
    /// What is logged now.
    level: String,
    /// What was configured; a restart returns to it.
    configured: &'a str,
}

pub(super) fn show() -> Reply {
    match Level::current() {
        Some(level) => shown(level),
        None => reply::error(
            StatusCode::CONFLICT,
            "no_log",
            "this process has not set its log up",
        ),
    }
}

/// Logs by `directives`, or as configured where there are none.
pub(super) fn set(directives: Option<&str>) -> Reply {
    let Some(level) = Level::current() else {
        return show();
    };
    let done = match directives {
        Some(directives) => level.set(directives),
        None => level.reset(),
    };
    match done {
        Ok(()) => {
            tracing::info!(level = level.now(), "log level");
            shown(level)
        }
        Err(error) => reply::error(StatusCode::BAD_REQUEST, "bad_level", &error.to_string()),
    }
}

fn shown(level: &Level) -> Reply {
    let body = Shown {
        level: level.now(),
        configured: level.configured(),
    };
    reply::json(StatusCode::OK, &body)
}
