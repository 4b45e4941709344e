//! Where a backend is: the parts of its URL.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use super::FleetError;

/// The parts of a backend's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Whether to speak TLS.
    pub(super) tls: bool,
    /// Hostname or address, without brackets.
    pub(super) host: String,
    /// Port, the scheme's own when the URL names none.
    pub(super) port: u16,
    /// The address when the host is one.
    pub(super) address: Option<SocketAddr>,
    /// Value of the `Host` header: the port is named unless it is the scheme's own.
    pub(super) host_header: String,
    /// Path before every request path: empty, or `/prefix` without a slash at its end.
    pub(super) base_path: String,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, FleetError> {
        let bad = |reason: &str| FleetError::Url {
            url: text.to_owned(),
            reason: reason.to_owned(),
        };
        let url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(bad("only http and https backends exist")),
        };
        let (host, ip) = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => (name.to_owned(), None),
            Some(Host::Ipv4(ip)) => (ip.to_string(), Some(IpAddr::V4(ip))),
            Some(Host::Ipv6(ip)) => (ip.to_string(), Some(IpAddr::V6(ip))),
            _ => return Err(bad("the host is missing")),
        };
        let port = url
            .port_or_known_default()
            .ok_or_else(|| bad("the port is missing"))?;
        let shown = url.host_str().unwrap_or_default();
        Ok(Self {
            tls,
            address: ip.map(|ip| SocketAddr::new(ip, port)),
            host,
            port,
            host_header: match url.port() {
                Some(port) => format!("{shown}:{port}"),
                None => shown.to_owned(),
            },
            base_path: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Name of a backend that was given none.
    pub(super) fn default_name(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "http://127.0.0.1:8081",
        false,
        "127.0.0.1",
        8081,
        true,
        "127.0.0.1:8081",
        ""
    )]
    #[case("http://gpu:8081/", false, "gpu", 8081, false, "gpu:8081", "")]
    #[case("http://gpu", false, "gpu", 80, false, "gpu", "")]
    #[case("https://gpu/llm/a/", true, "gpu", 443, false, "gpu", "/llm/a")]
    #[case("http://[::1]:9", false, "::1", 9, true, "[::1]:9", "")]
    fn parts(
        #[case] url: &str,
        #[case] tls: bool,
        #[case] host: &str,
        #[case] port: u16,
        #[case] literal: bool,
        #[case] host_header: &str,
        #[case] base_path: &str,
    ) {
        let target = Target::parse(url).unwrap();
        assert_eq!((target.tls, &*target.host, target.port), (tls, host, port));
        assert_eq!(target.address.is_some(), literal);
        assert_eq!(target.host_header, host_header);
        assert_eq!(target.base_path, base_path);
    }

    #[rstest]
    #[case("gpu:8081")]
    #[case("unix:/tmp/x")]
    #[case("http://")]
    fn no_backends(#[case] url: &str) {
        assert!(Target::parse(url).is_err());
    }

    #[test]
    fn names_of_the_nameless() {
        let name = |url| Target::parse(url).unwrap().default_name();
        assert_eq!(name("http://gpu"), "gpu:80");
        assert_eq!(name("http://[::1]:9"), "[::1]:9");
    }
}
