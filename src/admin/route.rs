//! Which endpoint a path names.

use http::Method;
use percent_encoding::percent_decode_str;

use super::{console, requests, rollouts};
use crate::session::Page;
use crate::spec::rollout::Command;
use crate::telemetry::recent::Query;

/// Sessions shown at once, unless asked otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// An endpoint of the admin address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `GET /`: what is here.
    Index,
    /// `GET /console/…`: the console's page and what it loads.
    Console(String),
    /// `GET /api/events`: what the console shows, as it happens.
    Events,
    /// `GET /livez`: the process answers.
    Live,
    /// `GET /readyz`: new requests would be served.
    Ready,
    /// `GET /metrics`: Prometheus text.
    Metrics,
    /// `GET /metrics/backends/{name}`: one backend under the names endpoint pickers know.
    BackendMetrics(String),
    /// `GET /api/requests?order=&limit=&…`: the last requests.
    Requests(Query),
    /// `GET /api/requests/{request_id}`: all that is known of one.
    Request(String),
    /// `GET /docs/{page}`: the documentation of this version.
    Docs(String),
    /// `GET /api/config`: the effective configuration, secrets redacted.
    Config,
    /// `GET /api/backends`: every backend with its state.
    Backends,
    /// `GET /api/sessions?offset=&limit=`: sessions, the most recently used first.
    Sessions(Page),
    /// `GET /api/sessions/{id}`: one session with its conversations.
    Session(String),
    /// `GET /api/explain/{request_id}`: why a request went where it went.
    Explain(String),
    /// `GET /api/spec`: what came of turns, by what their backends ran.
    Spec,
    /// `GET /api/spec/findings`: what is wrong with it.
    Findings,
    /// `POST /api/logs?backend=`: lines of a backend's log.
    Logs(String),
    /// `GET /api/rollouts`: every rollout.
    Rollouts,
    /// `GET /api/rollouts/{name}`: one with all that is known.
    Rollout(String),
    /// `POST /api/rollouts/{name}/start` and so on.
    OrderRollout {
        /// Name of the rollout.
        name: String,
        /// What is to be done.
        command: Command,
    },
    /// `GET /api/log`: what is logged.
    Log,
    /// `POST /api/log?level=…`: log this, or as configured again.
    SetLog(Option<String>),
    /// `POST /api/reload`: load the configuration anew.
    Reload,
    /// `POST /api/backends/{id}/drain` and `…/undrain`.
    SetDraining {
        /// Name of the backend.
        id: String,
        /// No new requests to it (`drain`), or again (`undrain`).
        draining: bool,
    },
}

/// Why a request names no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// No such path.
    NotFound,
    /// The path exists for this method only.
    Method(&'static str),
}

impl Endpoint {
    /// `path` may have a query.
    pub(super) fn find(method: &Method, path: &str) -> Result<Self, NoRoute> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let endpoint = Self::at(path, query).ok_or(NoRoute::NotFound)?;
        if endpoint == Self::Log {
            return match *method {
                Method::GET | Method::HEAD => Ok(endpoint),
                Method::POST => Ok(Self::SetLog(text(query, "level"))),
                _ => Err(NoRoute::Method("GET, HEAD, POST")),
            };
        }
        let changes = matches!(
            endpoint,
            Self::Reload | Self::Logs(_) | Self::SetDraining { .. } | Self::OrderRollout { .. }
        );
        let allowed = match *method {
            Method::GET | Method::HEAD => !changes,
            Method::POST => changes,
            _ => false,
        };
        match (allowed, changes) {
            (true, _) => Ok(endpoint),
            (false, true) => Err(NoRoute::Method("POST")),
            (false, false) => Err(NoRoute::Method("GET, HEAD")),
        }
    }

    fn at(path: &str, query: &str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match segments.as_slice() {
            [""] => Self::Index,
            ["console", file] if console::has(file) => Self::Console((*file).to_owned()),
            ["api", "events"] => Self::Events,
            ["livez"] => Self::Live,
            ["readyz"] => Self::Ready,
            ["metrics"] => Self::Metrics,
            ["metrics", "backends", id] if !id.is_empty() => Self::BackendMetrics(decoded(id)?),
            ["docs", page] if !page.is_empty() => Self::Docs((*page).to_owned()),
            ["api", "requests"] => Self::Requests(requests::query(query)),
            ["api", "requests", id] if !id.is_empty() => Self::Request((*id).to_owned()),
            ["api", "config"] => Self::Config,
            ["api", "spec"] => Self::Spec,
            ["api", "spec", "findings"] => Self::Findings,
            ["api", "rollouts"] => Self::Rollouts,
            ["api", "rollouts", name] if !name.is_empty() => Self::Rollout(decoded(name)?),
            ["api", "rollouts", name, order] if !name.is_empty() => Self::OrderRollout {
                name: decoded(name)?,
                command: rollouts::command(order, text(query, "full").as_deref())?,
            },
            ["api", "logs"] => Self::Logs(text(query, "backend").unwrap_or_default()),
            ["api", "log"] => Self::Log,
            ["api", "reload"] => Self::Reload,
            ["api", "backends"] => Self::Backends,
            ["api", "sessions"] => Self::Sessions(page(query)),
            ["api", "sessions", id] if !id.is_empty() => Self::Session((*id).to_owned()),
            ["api", "explain", id] if !id.is_empty() => Self::Explain((*id).to_owned()),
            ["api", "backends", id, action @ ("drain" | "undrain")] if !id.is_empty() => {
                Self::SetDraining {
                    id: decoded(id)?,
                    draining: *action == "drain",
                }
            }
            _ => return None,
        })
    }

    /// Probes ask without a credential and learn nothing but a status and counts; the console's files
    /// are the same everywhere, and ask for the credential.
    pub(super) fn is_public(&self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Console(_))
    }
}

