//! Who is asking.

use http::header::AUTHORIZATION;
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
