//! The endpoints of the admin address.

use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::State;
use super::audit;
use super::console;
use super::log;
use super::pages;
use super::reload;
use super::reply::{self, Reply};
use super::requests;
use super::rollouts;
use super::route::Endpoint;
use super::view::BackendView;
use crate::server::drain::Phase;
use crate::server::findings;
use crate::session::SessionSummary;
use crate::telemetry::metrics::{OPENMETRICS_FORMAT, TEXT_FORMAT};

/// `body` is empty but for [`Endpoint::Logs`].
pub(super) async fn serve(state: &State, endpoint: Endpoint, body: &[u8]) -> Reply {
    match endpoint {
        Endpoint::Index => index(),
        Endpoint::Console(file) => console::show(&file),
        // Served elsewhere to those who read it; HEAD and a full house end up here.
        Endpoint::Events => reply::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_readers",
            "as many read the events as may at once",
        ),
        Endpoint::Live => reply::json(StatusCode::OK, &json!({ "live": true })),
        Endpoint::Ready => ready(state),
        Endpoint::Metrics => metrics(state, false),
        Endpoint::BackendMetrics(id) => backend_metrics(state, &id),
        Endpoint::Requests(query) => requests::list(state, &query),
        Endpoint::Request(id) => requests::one(state, &id),
        Endpoint::Docs(page) => pages::show(&page),
        Endpoint::Logs(backend) => read_log(state, &backend, body),
        Endpoint::Log => log::show(),
        Endpoint::SetLog(level) => log::set(level.as_deref()),
        Endpoint::Config => reply::json(StatusCode::OK, &**state.config.load()),
        Endpoint::Backends => reply::json(
            StatusCode::OK,
            &Backends {
                backends: state.fleet.backends(),
            },
        ),
        Endpoint::Sessions(page) => reply::json(
            StatusCode::OK,
            &SessionList {
                total: state.sessions.len(),
                sessions: state.sessions.page(page, Instant::now()),
            },
        ),
        Endpoint::Session(id) => session(state, &id),
        Endpoint::Explain(id) => explain(state, &id),
        Endpoint::Audit(query) => audit::tail(state, &query).await,
        Endpoint::Spec => reply::json(
            StatusCode::OK,
            &json!({
                "strata": state.spec.rows(),
                "backends": state.fleet.speculation(),
                "timeline": state.spec.events(),
            }),
        ),
        Endpoint::Findings => {
            let findings = state.fleet.findings(&state.spec);
            reply::json(StatusCode::OK, &json!({ "findings": findings }))
        }
        Endpoint::Rollouts => rollouts::list(state),
        Endpoint::Rollout(name) => rollouts::one(state, &name),
        Endpoint::OrderRollout { name, command } => rollouts::order(state, &name, command).await,
        Endpoint::SetDraining { id, draining } => set_draining(state, &id, draining),
        Endpoint::Reload => reload::serve(state.reload.as_ref()).await,
    }
}

fn index() -> Reply {
    let endpoint = |method, path, what| json!({ "method": method, "path": path, "what": what });
    reply::json(
        StatusCode::OK,
        &json!({
            "name": "drover",
            "version": env!("CARGO_PKG_VERSION"),
            "endpoints": [
                endpoint("GET", "/console/", "the console, also on / for browsers"),
                endpoint("GET", "/api/events", "what the console shows, as it happens (text/event-stream)"),
                endpoint("GET", "/livez", "the process answers"),
                endpoint("GET", "/readyz", "200 when requests would be served, else 503 with reasons"),
                endpoint("GET", "/metrics", "Prometheus text format, or OpenMetrics with exemplars"),
                endpoint("GET", "/metrics/backends/{id}", "one backend under the names endpoint pickers know"),
                endpoint("GET", "/docs/{page}", "the documentation of this version, such as alerts.md"),
                endpoint("GET", "/api/requests?order=latest|total|ttft|overhead&limit=100&outcome=&pool=&backend=&session=&profile=&build=&class=&from=&to=", "the last requests"),
                endpoint("GET", "/api/requests/{request_id}", "one of the last requests: its record, its way, what guards did"),
                endpoint("GET", "/api/backends", "every backend with its state"),
                endpoint("POST", "/api/backends/{id}/drain", "no new requests to this backend"),
                endpoint("POST", "/api/backends/{id}/undrain", "new requests again"),
                endpoint("GET", "/api/sessions?offset=0&limit=100", "sessions, the most recently used first"),
                endpoint("GET", "/api/sessions/{id}", "one session with its conversations"),
                endpoint("GET", "/api/explain/{request_id}", "why one of the last requests went where it went"),
                endpoint("GET", "/api/audit?limit=100&session=&request=&rule=&decision=&tool=&principal=", "the last decisions of policy on record"),
                endpoint("GET", "/api/spec", "speculative decoding: what came of turns by backend, profile, build, class and load; what backends count of their drafts; what changed on them and when"),
                endpoint("GET", "/api/spec/findings", "what has become worse, with evidence, what explains it, likely cause and remedy"),
                endpoint("GET", "/api/rollouts", "every rollout: its state, step, shares and sides"),
                endpoint("GET", "/api/rollouts/{id}", "one rollout with differences, verdicts and events"),
                endpoint("POST", "/api/rollouts/{id}/start", "begin it, or begin it anew"),
                endpoint("POST", "/api/rollouts/{id}/pause", "the shares stay; harm still rolls back"),
                endpoint("POST", "/api/rollouts/{id}/resume", "go on"),
                endpoint("POST", "/api/rollouts/{id}/promote?full=false", "the next step, whatever is known; full=true: all sessions at once"),
                endpoint("POST", "/api/rollouts/{id}/abort", "back to the baseline"),
                endpoint("POST", "/api/logs?backend={id}", "lines of a backend's log (text, up to 1 MiB): telling ones become findings"),
                endpoint("GET", "/api/log", "what is logged"),
                endpoint("POST", "/api/log?level=debug", "log this from now on; without level, as configured"),
                endpoint("POST", "/api/reload", "load the configuration anew and say what changed"),
                endpoint("GET", "/api/config", "the effective configuration, secrets redacted"),
            ],
        }),
    )
}

