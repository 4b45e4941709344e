//! Who may use the admin address.
//!
//! Without a token it serves loopback only, and then a browser on the same machine is the danger:
//! a web page may send requests there. A page cannot choose `Host` (so a name that was rebound to
//! 127.0.0.1 shows) and cannot hide its `Origin` on a state-changing request.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The bearer token is missing or wrong.
    Token,
    /// `Host` names something that is not this machine.
    Host,
    /// A page of another origin asks to change something.
    Origin,
}

/// The rule for one admin address.
#[derive(Clone)]
pub(super) enum Access {
    /// Loopback without a token: the `Host` must be loopback.
    Loopback,
    /// A bearer token, kept and compared as its SHA-256, which has one length for all tokens.
    Token([u8; 32]),
}

impl Access {
    /// `token` for any address; `None` is only for an address on loopback, anything else would be
    /// open to everybody and gives `None`.
    pub(super) fn new(addr: IpAddr, token: Option<&str>) -> Option<Self> {
        match token {
            Some(token) => Some(Self::Token(Sha256::digest(token).into())),
            None if addr.is_loopback() => Some(Self::Loopback),
            None => None,
        }
    }

    pub(super) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        match self {
            Self::Loopback if !is_loopback_host(headers) => return Err(Refusal::Host),
            Self::Token(expected) if !has_token(headers, expected) => return Err(Refusal::Token),
            _ => {}
        }
        if method.is_safe() || !is_foreign(headers) {
            Ok(())
        } else {
            Err(Refusal::Origin)
        }
    }
}

fn has_token(headers: &HeaderMap, expected: &[u8; 32]) -> bool {
    let Some(value) = headers.get(AUTHORIZATION).map(|v| v.as_bytes()) else {
        return false;
    };
    // The scheme is case-insensitive (RFC 9110 §11.1).
    let Some((scheme, token)) = value.split_at_checked(b"bearer ".len()) else {
        return false;
    };
    let given: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
    scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(given.ct_eq(expected))
}

/// Absent is allowed: only HTTP/1.0 tools leave it out, browsers never do.
fn is_loopback_host(headers: &HeaderMap) -> bool {
    headers.get_all(HOST).iter().all(|host| {
        host.to_str()
            .ok()
            .and_then(|host| host.parse::<http::uri::Authority>().ok())
            .is_some_and(|authority| is_loopback_name(authority.host()))
    })
}

fn is_loopback_name(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// True when a browser says that a page of another origin sent this request. Requests without
/// either header do not come from a page.
fn is_foreign(headers: &HeaderMap) -> bool {
    static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let text = |name| {
        headers
            .get(name)
            .map(|v: &http::HeaderValue| v.to_str().unwrap_or(""))
    };
    let host = text(&HOST);
    let foreign_origin = text(&ORIGIN).is_some_and(|origin| {
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        // `null` and everything else without an authority is foreign.
        authority
            .zip(host)
            .is_none_or(|(authority, host)| !authority.eq_ignore_ascii_case(host))
    });
    let foreign_fetch =
        text(&SEC_FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none");
    foreign_origin || foreign_fetch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        access: &Access,
        method: Method,
        headers: &[(&'static str, &str)],
    ) -> Result<(), Refusal> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        access.check(&method, &headers)
    }

    fn loopback() -> Access {
        Access::new("127.0.0.1".parse().unwrap(), None).unwrap()
    }

    #[test]
    fn beyond_loopback_there_is_no_access_without_a_token() {
        assert!(Access::new("0.0.0.0".parse().unwrap(), None).is_none());
        assert!(Access::new("10.0.0.1".parse().unwrap(), None).is_none());
        assert!(Access::new("10.0.0.1".parse().unwrap(), Some("t")).is_some());
        assert!(Access::new("::1".parse().unwrap(), None).is_some());
    }

    #[test]
    fn the_token_must_match() {
        let access = Access::new("10.0.0.1".parse().unwrap(), Some("s3cret")).unwrap();
        let with = |value| check(&access, Method::GET, &[("authorization", value)]);
        assert_eq!(with("Bearer s3cret"), Ok(()));
        assert_eq!(with("bearer s3cret"), Ok(()));
        assert_eq!(with("Bearer s3cre"), Err(Refusal::Token));
        assert_eq!(with("Bearer s3cret2"), Err(Refusal::Token));
        assert_eq!(with("Bearer "), Err(Refusal::Token));
        assert_eq!(with("Basic s3cret"), Err(Refusal::Token));
        assert_eq!(with("s3cret"), Err(Refusal::Token));
        assert_eq!(check(&access, Method::GET, &[]), Err(Refusal::Token));
    }

    #[test]
    fn with_a_token_any_host_is_fine() {
        let access = Access::new("10.0.0.1".parse().unwrap(), Some("t")).unwrap();
        let headers = [
            ("authorization", "Bearer t"),
            ("host", "drover.internal:9090"),
        ];
        assert_eq!(check(&access, Method::GET, &headers), Ok(()));
    }

    #[test]
    fn a_rebound_name_is_refused_on_loopback() {
        for host in [
            "127.0.0.1:9090",
            "localhost:9090",
            "LOCALHOST",
            "[::1]:9090",
            "127.8.8.8",
        ] {
            assert_eq!(
                check(&loopback(), Method::GET, &[("host", host)]),
                Ok(()),
                "{host}"
            );
        }
        for host in [
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.1:9090",
            "",
            "localhost@evil.example",
        ] {
            let refused = check(&loopback(), Method::GET, &[("host", host)]);
            assert_eq!(refused, Err(Refusal::Host), "{host}");
        }
    }

    #[test]
    fn two_hosts_must_both_be_loopback() {
        let mut headers = HeaderMap::new();
        headers.append(HOST, "localhost".parse().unwrap());
        headers.append(HOST, "evil.example".parse().unwrap());
        assert_eq!(loopback().check(&Method::GET, &headers), Err(Refusal::Host));
    }

    #[test]
    fn pages_of_other_origins_change_nothing() {
        let host = ("host", "127.0.0.1:9090");
        let post = |more: &[(&'static str, &str)]| {
            check(&loopback(), Method::POST, &[&[host], more].concat())
        };
        assert_eq!(post(&[]), Ok(()), "a tool sends no Origin");
        assert_eq!(post(&[("origin", "http://127.0.0.1:9090")]), Ok(()));
        assert_eq!(post(&[("sec-fetch-site", "same-origin")]), Ok(()));
        for origin in ["http://evil.example", "http://127.0.0.1:8080", "null", ""] {
            assert_eq!(
                post(&[("origin", origin)]),
                Err(Refusal::Origin),
                "{origin}"
            );
        }
        assert_eq!(
            post(&[("sec-fetch-site", "cross-site")]),
            Err(Refusal::Origin)
        );
        assert_eq!(
            post(&[("sec-fetch-site", "same-site")]),
            Err(Refusal::Origin)
        );
        assert_eq!(
            check(
                &loopback(),
                Method::GET,
                &[host, ("origin", "http://evil.example")]
            ),
            Ok(()),
            "reading is protected by the browser: no CORS header is ever sent"
        );
    }
}
