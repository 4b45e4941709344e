//! Telling a client what went wrong, outside of an exchange.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{FailToProxy, Session};
use tokio::time::timeout;

use super::context::Context;
use crate::dialect::error;
use crate::turn::TurnError;

/// Answer with an error as a whole response.
pub(super) async fn respond(
    session: &mut Session,
    ctx: &mut Context,
    error: TurnError,
) -> Result<()> {
    ctx.error = Some(error.kind());
    let body = error::body(ctx.dialect, &error).freeze();
    let mut header = ResponseHeader::build(error::status(ctx.dialect, &error), Some(6))?;
    header.insert_header("x-request-id", ctx.id.as_str())?;
    if let Some(session) = ctx.session {
        header.insert_header("x-drover-session", session.to_string())?;
    }
    header.insert_header(CONTENT_TYPE, "application/json")?;
    header.insert_header(CONTENT_LENGTH, body.len())?;
    if let Some(after) = error.retry_after() {
        header.insert_header(RETRY_AFTER, after.as_secs().max(1))?;
    }
    // What is left of a body that was not read must not be taken for the next request.
    let unread = !session.is_body_done();
    if unread || matches!(error, TurnError::Draining) {
        session.set_keepalive(None);
        header.insert_header(CONNECTION, "close")?;
    }
    session
        .write_response_header(Box::new(header), false)
        .await?;
    session.write_response_body(Some(body), true).await?;
    if unread {
        linger(session).await;
    }
    Ok(())
}

/// A client that is still sending may lose the answer: on HTTP/1 the kernel resets a connection
/// closed with unread data (RFC 9112 §9.6), on HTTP/2 the stream is reset before the answer has left.
async fn linger(session: &mut Session) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let rest = async { while let Ok(Some(_)) = session.read_request_body().await {} };
    let _ = timeout(PATIENCE, rest).await;
}

/// Pingora gave up on a request: say so in the client's dialect while that is possible.
pub(super) async fn fail_to_proxy(
    session: &mut Session,
    error: &Error,
    ctx: &mut Context,
) -> FailToProxy {
    let source = error.esource();
    if *source == ErrorSource::Downstream {
        ctx.gone = true;
    }
    // A 100 counts as written, but is not an answer.
    let answered = session
        .response_written()
        .is_some_and(|h| !h.status.is_informational());
    let mut error_code = 0;
    if !ctx.client_gone() && !answered {
        let refused = ctx.refused.take();
        let told = refused.unwrap_or_else(|| translate(error, source));
        error_code = told.status();
        if respond(session, ctx, told).await.is_err() {
            ctx.gone = true;
        }
    }
    if ctx.error.is_none() && !ctx.client_gone() {
        ctx.error = Some("upstream");
    }
    FailToProxy {
        error_code,
        can_reuse_downstream: false,
    }
}

fn translate(error: &Error, source: &ErrorSource) -> TurnError {
    match (error.etype(), source) {
        (ErrorType::HTTPStatus(code), _) if (400..500).contains(code) => {
            TurnError::bad_request(format!("the request was refused ({code})"))
        }
        (kind, ErrorSource::Upstream) => {
            TurnError::Upstream(format!("the backend failed: {}", kind.as_str()))
        }
        (kind, _) => TurnError::Internal(kind.as_str().to_owned()),
    }
}