/// Body of `GET /api/backends`.
#[derive(Serialize)]
struct Backends {
    backends: Vec<BackendView>,
}

/// Body of `GET /api/sessions`: one page.
#[derive(Serialize)]
struct SessionList {
    total: usize,
    sessions: Vec<SessionSummary>,
}

/// Body of `POST /api/backends/{id}/…`: the backend as it is now.
#[derive(Serialize)]
struct Changed<'a> {
    backend: Option<&'a BackendView>,
}

/// Body of `/readyz`; no names, since probes need no token.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<&'static str>,
    /// What is wrong and does not keep requests from being served.
    degraded: Vec<&'static str>,
    in_flight: usize,
    backends_ready: usize,
    backends_total: usize,
}

/// A condition of readiness.
const NO_AUDIT: &str =
    "decisions cannot be recorded: calls that required rules are about are blocked";

fn ready(state: &State) -> Reply {
    let backends = state.fleet.backends();
    let serving = backends.iter().filter(|b| b.available).count();
    let failing = state.audit.as_ref().is_some_and(|audit| !audit.is_open());
    let config = state.config.load();
    let unready = config
        .audit
        .as_ref()
        .is_some_and(|audit| audit.unready_when_failing);
    let reasons: Vec<_> = [
        (
            state.inflight.phase() != Phase::Running,
            "the process is draining",
        ),
        (
            !state.fleet.checked_once(),
            "not every backend has been checked yet",
        ),
        (serving == 0, "no backend is ready"),
        (failing && unready, NO_AUDIT),
    ]
    .into_iter()
    .filter_map(|(holds, reason)| holds.then_some(reason))
    .collect();
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    reply::json(
        status,
        &Readiness {
            ready: reasons.is_empty(),
            reasons,
            degraded: failing.then_some(NO_AUDIT).into_iter().collect(),
            in_flight: state.inflight.count(),
            backends_ready: serving,
            backends_total: backends.len(),
        },
    )
}

/// All series; in the format that has exemplars where that is asked for.
pub(super) fn metrics(state: &State, open: bool) -> Reply {
    if open {
        let text = state.metrics.encode_openmetrics();
        return reply::bytes(StatusCode::OK, OPENMETRICS_FORMAT, text.into_bytes());
    }
    exposition(state.metrics.encode().map(Some))
}

fn backend_metrics(state: &State, id: &str) -> Reply {
    exposition(state.metrics.encode_backend(id))
}

fn exposition(encoded: prometheus::Result<Option<Vec<u8>>>) -> Reply {
    match encoded {
        Ok(Some(text)) => reply::bytes(StatusCode::OK, TEXT_FORMAT, text),
        Ok(None) => no_backend(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be encoded");
            reply::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the metrics cannot be encoded; see the log",
            )
        }
    }
}

fn session(state: &State, id: &str) -> Reply {
    let found = id
        .parse()
        .ok()
        .and_then(|id| state.sessions.view(id, Instant::now()));
    match found {
        Some(session) => reply::json(StatusCode::OK, &session),
        None => reply::error(
            StatusCode::NOT_FOUND,
            "session_not_found",
            "no session of this id is remembered; GET /api/sessions lists them",
        ),
    }
}

fn explain(state: &State, request: &str) -> Reply {
    match state.fleet.explain(request) {
        Some(explained) => reply::json(StatusCode::OK, &explained),
        None => reply::error(
            StatusCode::NOT_FOUND,
            "request_not_found",
            "no selection for a request of this id is remembered; the last `fleet.selection.explain_last` are, and \
             none for a request that got no backend: GET /api/requests/{id} tells what became of it",
        ),
    }
}

/// Llama-server writes what it is given: a line need not be text.
fn read_log(state: &State, backend: &str, body: &[u8]) -> Reply {
    let Some(place) = state.fleet.place(backend) else {
        return no_backend();
    };
    let text = String::from_utf8_lossy(body);
    let telling = state
        .spec
        .read_log(&place, text.lines(), findings::since_1970());
    reply::json(StatusCode::OK, &json!({ "telling": telling }))
}

fn no_backend() -> Reply {
    reply::error(
        StatusCode::NOT_FOUND,
        "backend_not_found",
        "no backend of this name; GET /api/backends lists them",
    )
}

fn set_draining(state: &State, id: &str, draining: bool) -> Reply {
    if !state.fleet.set_draining(id, draining) {
        return no_backend();
    }
    let backends = state.fleet.backends();
    let backend = backends.iter().find(|b| b.id == id);
    reply::json(StatusCode::OK, &Changed { backend })
}
