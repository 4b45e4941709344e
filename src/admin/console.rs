//! The console: a page, its style and its scripts, all of them in the binary.

use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::reply::{self, Reply};

/// Path below `/console/`, type, contents.
const FILES: &[(&str, &str, &str)] = &[
    (
        "",
        "text/html; charset=utf-8",
        include_str!("console/index.html"),
    ),
    (
        "style.css",
        "text/css; charset=utf-8",
        include_str!("console/style.css"),
    ),
    (
        "app.js",
        "text/javascript; charset=utf-8",
        include_str!("console/app.js"),
    ),
    (
        "api.js",
        "text/javascript; charset=utf-8",
        include_str!("console/api.js"),
    ),
    (
        "dom.js",
        "text/javascript; charset=utf-8",
        include_str!("console/dom.js"),
    ),
    (
        "preact.js",
        "text/javascript; charset=utf-8",
        include_str!("console/preact.js"),
    ),
    (
        "rollouts.js",
        "text/javascript; charset=utf-8",
        include_str!("console/rollouts.js"),
    ),
    (
        "views.js",
        "text/javascript; charset=utf-8",
        include_str!("console/views.js"),
    ),
];

/// Nothing from elsewhere, nothing inline, no frame around it: what a text of a client or of a model
/// may say in here stays text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether somebody with these headers wants to see a page.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Whether there is such a file. The files hold no secret and need no token: they ask for it.
pub(super) fn has(name: &str) -> bool {
    FILES.iter().any(|(file, ..)| *file == name)
}

pub(super) fn show(name: &str) -> Reply {
    let Some((_, kind, contents)) = FILES.iter().find(|(file, ..)| *file == name) else {
        return reply::error(StatusCode::NOT_FOUND, "not_found", "no such file");
    };
    let mut reply = reply::bytes(StatusCode::OK, kind, contents.as_bytes().to_vec());
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    reply
}

/// To the page.
pub(super) fn redirect() -> Reply {
    let mut reply = reply::bytes(StatusCode::FOUND, "text/plain", Vec::new());
    let to = HeaderValue::from_static("/console/");
    reply.headers_mut().insert(header::LOCATION, to);
    reply
}
