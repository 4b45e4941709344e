//! Where a backend is: the `url` of its configuration, read.

use std::path::{Path, PathBuf};

use url::{Host, Url};

/// Longest path of a socket in bytes: what Linux's `sockaddr_un` holds, with the zero at its end.
const SOCKET_PATH_MAX: usize = 107;

/// The address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `http://…` or `https://…`.
    Url(Url),
    /// `unix:/path`: a socket of this machine, which speaks HTTP without TLS.
    Socket(PathBuf),
}

impl Endpoint {
    /// Reads what the configuration says.
    ///
    /// # Errors
    /// What is wrong with it, in words for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) => socket(path).map(Self::Socket),
            None => url(text).map(Self::Url),
        }
    }

    /// Name of a backend that was given none: `host:port`, or the file name of the socket.
    pub fn default_name(&self) -> String {
        match self {
            Self::Url(url) => format!(
                "{}:{}",
                url.host_str().unwrap_or_default(),
                url.port_or_known_default().unwrap_or_default()
            ),
            Self::Socket(path) => {
                let name = path.file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            }
        }
    }
}

fn socket(path: &str) -> Result<PathBuf, String> {
    let mistake = if !path.starts_with('/') {
        "a socket is named by its whole path, as in `unix:/run/llama.sock`"
    } else if path.len() > SOCKET_PATH_MAX {
        "the path of a socket has at most 107 bytes"
    } else if path.contains('\0') {
        "a path has no zero bytes"
    } else if Path::new(path).file_name().is_none() || path.ends_with('/') {
        "this is a directory, not a socket"
    } else {
        return Ok(PathBuf::from(path));
    };
    Err(mistake.to_owned())
}

fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is no URL: {error}"))?;
    let mistake = if !matches!(url.scheme(), "http" | "https") {
        "only http, https and unix backends exist"
    } else if url.scheme() == "https" && cfg!(not(feature = "tls")) {
        "this drover was built without TLS (cargo feature `tls`)"
    } else if !url.username().is_empty() || url.password().is_some() {
        "no credentials belong in the URL; name the server's key in `api_key_env`"
    } else if url.query().is_some() || url.fragment().is_some() {
        "a backend's URL has no query and no fragment"
    } else if url.port() == Some(0) {
        "port 0 cannot be connected to"
    } else if matches!(url.host(), None | Some(Host::Domain(""))) {
        "the host is missing"
    } else {
        return Ok(url);
    };
    Err(mistake.to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://gpu", "gpu:80")]
    #[case("http://[::1]:9", "[::1]:9")]
    #[case("https://gpu/llm", "gpu:443")]
    #[case("unix:/run/llama/gpu0.sock", "gpu0.sock")]
    #[case("unix:///run/llama/gpu0.sock", "gpu0.sock")]
    fn names_of_the_nameless(#[case] text: &str, #[case] name: &str) {
        assert_eq!(Endpoint::parse(text).unwrap().default_name(), name);
    }

    #[test]
    fn the_path_of_a_socket_stays_as_it_is_written() {
        let parsed = Endpoint::parse("unix:/run/my llama?/a%20b.sock");
        let path = PathBuf::from("/run/my llama?/a%20b.sock");
        assert_eq!(parsed, Ok(Endpoint::Socket(path)));
    }

    #[rstest]
    #[case("unix:", "whole path")]
    #[case("unix:llama.sock", "whole path")]
    #[case("unix:/", "directory")]
    #[case("unix:/run/", "directory")]
    #[case("gpu:8081", "only http, https and unix")]
    #[case("http://", "no URL")]
    fn mistakes(#[case] text: &str, #[case] part: &str) {
        let error = Endpoint::parse(text).unwrap_err();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn a_path_the_kernel_cannot_hold_is_a_mistake() {
        let of = |length: usize| Endpoint::parse(&format!("unix:/{}", "x".repeat(length - 1)));
        assert!(of(SOCKET_PATH_MAX).is_ok());
        assert!(of(SOCKET_PATH_MAX + 1).is_err());
    }
}
