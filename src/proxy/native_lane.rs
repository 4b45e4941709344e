//! Paths that are passed through by Pingora's native phases (`fleet.passthrough`).
//!
//! A JSON body loses the fields that may not come from a client, as on the exchange lane; one that
//! cannot be read here is refused, since llama-server might read it (it skips a byte order mark, takes
//! a NUL for the end, and does not look at the content type). The transformed length is unknown when
//! the header goes out, so such a body is sent chunked.

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING,
};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::body::answer_expectation;
use super::context::{Context, Native};
use super::{Shared, auth, headers, sessions, spec};
use crate::dialect::json::{self, Members, ObjectWriter};
use crate::dialect::llama;
use crate::exchange::no_backend;
use crate::fleet::{Failure, Wish};
use crate::turn::TurnError;

/// Find a backend before the native phases begin.
pub(super) async fn prepare(
    shared: &Shared,
    session: &mut Session,
    ctx: &mut Context,
    pool: &str,
) -> std::result::Result<(), TurnError> {
    let config = shared.config();
    if !auth::may_use(&config.auth, ctx.principal.as_deref(), pool) {
        return Err(TurnError::Forbidden(format!(
            "this key may not use pool `{pool}`"
        )));
    }
    let found = shared
        .fleet
        .pool(pool)
        .ok_or_else(|| TurnError::UnknownModel(pool.to_owned()))?;
    ctx.pool = Some(pool.into());
    let mut wish = Wish::default();
    if shared.rollouts.moves(pool) {
        // The backend is chosen before the body is there: only the header can name a session.
        sessions::passed(shared, &config, session, ctx);
        spec::side(shared, ctx, &found, &mut wish);
    }
    let lease = found
        .select_for(&[], &wish)
        .map_err(|unavailable| no_backend(pool, unavailable))?;
    session.set_write_timeout(Some(config.timeouts.write));
    // A client that has left shows when its body is read.
    let _ = answer_expectation(session).await;
    let content_type = session.req_header().headers.get(CONTENT_TYPE);
    ctx.native = Some(Native {
        lease,
        wish,
        tried: Vec::new(),
        held: BytesMut::new(),
        body_bytes: 0,
        // As cpp-httplib tells it; it hands such a body to nobody as JSON.
        is_form: content_type
            .is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/form-data")),
        body_until: Instant::now() + config.timeouts.request_body,
    });
    Ok(())
}

pub(super) fn upstream_peer(ctx: &Context) -> Result<Box<HttpPeer>> {
    let peer = ctx.native.as_ref().and_then(|native| native.lease.peer());
    peer.map(Box::new)
        .ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, "no address"))
}

/// The request a backend sees: allowed headers, its own name and key, the path under its prefix.
pub(super) fn upstream_request(
    session: &Session,
    upstream: &mut RequestHeader,
    ctx: &Context,
) -> Result<()> {
    let Some(native) = &ctx.native else {
        return Ok(());
    };
    headers::keep_request_headers(upstream);
    let lease = &native.lease;
    let path = session
        .req_header()
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str());
    upstream.set_raw_path(format!("{}{path}", lease.base_path()).as_bytes())?;
    upstream.insert_header(HOST, lease.host_header())?;
    upstream.insert_header(ACCEPT_ENCODING, "identity")?;
    if let Some(key) = lease.api_key() {
        upstream.insert_header(AUTHORIZATION, format!("Bearer {key}"))?;
    }
    if upstream
        .remove_header(&CONTENT_LENGTH)
        .is_some_and(|length| length.as_bytes() != b"0")
    {
        upstream.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    // Of several types the backend might believe another one than we did.
    let kind = upstream.headers.get(CONTENT_TYPE).cloned();
    let kind = kind.unwrap_or_else(|| HeaderValue::from_static("application/json"));
    upstream.insert_header(CONTENT_TYPE, kind)?;
    Ok(())
}

/// Hold the body until it is complete, then hand on what may pass.
pub(super) fn request_body(
    shared: &Shared,
    body: &mut Option<Bytes>,
    end_of_stream: bool,
    ctx: &mut Context,
) -> Result<()> {
    let Some(native) = &mut ctx.native else {
        return Ok(());
    };
    let most = shared.config().limits.max_body_bytes.as_u64();
    native.receive(body, end_of_stream, most).map_err(|error| {
        let status = ErrorType::HTTPStatus(error.status());
        ctx.refused = Some(error);
        Error::explain(status, "the request is refused")
    })
}

