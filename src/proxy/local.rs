//! What the gateway answers itself.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::context::Context;
use super::models::Models;
use super::route::LocalKind;
use super::{Shared, errors};
use crate::turn::TurnError;

/// Answer.
pub(super) async fn serve(
    shared: &Shared,
    session: &mut Session,
    ctx: &mut Context,
    kind: LocalKind,
) -> Result<()> {
    let body = match body(shared, ctx, kind) {
        Ok(body) => body,
        Err(error) => return errors::respond(session, ctx, error).await,
    };
    let head_only = session.req_header().method == Method::HEAD;
    let mut header = ResponseHeader::build(200, Some(4))?;
    header.insert_header("x-request-id", ctx.id.as_str())?;
    header.insert_header(CONTENT_TYPE, "application/json")?;
    header.insert_header(CONTENT_LENGTH, body.len())?;
    session
        .write_response_header(Box::new(header), head_only)
        .await?;
    if head_only {
        return Ok(());
    }
    session.write_response_body(Some(body), true).await
}

fn body(shared: &Shared, ctx: &Context, kind: LocalKind) -> std::result::Result<Bytes, TurnError> {
    let models = || Models::of(shared, ctx.principal.as_deref());
    Ok(match kind {
        LocalKind::Models => models().list(ctx.dialect),
        LocalKind::Model(id) => models()
            .find(&id, shared, ctx.principal.as_deref())
            .ok_or(TurnError::UnknownModel(id))?
            .one(ctx.dialect),
        LocalKind::Health if shared.fleet.any_ready() && !shared.is_draining() => {
            Bytes::from_static(br#"{"status":"ok"}"#)
        }
        LocalKind::Health => {
            return Err(TurnError::Loading {
                retry_after: Duration::from_secs(2),
            });
        }
        LocalKind::Root => Bytes::from_static(
            concat!(
                r#"{"name":"drover","version":""#,
                env!("CARGO_PKG_VERSION"),
                r#""}"#
            )
            .as_bytes(),
        ),
    })
}