fn decoded(id: &str) -> Option<String> {
    Some(percent_decode_str(id).decode_utf8().ok()?.into_owned())
}

/// The value of `name`, where it has one.
fn text(query: &str, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let (_, value) = pairs.find(|(key, _)| key == name)?;
    Some(value.into_owned()).filter(|value| !value.trim().is_empty())
}

/// What cannot be understood is as if it had not been asked.
fn page(query: &str) -> Page {
    let number = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name)?.1.parse().ok()
    };
    Page {
        offset: number("offset").unwrap_or(0),
        limit: number("limit").unwrap_or(PAGE).clamp(1, MAX_PAGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_endpoints() {
        let get = |path| Endpoint::find(&Method::GET, path);
        assert_eq!(get("/"), Ok(Endpoint::Index));
        assert_eq!(get("/readyz"), Ok(Endpoint::Ready));
        assert_eq!(get("/api/backends"), Ok(Endpoint::Backends));
        for path in [
            "",
            "/nope",
            "/readyz/",
            "/api",
            "/api/backends/",
            "//",
            "/api/backends/gpu0",
        ] {
            assert_eq!(get(path), Err(NoRoute::NotFound), "{path}");
        }
    }

    #[test]
    fn pages_are_bounded() {
        let page =
            |query: &str| match Endpoint::find(&Method::GET, &format!("/api/sessions{query}")) {
                Ok(Endpoint::Sessions(page)) => (page.offset, page.limit),
                other => panic!("{other:?}"),
            };
        assert_eq!(page(""), (0, PAGE));
        assert_eq!(page("?limit=7&offset=20"), (20, 7));
        assert_eq!(page("?limit=1000000000"), (0, MAX_PAGE));
        assert_eq!(page("?limit=-1&offset=x&"), (0, PAGE));
        assert_eq!(page("?limit=0"), (0, 1));
    }

    #[test]
    fn backend_names_are_decoded() {
        let drain = Endpoint::find(&Method::POST, "/api/backends/127.0.0.1%3A8081/drain");
        let expected = Endpoint::SetDraining {
            id: "127.0.0.1:8081".into(),
            draining: true,
        };
        assert_eq!(drain, Ok(expected));
        let not_utf8 = Endpoint::find(&Method::POST, "/api/backends/%ff/undrain");
        assert_eq!(not_utf8, Err(NoRoute::NotFound));
    }

    #[test]
    fn the_log_is_read_and_changed_at_one_path() {
        let at = |method, path| Endpoint::find(&method, path);
        assert_eq!(at(Method::GET, "/api/log?level=debug"), Ok(Endpoint::Log));
        let debug = Endpoint::SetLog(Some("info,drover::fleet=debug".into()));
        let path = "/api/log?level=info,drover::fleet%3Ddebug";
        assert_eq!(at(Method::POST, path), Ok(debug));
        assert_eq!(at(Method::POST, "/api/log"), Ok(Endpoint::SetLog(None)));
        let allowed = Err(NoRoute::Method("GET, HEAD, POST"));
        assert_eq!(at(Method::PUT, "/api/log"), allowed);
    }

    #[test]
    fn reading_never_changes_and_changing_is_post() {
        let path = "/api/backends/gpu0/drain";
        assert_eq!(
            Endpoint::find(&Method::GET, path),
            Err(NoRoute::Method("POST"))
        );
        assert_eq!(
            Endpoint::find(&Method::HEAD, path),
            Err(NoRoute::Method("POST"))
        );
        assert!(Endpoint::find(&Method::POST, path).is_ok());
        let get_only = Err(NoRoute::Method("GET, HEAD"));
        assert_eq!(Endpoint::find(&Method::POST, "/metrics"), get_only);
        assert_eq!(Endpoint::find(&Method::DELETE, "/api/config"), get_only);
    }
}
