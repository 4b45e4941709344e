//! Pingora's phases, each delegated to its own file.
//!
//! Two lanes: a POST that generates is answered inside `request_filter` by the exchange; everything
//! else is answered here or runs Pingora's native phases.

mod admission;
mod auth;
mod body;
mod client_address;
mod context;
mod downstream;
mod durable;
mod errors;
mod exchange_lane;
mod headers;
mod local;
mod logging;
mod loops;
mod models;
mod native_lane;
mod policy;
mod route;
mod selection;
mod sessions;
mod shaping;
mod shared;
mod spec;

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use context::Context;
pub use durable::Leavers;
use route::Route;
pub use shared::Shared;

use crate::turn::TurnError;

/// The gateway as Pingora sees it.
pub struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    /// A gateway over state shared with the admin API.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.shared.inflight.enter())
    }

    /// Everything that can be answered without Pingora's own upstream side is answered here.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        ctx.begin(session);
        let route = match self.admit(session, ctx) {
            Ok(route) => route,
            Err(error) => return errors::respond(session, ctx, error).await.map(|()| true),
        };
        match route {
            Route::Exchange(kind) => exchange_lane::serve(&self.shared, session, ctx, kind)
                .await
                .map(|()| true),
            Route::Local(kind) => local::serve(&self.shared, session, ctx, kind)
                .await
                .map(|()| true),
            Route::Native(pool) => {
                match native_lane::prepare(&self.shared, session, ctx, &pool).await {
                    Ok(()) => Ok(false),
                    Err(error) => errors::respond(session, ctx, error).await.map(|()| true),
                }
            }
        }
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        native_lane::upstream_peer(ctx)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        native_lane::upstream_request(session, upstream, ctx)
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<bytes::Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        native_lane::request_body(&self.shared, body, end_of_stream, ctx)
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        upstream: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        headers::native_response(upstream, ctx)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Context,
        error: Box<Error>,
    ) -> Box<Error> {
        native_lane::fail_to_connect(&self.shared, ctx, error)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        errors::fail_to_proxy(session, error, ctx).await
    }

    /// Pingora's own would put the query into its error lines, where clients may have put secrets.
    fn request_summary(&self, session: &Session, ctx: &Context) -> String {
        let request = session.req_header();
        format!("{} {} ({})", request.method, request.uri.path(), ctx.id)
    }

    fn suppress_error_log(&self, _: &Session, ctx: &Context, _: &Error) -> bool {
        ctx.client_gone()
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        logging::finish(&self.shared, session, error, ctx);
    }
}

impl Gateway {
    /// Whether and where a request may go, by its header alone.
    fn admit(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> std::result::Result<Route, TurnError> {
        headers::check(session, &self.shared)?;
        let config = self.shared.config();
        let request = session.req_header();
        let route = route::route(&request.method, request.uri.path(), &self.shared)?;
        ctx.set_label(route.label());
        if !route.is_public() {
            ctx.principal = auth::principal(&config.auth, request)?;
            if config.auth.keys.is_empty() && auth::is_from_foreign_page(request) {
                return Err(TurnError::Forbidden(
                    "without API keys the gateway does not serve pages of other origins".into(),
                ));
            }
        }
        if self.shared.is_draining() && !route.is_public() {
            return Err(TurnError::Draining);
        }
        Ok(route)
    }
}
