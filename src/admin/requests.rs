//! `/api/requests`: from a spike in a chart to the requests behind it, and to the story of one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use super::State;
use super::reply::{self, Reply};
use crate::fleet::Explained;
use crate::session::InterventionView;
use crate::telemetry::access_log::Record;
use crate::telemetry::recent::{Order, Query};

/// Requests shown at once, unless asked otherwise, and at most.
const SHOWN: usize = 100;
const MOST: usize = 1000;

/// Body of `GET /api/requests`.
#[derive(Serialize)]
struct List {
    requests: Vec<Arc<Record>>,
}

/// Body of `GET /api/requests/{id}`.
#[derive(Serialize)]
struct Story {
    /// Its line of the access log.
    request: Arc<Record>,
    /// Why it went where it went, while that is remembered.
    explained: Option<Explained>,
    /// What guards did, the last first, while that is remembered.
    interventions: Vec<InterventionView>,
}

/// What is asked for. Times are milliseconds since 1970, as Grafana writes them; what cannot be
/// understood is as if it had not been asked.
pub(super) fn query(query: &str) -> Query {
    let mut wanted = Query {
        limit: SHOWN,
        ..Query::default()
    };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let text = || Some(value.clone().into_owned()).filter(|value| !value.is_empty());
        let time = || {
            let since = Duration::from_millis(value.parse().ok()?);
            SystemTime::UNIX_EPOCH.checked_add(since)
        };
        match &*name {
            "order" => wanted.order = Order::named(&value).unwrap_or_default(),
            "limit" => wanted.limit = value.parse().map_or(SHOWN, |n: usize| n.clamp(1, MOST)),
            "outcome" => wanted.outcome = text(),
            "pool" => wanted.pool = text(),
            "backend" => wanted.backend = text(),
            "session" => wanted.session = text(),
            "profile" => wanted.profile = text(),
            "build" => wanted.build = text(),
            "class" => wanted.class = text(),
            "from" => wanted.from = time(),
            "to" => wanted.to = time(),
            _ => {}
        }
    }
    wanted
}

pub(super) fn list(state: &State, query: &Query) -> Reply {
    let requests = state.requests.list(query);
    reply::json(StatusCode::OK, &List { requests })
}

pub(super) fn one(state: &State, id: &str) -> Reply {
    let Some(request) = state.requests.find(id) else {
        return reply::error(
            StatusCode::NOT_FOUND,
            "request_not_found",
            "no request of this id is remembered; the last `telemetry.recent_requests` are",
        );
    };
    let session = request.session.as_ref().and_then(|id| id.parse().ok());
    let session = session.and_then(|id| state.sessions.view(id, Instant::now()));
    let mut interventions = session.map_or_else(Vec::new, |session| session.interventions);
    interventions.retain(|done| done.request_id() == id);
    reply::json(
        StatusCode::OK,
        &Story {
            explained: state.fleet.explain(id),
            request,
            interventions,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_leniently() {
        let asked = query(
            "order=ttft&outcome=timeout&backend=127.0.0.1%3A8081&limit=9999&from=1500&to=x&pool=",
        );
        let expected = Query {
            order: Order::Ttft,
            limit: MOST,
            outcome: Some("timeout".into()),
            backend: Some("127.0.0.1:8081".into()),
            from: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1500)),
            ..Query::default()
        };
        assert_eq!(asked, expected);
        let far = query("from=99999999999999999999&limit=no&order=best");
        let nothing = Query {
            limit: SHOWN,
            ..Query::default()
        };
        assert_eq!(far, nothing);
    }
}
