//! `POST /api/reload`.

use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::reply::{self, Reply};
use crate::config::{ConfigError, ConfigErrors};
use crate::server::reload::{Handle, ReloadError, Report};

/// Body of a reload that was made.
#[derive(Serialize)]
struct Done<'a> {
    /// `applied` or `unchanged`.
    result: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

/// One mistake in the file.
#[derive(Serialize)]
struct Mistake<'a> {
    /// Path of the key.
    path: &'a str,
    /// Where it stands in the file; both count from 1.
    line: Option<u64>,
    column: Option<u64>,
    message: &'a str,
}

/// Reloads, and tells what came of it.
pub(super) async fn serve(handle: Option<&Handle>) -> Reply {
    let Some(handle) = handle else {
        return reply::error(
            StatusCode::CONFLICT,
            "nothing_to_reload",
            "this configuration did not come from a file or the environment",
        );
    };
    match handle.reload().await {
        Some(Ok(report)) => done(&report),
        Some(Err(ReloadError::Invalid(errors))) => invalid(&errors),
        Some(Err(ReloadError::Fleet(error))) => reply::error(
            StatusCode::BAD_REQUEST,
            "invalid_configuration",
            &error.to_string(),
        ),
        None => reply::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "the process is about to end",
        ),
    }
}

fn done(report: &Report) -> Reply {
    let result = if report.changed.is_empty() {
        "unchanged"
    } else {
        "applied"
    };
    reply::json(StatusCode::OK, &Done { result, report })
}

fn invalid(errors: &ConfigErrors) -> Reply {
    let mistake = |error: &ConfigError| {
        json!(Mistake {
            path: &error.path,
            line: error.position.map(|at| at.line),
            column: error.position.map(|at| at.column),
            message: &error.message,
        })
    };
    let list: Vec<_> = errors.errors.iter().map(mistake).collect();
    reply::json(
        StatusCode::BAD_REQUEST,
        &json!({
            "error": {
                "type": "invalid_configuration",
                "message": "the configuration has mistakes; nothing was changed",
            },
            "errors": list,
        }),
    )
}