impl Native {
    /// One piece of the body, and what is handed on instead of it.
    fn receive(
        &mut self,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        most: u64,
    ) -> std::result::Result<(), TurnError> {
        if Instant::now() > self.body_until {
            return Err(TurnError::BodyTimeout);
        }
        if let Some(piece) = body.take() {
            self.body_bytes += piece.len() as u64;
            if self.body_bytes > most {
                return Err(TurnError::BodyTooLarge { limit: most });
            }
            self.held.extend_from_slice(&piece);
        }
        // An empty piece holds; none would end the upload.
        *body = Some(if !end_of_stream {
            Bytes::new()
        } else if self.is_form {
            self.held.split().freeze()
        } else {
            cleaned(self.held.split().freeze())?
        });
        Ok(())
    }
}

/// The body without what may not come from a client.
fn cleaned(body: Bytes) -> std::result::Result<Bytes, TurnError> {
    if body.is_empty() {
        return Ok(body);
    }
    if json::deeper_than(&body, json::MAX_DEPTH) {
        return Err(TurnError::bad_request("the request nests too deeply"));
    }
    let whole: &RawValue = serde_json::from_slice(&body)
        .map_err(|_| TurnError::bad_request("the request body is no JSON"))?;
    if llama::names_remote_media(whole) {
        return Err(TurnError::bad_request(llama::REMOTE_MEDIA));
    }
    if !whole.get().starts_with('{') {
        return Ok(body);
    }
    let Members(members) = serde_json::from_str(whole.get())
        .map_err(|_| TurnError::bad_request("the request body is no JSON"))?;
    for (name, value) in &members {
        llama::check(name, value)?;
    }
    if members.iter().all(|(name, _)| llama::is_forwardable(name)) {
        return Ok(body.clone());
    }
    let mut out = BytesMut::with_capacity(body.len());
    let mut object = ObjectWriter::new(&mut out);
    for (name, value) in members
        .iter()
        .filter(|(name, _)| llama::is_forwardable(name))
    {
        object.raw(name, value);
    }
    object.end();
    Ok(out.freeze())
}

/// Nothing was sent yet: try the next backend.
pub(super) fn fail_to_connect(
    shared: &Shared,
    ctx: &mut Context,
    mut error: Box<Error>,
) -> Box<Error> {
    let (Some(native), Some(pool)) = (&mut ctx.native, &ctx.pool) else {
        return error;
    };
    native.lease.observe_failure(Failure::Connect);
    native.tried.push(native.lease.id().clone());
    let Some(backends) = shared.fleet.pool(pool) else {
        return error;
    };
    match backends.select_for(&native.tried, &native.wish) {
        Ok(lease) => {
            native.lease = lease;
            error.set_retry(true);
        }
        Err(unavailable) => ctx.refused = Some(no_backend(pool, unavailable)),
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_loses_dangerous_fields_only() {
        let clean = Bytes::from_static(b"{ \"content\":\"a\" }");
        assert_eq!(cleaned(clean.clone()), Ok(clean));
        let dirty =
            Bytes::from_static(b"{\"id_slot\":0,\"content\":\"a\",\"speculative.n_max\":1}");
        let expected = Bytes::from_static(b"{\"content\":\"a\"}");
        assert_eq!(cleaned(dirty), Ok(expected));
        for other in [&b""[..], b"[1,2]", b"\"text\""] {
            assert_eq!(
                cleaned(Bytes::from_static(other)),
                Ok(Bytes::from_static(other))
            );
        }
    }

    /// llama-server reads every one of the first three, `id_slot` and all.
    #[test]
    fn what_only_the_backend_would_understand_is_refused() {
        for body in [
            &b"\xef\xbb\xbf{\"id_slot\":0,\"content\":\"a\"}"[..],
            b"{\"id_slot\":0,\"content\":\"a\"}\0",
            b"{\"id_slot\":0,\"content\":\"a\"}\0 and more",
            b"{\"id_slot\":0,\"\\ud800\":1}",
            b"not json",
            b"\xff",
        ] {
            assert!(cleaned(Bytes::from_static(body)).is_err(), "{body:?}");
        }
        let deep = [b"[".repeat(5000), b"]".repeat(5000)].concat();
        assert!(cleaned(Bytes::from(deep)).is_err());
    }
}
