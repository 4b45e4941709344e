//! What passes in request and response headers, both ways by allow-list.

use http::HeaderName;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING,
};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::Shared;
use super::context::Context;
use crate::turn::TurnError;

/// Client headers a backend may see on the native lane. No credential, no `X-Conversation-Id` (it
/// makes a generation replayable by whoever knows the id), no proxy chain.
const REQUEST: &[HeaderName] = &[ACCEPT, CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING];

/// Backend headers a client may see on the native lane.
const RESPONSE: &[HeaderName] = &[
    CACHE_CONTROL,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    RETRY_AFTER,
    TRANSFER_ENCODING,
];

/// Refuse what is ambiguous or too large before anything else looks at it.
pub(super) fn check(session: &Session, shared: &Shared) -> std::result::Result<(), TurnError> {
    let request = session.req_header();
    if request.headers.contains_key(TRANSFER_ENCODING) && announces_length(session) {
        return Err(TurnError::bad_request(
            "both Content-Length and Transfer-Encoding are given",
        ));
    }
    let limit = shared.config().limits.max_header_bytes.as_u64();
    let size: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if (size + request.uri.to_string().len()) as u64 > limit {
        return Err(TurnError::HeaderTooLarge { limit });
    }
    Ok(())
}

/// RFC 9112 §6.3 lets a proxy pick one of the two, and Pingora has dropped the length by now;
/// refusing leaves nothing for anybody to disagree about. Hence a look at the header as it came.
fn announces_length(session: &Session) -> bool {
    const NAME: &[u8] = b"content-length:";
    let raw = session.downstream_session.to_h1_raw();
    raw.split(|byte| *byte == b'\n').any(|line| {
        line.get(..NAME.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(NAME))
    })
}

/// Leave only what a backend may see.
pub(super) fn keep_request_headers(upstream: &mut RequestHeader) {
    let doomed: Vec<HeaderName> = upstream
        .headers
        .keys()
        .filter(|name| !REQUEST.contains(name))
        .cloned()
        .collect();
    for name in doomed {
        upstream.remove_header(&name);
    }
}

/// Leave only what a client may see, and say who answered.
pub(super) fn native_response(upstream: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    let doomed: Vec<HeaderName> = upstream
        .headers
        .keys()
        .filter(|name| !RESPONSE.contains(name))
        .cloned()
        .collect();
    for name in doomed {
        upstream.remove_header(&name);
    }
    upstream.insert_header("x-request-id", ctx.id.as_str())?;
    if let Some(native) = &ctx.native {
        upstream.insert_header("x-drover-backend", native.lease.id().as_str())?;
    }
    Ok(())
}
