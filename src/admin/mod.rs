//! The admin address: probes, metrics and the admin API, served by Pingora itself.
//!
//! It keeps serving while the process drains, so that the drain can be watched.

mod access;
mod api;
mod log;
mod pages;
mod reload;
mod reply;
mod requests;
mod route;
mod view;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{HeaderMap, Method, Response, StatusCode};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use thiserror::Error;

use crate::config::Config;
use crate::server::drain::Inflight;
use crate::server::reload::Handle;
use crate::session::Sessions;
use crate::telemetry::{Metrics, Recent};

use access::{Access, Refusal};
use reply::Reply;
use route::{Endpoint, NoRoute};

pub use view::{BackendView, FleetView};

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

    async fn respond(&self, method: &Method, path: &str, headers: &HeaderMap) -> Reply {
        let mut reply = self.answer(method, path, headers).await;
        if method == Method::HEAD {
            reply.body_mut().clear();
        }
        reply
    }

    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Reply {
        let endpoint = Endpoint::find(method, path);
        let probe = endpoint.as_ref().is_ok_and(Endpoint::is_probe);
        // Before 404 and 405: who may not look learns nothing about what is here.
        if !probe && let Err(refusal) = self.access.check(method, headers) {
            return refused(refusal);
        }
        match endpoint {
            Ok(endpoint) => api::serve(&self.state, endpoint).await,
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

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let path = request
            .uri
            .path_and_query()
            .map_or("", |path| path.as_str());
        self.respond(&request.method, path, &request.headers).await
    }
}

#[cfg(test)]
mod tests;
