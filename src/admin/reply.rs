//! Answers of the admin address.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

/// A complete answer.
pub(super) type Reply = Response<Vec<u8>>;

/// `value` as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(status, "application/json", body),
        Err(error) => {
            tracing::error!(%error, "an admin answer does not serialise");
            let body =
                br#"{"error":{"type":"internal","message":"the answer does not serialise"}}"#;
            bytes(
                StatusCode::INTERNAL_SERVER_ERROR,
                "application/json",
                body.to_vec(),
            )
        }
    }
}

/// `body` of the given type, never cached, never guessed to be another type.
pub(super) fn bytes(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Reply {
    let length = HeaderValue::from(body.len());
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    reply
}

/// An error: `{"error": {"type", "message"}}`.
pub(super) fn error(status: StatusCode, kind: &'static str, message: &str) -> Reply {
    json(
        status,
        &json!({ "error": { "type": kind, "message": message } }),
    )
}

/// 401 with the scheme to use.
pub(super) fn unauthorized() -> Reply {
    let mut reply = error(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "send the admin token: Authorization: Bearer …",
    );
    let scheme = HeaderValue::from_static("Bearer realm=\"drover admin\"");
    reply.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    reply
}

/// 405 with the methods there are.
pub(super) fn method_not_allowed(allow: &'static str) -> Reply {
    let mut reply = error(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        &format!("use {allow}"),
    );
    reply
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allow));
    reply
}
