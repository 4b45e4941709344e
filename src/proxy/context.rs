//! What the gateway knows about one request while it is served.

use std::sync::Arc;

use bytes::BytesMut;
use pingora_proxy::Session;
use tokio::time::Instant;
use uuid::Uuid;

use super::route;
use crate::config::RequestClass;
use crate::dialect::Dialect;
use crate::exchange::{End, Outcome as Exchanged, Overhead, Report};
use crate::fleet::{BackendId, Lease, Wish};
use crate::guard::intervention::Intervention;
use crate::guard::loops;
use crate::policy::Decision;
use crate::server::drain::InflightGuard;
use crate::server::head;
use crate::session::{SessionId, Visit};
use crate::spec::rollout::Assigned;
use crate::telemetry::access_log::{ClientText, Record};
use crate::telemetry::feed::Underway;
use crate::telemetry::labels::{Dialect as Label, Operation};
use crate::telemetry::trace::TraceContext;
use crate::turn::TurnError;

pub(super) use crate::exchange::Gone;

/// One request.
pub struct Context {
    /// Identifier in logs and in `x-request-id`.
    pub(super) id: String,
    pub(super) started: Instant,
    /// The dialect of the path, for errors of any kind.
    pub(super) dialect: Dialect,
    pub(super) record: Option<Record>,
    pub(super) principal: Option<String>,
    pub(super) pool: Option<Arc<str>>,
    /// What is asked for, and the configured pattern that its model's name matched.
    pub(super) generates: Option<(Operation, Arc<str>)>,
    /// The session, where the request has one.
    pub(super) session: Option<SessionId>,
    /// What kind of turn it is.
    pub(super) class: Option<RequestClass>,
    /// Its side of a rollout.
    pub(super) rollout: Option<Assigned>,
    /// The stay in it, of a turn.
    pub(super) visit: Option<Visit>,
    pub(super) native: Option<Native>,
    /// Shows it as under way.
    pub(super) underway: Option<Underway>,
    /// Its place in a trace, where turns are traced.
    pub(super) trace: Option<TraceContext>,
    /// What policy decided, of a turn that is traced.
    pub(super) decisions: Vec<Decision>,
    /// The same in short, for the access log.
    pub(super) decided: Vec<String>,
    pub(super) exchanged: Option<Exchanged>,
    pub(super) report: Report,
    /// What loop protection will remember of the turn once it is answered.
    pub(super) loops: Option<loops::Pending>,
    /// What guards did, whatever the end.
    pub(super) interventions: Vec<Intervention>,
    pub(super) overhead: Option<Overhead>,
    pub(super) gone: bool,
    pub(super) error: Option<&'static str>,
    /// Why the native lane ended the request: Pingora's errors carry a status only.
    pub(super) refused: Option<TurnError>,
    /// Given back when the request ends, by whatever path.
    _inflight: InflightGuard,
}

/// State of the native lane.
pub(super) struct Native {
    pub(super) lease: Lease,
    /// Where it would go: its side of a rollout.
    pub(super) wish: Wish,
    /// Backends that could not be reached.
    pub(super) tried: Vec<BackendId>,
    /// Body held until it is complete.
    pub(super) held: BytesMut,
    pub(super) body_bytes: u64,
    /// The body is a form and no JSON.
    pub(super) is_form: bool,
    /// When the body must have arrived.
    pub(super) body_until: Instant,
}

impl Context {
    pub(super) fn new(inflight: InflightGuard) -> Self {
        Self {
            id: Uuid::now_v7().simple().to_string(),
            started: Instant::now(),
            dialect: Dialect::OpenAi,
            record: None,
            principal: None,
            pool: None,
            generates: None,
            session: None,
            class: None,
            rollout: None,
            visit: None,
            native: None,
            underway: None,
            trace: None,
            decisions: Vec::new(),
            decided: Vec::new(),
            exchanged: None,
            report: Report::default(),
            loops: None,
            interventions: Vec::new(),
            overhead: None,
            gone: false,
            error: None,
            refused: None,
            _inflight: inflight,
        }
    }

    /// The request's header is complete.
    pub(super) fn begin(&mut self, session: &Session) {
        head::complete();
        self.started = Instant::now();
        let request = session.req_header();
        let versioned = request.headers.contains_key("anthropic-version");
        self.dialect = route::dialect(request.uri.path(), versioned);
        if let Some(id) = client_request_id(session) {
            self.id = id;
        }
        let mut record = Record::new(
            self.id.clone(),
            request.method.as_str(),
            request.uri.path(),
            Label::Native,
        );
        let agent = request.headers.get(http::header::USER_AGENT);
        record.client = agent.and_then(|v| v.to_str().ok()).map(ClientText::new);
        self.record = Some(record);
    }

    pub(super) fn set_label(&mut self, label: Label) {
        if let Some(record) = &mut self.record {
            record.dialect = label;
        }
    }

    /// Whether the client left before it had its answer.
    pub(super) fn client_gone(&self) -> bool {
        self.gone
            || self
                .exchanged
                .as_ref()
                .is_some_and(|done| done.end == End::ClientGone)
    }
}

/// A client's own request id is kept if it is one: short and plain.
fn client_request_id(session: &Session) -> Option<String> {
    let id = session
        .req_header()
        .headers
        .get("x-request-id")?
        .to_str()
        .ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    ((8..=64).contains(&id.len()) && id.bytes().all(plain)).then(|| id.to_owned())
}
