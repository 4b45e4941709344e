//! Where a backend is: the parts of its URL.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::SocketAddr as UnixAddr;

use url::{Host, Url};

use super::FleetError;
use crate::config::Endpoint;

/// What to connect to.
#[derive(Clone, Debug)]
pub(super) enum Site {
    /// An address.
    Address(SocketAddr),
    /// A hostname, which has to be resolved, and a port.
    Named(String, u16),
    /// A socket of this machine.
    Socket(UnixAddr),
}

impl PartialEq for Site {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(a), Self::Address(b)) => a == b,
            (Self::Named(a, p), Self::Named(b, q)) => (a, p) == (b, q),
            (Self::Socket(a), Self::Socket(b)) => a.as_pathname() == b.as_pathname(),
            _ => false,
        }
    }
}

/// The parts of a backend's URL.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// The name to ask a TLS certificate for; `None`: no TLS.
    pub(super) tls: Option<String>,
    /// What to connect to.
    pub(super) site: Site,
    /// Value of the `Host` header: the port is named unless it is the scheme's own.
    pub(super) host_header: String,
    /// Path before every request path: empty, or `/prefix` without a slash at its end.
    pub(super) base_path: String,
    /// Name of a backend that was given none.
    pub(super) default_name: String,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, FleetError> {
        let bad = |reason: String| FleetError::Url {
            url: text.to_owned(),
            reason,
        };
        let endpoint = Endpoint::parse(text).map_err(bad)?;
        let default_name = endpoint.default_name();
        match endpoint {
            Endpoint::Url(url) => Self::of_url(&url, default_name).map_err(bad),
            Endpoint::Socket(path) => Ok(Self {
                tls: None,
                site: Site::Socket(
                    UnixAddr::from_pathname(path).map_err(|error| bad(error.to_string()))?,
                ),
                // As curl says it; HTTP/1.1 wants one, and llama-server does not look at it.
                host_header: "localhost".to_owned(),
                base_path: String::new(),
                default_name,
            }),
        }
    }

    fn of_url(url: &Url, default_name: String) -> Result<Self, String> {
        let port = url.port_or_known_default().ok_or("the port is missing")?;
        let (host, site) = match url.host().ok_or("the host is missing")? {
            Host::Domain(name) => (name.to_owned(), Site::Named(name.to_owned(), port)),
            Host::Ipv4(ip) => (ip.to_string(), at(ip.into(), port)),
            Host::Ipv6(ip) => (ip.to_string(), at(ip.into(), port)),
        };
        let shown = url.host_str().unwrap_or_default();
        Ok(Self {
            tls: (url.scheme() == "https").then_some(host),
            site,
            host_header: match url.port() {
                Some(port) => format!("{shown}:{port}"),
                None => shown.to_owned(),
            },
            base_path: url.path().trim_end_matches('/').to_owned(),
            default_name,
        })
    }

    /// Whether it is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        match &self.site {
            Site::Address(address) => address.ip().is_loopback(),
            Site::Named(host, _) => host.eq_ignore_ascii_case("localhost"),
            Site::Socket(_) => true,
        }
    }

    /// Where it is, for people and for commands: host, port and path, or `unix:/path`.
    pub(super) fn shown(&self) -> String {
        match &self.site {
            Site::Socket(socket) => {
                let path = socket.as_pathname().unwrap_or(std::path::Path::new(""));
                format!("unix:{}", path.display())
            }
            Site::Address(_) | Site::Named(..) => format!("{}{}", self.host_header, self.base_path),
        }
    }
}

fn at(ip: IpAddr, port: u16) -> Site {
    Site::Address(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn named(host: &str, port: u16) -> Site {
        Site::Named(host.to_owned(), port)
    }

    fn literal(address: &str) -> Site {
        Site::Address(address.parse().unwrap())
    }

    #[rstest]
    #[case(
        "http://127.0.0.1:8081",
        None,
        literal("127.0.0.1:8081"),
        "127.0.0.1:8081",
        ""
    )]
    #[case("http://gpu:8081/", None, named("gpu", 8081), "gpu:8081", "")]
    #[case("http://gpu", None, named("gpu", 80), "gpu", "")]
    #[case("https://gpu/llm/a/", Some("gpu"), named("gpu", 443), "gpu", "/llm/a")]
    #[case("http://[::1]:9", None, literal("[::1]:9"), "[::1]:9", "")]
    fn parts(
        #[case] url: &str,
        #[case] tls: Option<&str>,
        #[case] site: Site,
        #[case] host_header: &str,
        #[case] base_path: &str,
    ) {
        let target = Target::parse(url).unwrap();
        assert_eq!((target.tls.as_deref(), &target.site), (tls, &site));
        assert_eq!(target.host_header, host_header);
        assert_eq!(target.base_path, base_path);
        assert_eq!(target.shown(), format!("{host_header}{base_path}"));
    }

    #[test]
    fn a_socket_is_on_this_machine_and_shown_by_its_path() {
        let target = Target::parse("unix:/run/llama.sock").unwrap();
        assert!(target.is_loopback() && target.tls.is_none());
        assert_eq!(target.shown(), "unix:/run/llama.sock");
        assert_eq!(target, Target::parse("unix:/run/llama.sock").unwrap());
        assert_ne!(target, Target::parse("unix:/run/other.sock").unwrap());
    }

    #[rstest]
    #[case("gpu:8081")]
    #[case("unix:tmp/x")]
    #[case("http://")]
    fn no_backends(#[case] url: &str) {
        assert!(Target::parse(url).is_err());
    }
}
