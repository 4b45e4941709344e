//! Asking the API server.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora_core::Error;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use tokio::time::timeout;
use url::Url;

use crate::config::KubernetesSource;

/// Where a pod finds what it needs to talk to the API server.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Longest time to connect, and to wait for the head of an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The API server, as one source asks it.
pub(super) struct Api {
    connector: Connector,
    server: Url,
    host: String,
    port: u16,
    token_file: PathBuf,
    path: String,
}

/// The answer to a question, its body still to be read.
pub(super) struct Answer {
    session: HttpSession,
    status: u16,
}

impl Api {
    /// # Errors
    /// The environment of a pod is not there, or the authority's certificate cannot be read.
    pub(super) async fn of(source: &KubernetesSource) -> Result<Self, String> {
        let server = match &source.server {
            Some(server) => server.clone(),
            None => in_cluster()?,
        };
        let server = Url::parse(&server).map_err(|error| format!("`{server}`: {error}"))?;
        let namespace = match &source.namespace {
            Some(namespace) => namespace.clone(),
            None => read(&format!("{ACCOUNT}/namespace").into()).await?,
        };
        let of_account = |name: &str| PathBuf::from(format!("{ACCOUNT}/{name}"));
        let mut options = ConnectorOptions::new(1);
        if server.scheme() == "https" {
            let ca_file = source.ca_file.clone();
            options.ca_file = Some(authority(ca_file.unwrap_or_else(|| of_account("ca.crt")))?);
        }
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair(
                "labelSelector",
                &format!("kubernetes.io/service-name={}", source.service),
            )
            .finish();
        let token_file = source.token_file.clone();
        Ok(Self {
            connector: Connector::new(Some(options)),
            host: server.host_str().unwrap_or_default().to_owned(),
            port: server.port_or_known_default().unwrap_or(443),
            server,
            token_file: token_file.unwrap_or_else(|| of_account("token")),
            path: format!(
                "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{query}"
            ),
        })
    }

    /// Asks for the slices, with `more` of the query, which begins with `&`. Statuses that mean "list anew" are
    /// answers too.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn get(&self, more: &str) -> Result<Answer, String> {
        let asked = async {
            let session = self.ask(more).await?;
            let status = session.response_header().map(|header| header.status);
            Ok::<_, String>(Answer {
                status: status.map_or(0, |status| status.as_u16()),
                session,
            })
        };
        let answer = timeout(PATIENCE, asked).await;
        let answer = answer.map_err(|_| format!("the API server is silent for {PATIENCE:?}"))??;
        match answer.status {
            200 | 410 => Ok(answer),
            status => Err(format!("the API server answers {status}")),
        }
    }

    async fn ask(&self, more: &str) -> Result<HttpSession, String> {
        let tls = self.server.scheme() == "https";
        let host = self.host.trim_matches(['[', ']']);
        let found = tokio::net::lookup_host((host, self.port)).await;
        let address = found.map_err(|error| format!("`{host}`: {error}"))?.next();
        let address = address.ok_or_else(|| format!("`{host}` has no address"))?;
        let peer = HttpPeer::new(address, tls, host.to_owned());
        let token = match tls {
            true => Some(read(&self.token_file).await?),
            false => None,
        };
        let request = self.request(more, token.as_deref());
        let asked = async {
            let (mut session, _) = self.connector.get_http_session(&peer).await?;
            session.write_request_header(Box::new(request?)).await?;
            session.finish_request_body().await?;
            session.read_response_header().await?;
            Ok::<_, Box<Error>>(session)
        };
        let session = asked.await;
        session.map_err(|error| format!("the API server: {error}"))
    }

    fn request(&self, more: &str, token: Option<&str>) -> pingora_core::Result<RequestHeader> {
        let path = format!("{}{more}", self.path);
        let mut request = RequestHeader::build("GET", path.as_bytes(), Some(5))?;
        request.insert_header("Host", format!("{}:{}", self.host, self.port))?;
        request.insert_header("User-Agent", concat!("drover/", env!("CARGO_PKG_VERSION")))?;
        request.insert_header("Accept", "application/json")?;
        request.insert_header("Connection", "close")?;
        if let Some(token) = token {
            request.insert_header("Authorization", format!("Bearer {token}"))?;
        }
        Ok(request)
    }
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// The next piece of the body, `None` at its end.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, String> {
        let piece = self.session.read_response_body().await;
        piece.map_err(|error| format!("the API server's answer breaks off: {error}"))
    }

    /// All of the body.
    ///
    /// # Errors
    /// The connection broke or stalled, or there is more than `most` bytes of it.
    pub(super) async fn whole(mut self, most: usize) -> Result<Bytes, String> {
        let read = async {
            let mut body = BytesMut::new();
            while let Some(piece) = self.piece().await? {
                if body.len() + piece.len() > most {
                    return Err(format!(
                        "the API server's answer is longer than {most} bytes"
                    ));
                }
                body.extend_from_slice(&piece);
            }
            Ok(body.freeze())
        };
        let read = timeout(PATIENCE, read).await;
        read.map_err(|_| format!("the API server's answer takes longer than {PATIENCE:?}"))?
    }
}

fn in_cluster() -> Result<String, String> {
    let var = |name: &str| {
        std::env::var(name)
            .map_err(|_| format!("{name} is not set: is this a pod? name the `server`"))
    };
    let host = var("KUBERNETES_SERVICE_HOST")?;
    let port = var("KUBERNETES_SERVICE_PORT")?;
    Ok(match host.contains(':') {
        true => format!("https://[{host}]:{port}"),
        false => format!("https://{host}:{port}"),
    })
}

async fn read(path: &PathBuf) -> Result<String, String> {
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// Pingora panics at a file it cannot use, so it is tried first.
#[cfg(feature = "tls")]
fn authority(path: PathBuf) -> Result<String, String> {
    use pingora_core::tls::{RootCertStore, load_ca_file_into_store};
    let shown = path.display().to_string();
    let mut store = RootCertStore::empty();
    load_ca_file_into_store(&path, &mut store).map_err(|error| format!("{shown}: {error}"))?;
    match store.is_empty() {
        true => Err(format!("{shown} holds no certificate")),
        false => Ok(shown),
    }
}

#[cfg(not(feature = "tls"))]
fn authority(_: PathBuf) -> Result<String, String> {
    Err("this drover was built without TLS (cargo feature `tls`)".to_owned())
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_cannot_be_used_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.crt");
        assert!(authority(path.clone()).is_err(), "there is none");
        std::fs::write(&path, "no certificate").unwrap();
        let error = authority(path).unwrap_err();
        assert!(error.contains("ca.crt"), "{error}");
    }
}
