//! `/api/audit`: the last records of the audit log.

use http::StatusCode;
use serde::Serialize;

use super::State;
use super::reply::{self, Reply};
use crate::audit::{self, Filter, Record};

/// Records shown at once, unless asked otherwise, and at most.
const SHOWN: usize = 100;
const MOST: usize = 1000;

/// Which records, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    filter: Filter,
    limit: usize,
}

/// Body of `GET /api/audit`.
#[derive(Serialize)]
struct Tail {
    /// Whether decisions are recorded at the moment.
    recording: bool,
    /// Why not.
    trouble: Option<String>,
    /// Decisions that are not on the disk yet.
    waiting: usize,
    /// The last of those asked for, in their order, of the last two files.
    records: Vec<Record>,
}

/// What is asked for; what cannot be understood is as if it had not been asked.
pub(super) fn query(query: &str) -> Query {
    let mut wanted = Query {
        filter: Filter::default(),
        limit: SHOWN,
    };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let text = || Some(value.clone().into_owned()).filter(|value| !value.is_empty());
        let filter = &mut wanted.filter;
        match &*name {
            "limit" => wanted.limit = value.parse().map_or(SHOWN, |n: usize| n.clamp(1, MOST)),
            "session" => filter.session = text(),
            "request" => filter.request = text(),
            "rule" => filter.rule = text(),
            "decision" => filter.decision = text(),
            "tool" => filter.tool = text(),
            "principal" => filter.principal = text(),
            _ => {}
        }
    }
    wanted
}

pub(super) async fn tail(state: &State, query: &Query) -> Reply {
    let path = state
        .config
        .load()
        .audit
        .as_ref()
        .map(|audit| audit.path.clone());
    let (Some(audit), Some(path)) = (&state.audit, path) else {
        let message = "nothing is recorded: the configuration has no section `audit`";
        return reply::error(StatusCode::NOT_FOUND, "no_audit", message);
    };
    let Query { filter, limit } = query.clone();
    let read = tokio::task::spawn_blocking(move || audit::last(&path, &filter, limit)).await;
    let records = match read.map_err(std::io::Error::other).and_then(|read| read) {
        Ok(records) => records,
        Err(error) => {
            tracing::warn!(%error, "the audit log cannot be read");
            let message = "the audit log cannot be read; see the log";
            return reply::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "audit_unreadable",
                message,
            );
        }
    };
    let tail = Tail {
        recording: audit.is_open(),
        trouble: audit.trouble(),
        waiting: audit.waiting(),
        records,
    };
    reply::json(StatusCode::OK, &tail)
}
