//! The admin address: probes, metrics and the admin API, served by Pingora itself.
//!
//! It keeps serving while the process drains, so that the drain can be watched.

mod access;
mod api;
mod audit;
mod body;
mod console;
mod events;
mod log;
mod pages;
mod reload;
mod reply;
mod requests;
mod rollouts;
mod route;
mod view;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{HeaderMap, Method, StatusCode};
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_http::RequestHeader;
use thiserror::Error;

use crate::audit::Audit;
use crate::config::Config;
use crate::rollout::Rollouts;
use crate::server::drain::Inflight;
use crate::server::reload::Handle;
use crate::session::Sessions;
use crate::spec::Ledger;
use crate::telemetry::feed::Feed;
use crate::telemetry::metrics::wants_openmetrics;
use crate::telemetry::{Metrics, Recent};

use access::{Access, Refusal};
use reply::Reply;
use route::{Endpoint, NoRoute};

pub use view::{BackendView, FleetView};

/// Idle connections are kept for so long.
const KEEPALIVE_SECONDS: u64 = 60;

/// The admin address would be open to everybody.
#[derive(Debug, Error)]
#[error(
    "the admin address {0} can be reached from other machines and needs a token (admin.token_env)"
)]
pub struct OpenToAll(IpAddr);

/// What the admin address shows and changes.
pub struct State {
    /// The configuration in effect.
    pub config: Arc<ArcSwap<Config>>,
    /// Loads the configuration anew; `None` when it comes from nowhere it could be loaded from.
    pub reload: Option<Handle>,
    /// The backends.
    pub fleet: Arc<dyn FleetView>,
    /// What is remembered between requests.
    pub sessions: Arc<Sessions>,
    /// Requests being served, and whether the process drains.
    pub inflight: Arc<Inflight>,
    /// The last requests.
    pub requests: Arc<Recent>,
    /// What came of turns, by what their backends ran.
    pub spec: Arc<Ledger>,
    /// What is tried on part of the sessions.
    pub rollouts: Arc<Rollouts>,
    /// Where decisions of policy are recorded; none where they are not.
    pub audit: Option<Arc<Audit>>,
    /// The series of `/metrics`.
    pub metrics: &'static Metrics,
}

/// The application behind the admin address.
pub struct Admin {
    access: Access,
    state: State,
}

impl Admin {
    /// For the address listened on, with the bearer token to ask for.
    ///
    /// # Errors
    /// When the address is not on loopback and there is no token.
    pub fn new(addr: IpAddr, token: Option<&str>, state: State) -> Result<Self, OpenToAll> {
        let access = Access::new(addr, token).ok_or(OpenToAll(addr))?;
        Ok(Self { access, state })
    }

    async fn respond(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Reply {
        let mut reply = self.answer(method, path, headers, body).await;
        if method == Method::HEAD {
            reply.body_mut().clear();
        }
        reply
    }

    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        let endpoint = Endpoint::find(method, path);
        if endpoint == Ok(Endpoint::Index) && console::is_wanted(headers) {
            return console::redirect();
        }
        let public = endpoint.as_ref().is_ok_and(Endpoint::is_public);
        // Before 404 and 405: who may not look learns nothing about what is here.
        if !public && let Err(refusal) = self.access.check(method, headers) {
            return refused(refusal);
        }
        match endpoint {
            Ok(Endpoint::Metrics) => api::metrics(&self.state, wants_openmetrics(headers)),
            Ok(endpoint) => api::serve(&self.state, endpoint, body).await,
            Err(NoRoute::NotFound) => reply::error(
                StatusCode::NOT_FOUND,
                "not_found",
                "no such endpoint; GET / lists them",
            ),
            Err(NoRoute::Method(allow)) => reply::method_not_allowed(allow),
        }
    }
}

fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::Token => reply::unauthorized(),
        Refusal::Host => reply::error(
            StatusCode::FORBIDDEN,
            "host_not_allowed",
            "without a token the admin address answers to loopback names only, such as localhost",
        ),
        Refusal::Origin => reply::error(
            StatusCode::FORBIDDEN,
            "origin_not_allowed",
            "pages of another origin may not change anything here",
        ),
    }
}

impl Admin {
    /// Whether the request is for the stream of events, by somebody who may read it, with room for one
    /// reader more.
    fn is_for_events(&self, request: &RequestHeader) -> bool {
        let events = Endpoint::find(&request.method, request.uri.path()) == Ok(Endpoint::Events);
        events
            && request.method == Method::GET
            && self.access.check(&request.method, &request.headers).is_ok()
            && Feed::global().watchers() < events::MOST_READERS
    }

    /// Answers a request whose answer is known as a whole.
    async fn answer_whole(&self, http: &mut ServerSession) -> pingora_core::Result<()> {
        let body = match self.takes_body(http.req_header()) {
            true => match body::read(http).await? {
                Ok(body) => body,
                Err(refused) => return write(http, refused).await,
            },
            false => Vec::new(),
        };
        let request = http.req_header();
        let (method, path) = (&request.method, path_of(request));
        let reply = self.respond(method, path, &request.headers, &body).await;
        write(http, reply).await
    }

    /// Whether the request brings something to be read, from somebody who may send it.
    fn takes_body(&self, request: &RequestHeader) -> bool {
        let logs = Endpoint::find(&request.method, path_of(request));
        matches!(logs, Ok(Endpoint::Logs(_)))
            && self.access.check(&request.method, &request.headers).is_ok()
    }
}

fn path_of(request: &RequestHeader) -> &str {
    let path = request.uri.path_and_query();
    path.map_or("", |path| path.as_str())
}

async fn write(http: &mut ServerSession, reply: Reply) -> pingora_core::Result<()> {
    let (head, body) = reply.into_parts();
    http.write_response_header(Box::new(head.into())).await?;
    if !body.is_empty() {
        http.write_response_body(body.into(), true).await?;
    }
    Ok(())
}

/// Pingora's own trait for small servers wants whole answers, which a stream of events is not.
#[async_trait]
impl HttpServerApp for Admin {
    async fn process_new_http(
        self: &Arc<Self>,
        mut http: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !http.read_request().await.ok()? {
            return None;
        }
        http.set_keepalive((!*shutdown.borrow()).then_some(KEEPALIVE_SECONDS));
        if self.is_for_events(http.req_header()) {
            events::serve(&self.state, &mut http, shutdown).await;
        } else {
            self.answer_whole(&mut http).await.ok()?;
        }
        let settings = HttpPersistentSettings::for_session(&http);
        let stream = http.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

#[cfg(test)]
mod tests;
