//! Reads the events of the admin address, and goes on trying when it is away.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HOST};
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::Shared;
use super::known::Link;
use crate::config::Secret;
use crate::dialect::sse::Decoder;

/// Longest event: thousands of backends.
const MOST_BYTES: usize = 16 << 20;
/// The state of things is told once a second.
const SILENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);

/// Where the admin address is.
#[derive(Debug)]
pub struct Address {
    url: Url,
    token: Option<Secret>,
}

/// An address that cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an address such as 127.0.0.1:9090 or https://drover.example:9090")]
pub struct BadAddress(String);

impl Address {
    /// `text` is a URL, or host and port; an address that stands for all of a machine's is asked on loopback.
    ///
    /// # Errors
    /// It is neither.
    pub fn new(text: &str, token: Option<Secret>) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        let full = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let mut url = Url::parse(&full).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(bad());
        }
        let loopback = match url.host() {
            Some(url::Host::Ipv4(ip)) if ip.is_unspecified() => Some("127.0.0.1"),
            Some(url::Host::Ipv6(ip)) if ip.is_unspecified() => Some("[::1]"),
            _ => None,
        };
        if let Some(loopback) = loopback {
            url.set_host(Some(loopback)).map_err(|_| bad())?;
        }
        Ok(Self { url, token })
    }

    /// The address for people.
    pub(super) fn shown(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

/// Keeps `known` up to date; never ends.
pub(super) async fn follow(address: &Address, known: &Shared) {
    let connector = Connector::new(None);
    loop {
        let why = match read(&connector, address, known).await {
            Ok(()) => "the gateway has closed the connection".to_owned(),
            Err(why) => why,
        };
        known.lock().lost(why);
        sleep(AGAIN).await;
    }
}

async fn read(connector: &Connector, address: &Address, known: &Shared) -> Result<(), String> {
    let asked = timeout(SILENCE, ask(connector, address)).await;
    let mut session = asked.map_err(|_| "no answer".to_owned())??;
    known.lock().link = Link::Up;
    let mut events = Decoder::new(MOST_BYTES);
    loop {
        let piece = timeout(SILENCE, session.read_response_body()).await;
        let piece = piece.map_err(|_| format!("silent for {SILENCE:?}"))?;
        let Some(piece) = piece.map_err(|error| error.etype().as_str().to_owned())? else {
            return Ok(());
        };
        events.push(&piece);
        while let Some(frame) = events.next_frame().map_err(|error| error.to_string())? {
            let kind = frame.event.as_deref().map(str::from_utf8);
            let Some(Ok(kind)) = kind else { continue };
            known.lock().take(kind, &frame.data, Instant::now());
        }
    }
}

async fn ask(connector: &Connector, address: &Address) -> Result<HttpSession, String> {
    let session = send(connector, address, "GET", "/api/events").await?;
    let status = session
        .response_header()
        .map_or(0, |head| head.status.as_u16());
    match status {
        200 => Ok(session),
        401 => Err("it asks for a token, or for another one (--token-env)".to_owned()),
        status => Err(format!("it answers {status}")),
    }
}

impl Address {
    /// Status and body of the answer to one request without a body.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn ask(&self, method: &str, path: &str) -> Result<(u16, Vec<u8>), String> {
        let connector = Connector::new(None);
        let answer = async {
            let mut session = send(&connector, self, method, path).await?;
            let status = session
                .response_header()
                .map_or(0, |head| head.status.as_u16());
            let mut body = Vec::new();
            loop {
                let piece = session.read_response_body().await;
                match piece.map_err(|error| error.etype().as_str().to_owned())? {
                    Some(piece) if body.len() + piece.len() <= MOST_BYTES => body.extend(piece),
                    Some(_) => return Err("its answer is too long".to_owned()),
                    None => return Ok((status, body)),
                }
            }
        };
        let answered = timeout(SILENCE, answer).await;
        answered.unwrap_or_else(|_| Err("no answer".to_owned()))
    }
}

/// Sends a request without a body, and waits for the head of the answer.
async fn send(
    connector: &Connector,
    address: &Address,
    method: &str,
    path: &str,
) -> Result<HttpSession, String> {
    let url = &address.url;
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let bare = host.trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((bare, port)).await;
    let found = found.map_err(|error| error.to_string())?.next();
    let found = found.ok_or_else(|| format!("{host} has no address"))?;
    let peer = HttpPeer::new(found, url.scheme() == "https", bare.to_owned());
    let asked = async {
        let (mut session, _) = connector.get_http_session(&peer).await?;
        let path = format!("{}{path}", url.path().trim_end_matches('/'));
        let mut request = RequestHeader::build(method, path.as_bytes(), Some(5))?;
        request.insert_header(HOST, format!("{host}:{port}"))?;
        request.insert_header(ACCEPT, "text/event-stream, application/json")?;
        if method != "GET" {
            request.insert_header(CONTENT_LENGTH, "0")?;
        }
        if let Some(token) = &address.token {
            request.insert_header(AUTHORIZATION, format!("Bearer {}", token.expose()))?;
        }
        session.write_request_header(Box::new(request)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        Ok::<_, Box<pingora_core::Error>>(session)
    };
    asked
        .await
        .map_err(|error| error.etype().as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls_or_host_and_port() {
        let shown = |text: &str| Address::new(text, None).map(|a| a.shown().to_owned()).ok();
        for (text, expected) in [
            ("127.0.0.1:9090", Some("http://127.0.0.1:9090")),
            ("0.0.0.0:9090", Some("http://127.0.0.1:9090")),
            ("[::]:9090", Some("http://[::1]:9090")),
            ("https://drover.example/", Some("https://drover.example")),
            ("localhost:9", Some("http://localhost:9")),
            ("ftp://x", None),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
        }
    }
}
