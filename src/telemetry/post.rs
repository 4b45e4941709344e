//! Small POST requests to receivers of the operator: collectors of traces, webhooks.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use pingora_core::connectors::http::Connector;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use tokio::time::Duration;
use url::Url;

use crate::config::Secret;

/// Sends, and keeps connections for the next time. Deadlines are the caller's.
pub struct Poster {
    connector: Connector,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Post<'a> {
    /// Where to.
    pub url: &'a Url,
    /// Type of the body.
    pub content_type: &'static str,
    /// Bearer token, if there is one.
    pub token: Option<&'a Secret>,
}

impl Default for Poster {
    fn default() -> Self {
        Self {
            connector: Connector::new(None),
        }
    }
}

impl Poster {
    /// The status of the answer.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn send(&self, post: Post<'_>, body: Bytes) -> Result<u16, String> {
        let url = post.url;
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = tokio::net::lookup_host((bare, port))
            .await
            .map_err(|error| format!("{host}: {error}"))?;
        let address = addresses
            .next()
            .ok_or_else(|| format!("{host} has no address"))?;
        let peer = HttpPeer::new(address, url.scheme() == "https", bare.to_owned());
        self.ask(post, &peer, &format!("{host}:{port}"), body)
            .await
            .map_err(|error| error.etype().as_str().to_owned())
    }

    async fn ask(
        &self,
        post: Post<'_>,
        peer: &HttpPeer,
        host: &str,
        body: Bytes,
    ) -> pingora_core::Result<u16> {
        let (mut session, _) = self.connector.get_http_session(peer).await?;
        let path = &post.url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut request = RequestHeader::build("POST", path.as_bytes(), Some(6))?;
        request.insert_header(HOST, host)?;
        request.insert_header(USER_AGENT, concat!("drover/", env!("CARGO_PKG_VERSION")))?;
        request.insert_header(CONTENT_TYPE, post.content_type)?;
        request.insert_header(CONTENT_LENGTH, body.len())?;
        if let Some(token) = post.token {
            request.insert_header(AUTHORIZATION, format!("Bearer {}", token.expose()))?;
        }
        session.write_request_header(Box::new(request)).await?;
        session.write_request_body(body, true).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session.response_header().map_or(0, |h| h.status.as_u16());
        while session.read_response_body().await?.is_some() {}
        self.connector
            .release_http_session(session, peer, Some(Duration::from_secs(30)))
            .await;
        Ok(status)
    }
}
