//! Who is asking.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, ORIGIN};
use http::uri::Authority;
use pingora_http::RequestHeader;
use subtle::ConstantTimeEq;

use crate::config::{ApiKey, Auth};
use crate::turn::TurnError;

/// The name of the key a request carries; none when the gateway asks for no keys.
///
/// # Errors
/// [`TurnError::Unauthorized`] without a valid key.
pub(super) fn principal(auth: &Auth, request: &RequestHeader) -> Result<Option<String>, TurnError> {
    if auth.keys.is_empty() {
        return Ok(None);
    }
    let secret = presented(request).ok_or(TurnError::Unauthorized)?;
    let digest = ApiKey::digest_of(secret);
    let mut found = None;
    // Every key is compared, and each in constant time: the answer's timing tells nothing.
    for key in &auth.keys {
        if key
            .digest()
            .is_some_and(|known| bool::from(known.ct_eq(&digest)))
        {
            found = Some(key.name.clone());
        }
    }
    found.map(Some).ok_or(TurnError::Unauthorized)
}

/// Agents send `Authorization: Bearer` or, in Anthropic's manner, `x-api-key`.
fn presented(request: &RequestHeader) -> Option<&[u8]> {
    if let Some(value) = request.headers.get(AUTHORIZATION) {
        let value = value.as_bytes();
        let scheme = value.get(..7)?;
        return scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| value[7..].trim_ascii());
    }
    request
        .headers
        .get("x-api-key")
        .map(|value| value.as_bytes().trim_ascii())
}

/// Whether a browser says that a page from elsewhere sent this. Without keys such a page could use
/// the gateway, and by rebinding its own name to loopback read the answers; it cannot leave `Origin`
/// out of a POST. Pages of this machine may, and so may extensions and desktop applications, whose
/// origins no page can have.
pub(super) fn is_from_foreign_page(request: &RequestHeader) -> bool {
    request.headers.get_all(ORIGIN).iter().any(|origin| {
        let Some((scheme, rest)) = origin.to_str().ok().and_then(|o| o.split_once("://")) else {
            // `null` is what a sandboxed frame of any page sends.
            return true;
        };
        if !matches!(scheme, "http" | "https") {
            return false;
        }
        let host = rest.parse::<Authority>().ok();
        !host.is_some_and(|authority| is_loopback_name(authority.host()))
    })
}

fn is_loopback_name(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the key named `principal` may use `pool`.
pub(super) fn may_use(auth: &Auth, principal: Option<&str>, pool: &str) -> bool {
    let Some(name) = principal else { return true };
    let key = auth.keys.iter().find(|key| key.name == name);
    key.is_some_and(|key| key.pools.iter().any(|pattern| glob_matches(pattern, pool)))
}

fn glob_matches(pattern: &str, name: &str) -> bool {
    pattern == "*"
        || pattern == name
        || globset::Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_from_elsewhere_are_told_by_their_origin() {
        let foreign = |origin: &str| {
            let mut request = RequestHeader::build("POST", b"/", None).unwrap();
            request.insert_header(ORIGIN, origin).unwrap();
            is_from_foreign_page(&request)
        };
        for origin in [
            "http://evil.example",
            "https://evil.example:8080",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
            "http://192.168.0.1",
            "null",
            "",
        ] {
            assert!(foreign(origin), "{origin}");
        }
        for origin in [
            "http://localhost:3000",
            "http://127.0.0.1",
            "https://[::1]:8443",
            "vscode-webview://0abc",
            "chrome-extension://abc",
        ] {
            assert!(!foreign(origin), "{origin}");
        }
        let plain = RequestHeader::build("POST", b"/", None).unwrap();
        assert!(!is_from_foreign_page(&plain), "programs send no Origin");
    }
}
