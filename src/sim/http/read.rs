//! Reads HTTP/1.1 requests with the limits of cpp-httplib 0.59 as llama-server builds it.

use std::{io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};

use super::wire::Wire;

/// Largest header line, and most headers (`CPPHTTPLIB_HEADER_MAX_LENGTH`, `…_MAX_COUNT`).
const MOST_LINE: usize = 8192;
const MOST_HEADERS: usize = 100;
/// Largest request head altogether (a path may have 32 KiB).
const MOST_HEAD: usize = 1 << 20;
/// Largest request body.
const MOST_BODY: usize = 100 << 20;
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(5);

/// A request.
#[derive(Debug)]
pub(crate) struct HttpRequest {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case, in their order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl HttpRequest {
    /// The first header of this (lower-case) name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        let tokens = self
            .header(name)
            .into_iter()
            .flat_map(|value| value.split(','));
        tokens
            .map(str::trim)
            .any(|found| found.eq_ignore_ascii_case(token))
    }
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum NoRequest {
    /// The connection ended or stayed idle.
    Closed,
    /// Answered with a bare status; the flag says whether the CORS header is in it.
    Refused(u16, bool),
}

impl From<io::Error> for NoRequest {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

enum BodyKind {
    Sized(usize),
    Chunked,
}

impl Wire {
    /// The next request on this connection; says on the wire whether it stays open after it.
    pub(super) async fn read_request(&mut self) -> Result<HttpRequest, NoRequest> {
        let (mut request, http11) = self.read_head().await?;
        self.keep_alive = match http11 {
            true => !request.has_token("connection", "close"),
            false => request.has_token("connection", "keep-alive"),
        };
        self.origin = request.header("origin").map(str::to_owned);
        let kind = body_kind(&request)?;
        let expects = request
            .header("expect")
            .is_some_and(|e| e.eq_ignore_ascii_case("100-continue"));
        if expects {
            self.continue_100().await.map_err(|_| NoRequest::Closed)?;
        }
        request.body = match kind {
            BodyKind::Sized(len) => self.take(len).await?,
            BodyKind::Chunked => self.read_chunked().await?,
        };
        Ok(request)
    }

    async fn read_head(&mut self) -> Result<(HttpRequest, bool), NoRequest> {
        loop {
            match parse_head(&self.inbox)? {
                Some((request, http11, len)) => {
                    self.inbox.advance(len);
                    return Ok((request, http11));
                }
                None if self.inbox.len() > MOST_HEAD => return Err(NoRequest::Refused(400, true)),
                None => {}
            }
            let filled = tokio::time::timeout(IDLE, self.fill()).await;
            if !filled.map_err(|_| NoRequest::Closed)?? {
                return Err(NoRequest::Closed);
            }
        }
    }

    async fn take(&mut self, len: usize) -> Result<Bytes, NoRequest> {
        self.inbox.reserve(len.saturating_sub(self.inbox.len()));
        while self.inbox.len() < len {
            if !self.fill().await? {
                return Err(NoRequest::Closed);
            }
        }
        Ok(self.inbox.split_to(len).freeze())
    }

    async fn read_chunked(&mut self) -> Result<Bytes, NoRequest> {
        let mut body = BytesMut::new();
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size =
                usize::from_str_radix(size, 16).map_err(|_| NoRequest::Refused(400, true))?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body.freeze());
            }
            if body.len().saturating_add(size) > MOST_BODY {
                return Err(NoRequest::Refused(413, true));
            }
            body.extend_from_slice(&self.take(size).await?);
            if !self.line().await?.is_empty() {
                return Err(NoRequest::Refused(400, true));
            }
        }
    }

    async fn line(&mut self) -> Result<String, NoRequest> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.inbox) {
                let line = self.inbox.split_to(end + 1);
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.inbox.len() > MOST_LINE {
                return Err(NoRequest::Refused(400, true));
            }
            if !self.fill().await? {
                return Err(NoRequest::Closed);
            }
        }
    }
}

/// A request head from the start of `bytes`, with its length; `None` when it is not whole yet.
fn parse_head(bytes: &[u8]) -> Result<Option<(HttpRequest, bool, usize)>, NoRequest> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(NoRequest::Refused(400, true)),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let target = head.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if target.len() > 32_768 {
        return Err(NoRequest::Refused(414, true));
    }
    if head
        .headers
        .iter()
        .any(|h| h.name.len() + h.value.len() + 4 > MOST_LINE)
    {
        return Err(NoRequest::Refused(400, true));
    }
    let request = HttpRequest {
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: head
            .headers
            .iter()
            .map(|h| (h.name.to_ascii_lowercase(), text(h.value)))
            .collect(),
        body: Bytes::new(),
    };
    Ok(Some((request, head.version == Some(1), len)))
}

fn body_kind(request: &HttpRequest) -> Result<BodyKind, NoRequest> {
    let chunked = request.has_token("transfer-encoding", "chunked");
    let length = request.header("content-length");
    if chunked && length.is_some() {
        return Err(NoRequest::Refused(400, false));
    }
    if request
        .header("content-encoding")
        .is_some_and(|e| !e.eq_ignore_ascii_case("identity"))
    {
        return Err(NoRequest::Refused(415, true));
    }
    if chunked {
        return Ok(BodyKind::Chunked);
    }
    let length = length.map_or(Ok(0), |length| length.trim().parse::<usize>());
    let length = length.map_err(|_| NoRequest::Refused(400, true))?;
    if length > MOST_BODY {
        return Err(NoRequest::Refused(413, true));
    }
    Ok(BodyKind::Sized(length))
}
