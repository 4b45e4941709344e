//! Just enough HTTP/1.1 on bytes, for both ends of the gateway.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Names and values as they stood on the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

impl Headers {
    /// The first value of `name`, whatever its case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut all = self.0.iter();
        all.find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let wanted = self
            .0
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        wanted.map(|(_, value)| value.as_str())
    }

    fn says(&self, name: &str, word: &str) -> bool {
        self.all(name)
            .any(|value| value.to_ascii_lowercase().contains(word))
    }

    /// Whether the message's body comes in chunks.
    pub(crate) fn is_chunked(&self) -> bool {
        self.says("transfer-encoding", "chunked")
    }

    /// Whether the connection ends with this message.
    pub(crate) fn closes(&self) -> bool {
        self.says("connection", "close")
    }

    /// `Content-Length`, if it is a number.
    pub(crate) fn length(&self) -> Option<usize> {
        self.get("content-length")?.parse().ok()
    }
}

/// Bytes of a connection, read ahead of what was parsed.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    inner: R,
    ahead: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            ahead: BytesMut::new(),
        }
    }

    /// Read more; false at the end of the stream.
    pub(crate) async fn fill(&mut self) -> io::Result<bool> {
        self.ahead.reserve(64 << 10);
        Ok(self.inner.read_buf(&mut self.ahead).await? > 0)
    }

    /// First line and headers; none if the peer closed before the first byte of a message.
    pub(crate) async fn head(&mut self) -> io::Result<Option<(String, Headers)>> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                let head = self.ahead.split_to(end + 4);
                return Ok(Some(parse_head(&String::from_utf8_lossy(&head))));
            }
            if !self.fill().await? {
                let nothing = self.ahead.is_empty();
                return if nothing {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// At most `wanted` bytes of what is next, at least one.
    pub(crate) async fn some(&mut self, wanted: usize) -> io::Result<Bytes> {
        while self.ahead.is_empty() {
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let ready = self.ahead.len().min(wanted);
        Ok(self.ahead.split_to(ready).freeze())
    }

    /// Up to and without the next CRLF.
    pub(crate) async fn line(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                let line = self.ahead.split_to(end).freeze();
                self.ahead.advance(2);
                return Ok(line);
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The size of the next chunk, its line taken off.
    pub(crate) async fn chunk_size(&mut self) -> io::Result<usize> {
        let line = self.line().await?;
        let text = String::from_utf8_lossy(&line);
        usize::from_str_radix(text.trim(), 16).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// A whole body as its headers frame it; without framing there is none.
    pub(crate) async fn body(&mut self, headers: &Headers) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        if headers.is_chunked() {
            loop {
                let size = self.chunk_size().await?;
                self.exactly(size, &mut body).await?;
                self.line().await?;
                if size == 0 {
                    return Ok(body.freeze());
                }
            }
        }
        self.exactly(headers.length().unwrap_or(0), &mut body)
            .await?;
        Ok(body.freeze())
    }

    async fn exactly(&mut self, size: usize, body: &mut BytesMut) -> io::Result<()> {
        let end = body.len() + size;
        while body.len() < end {
            let piece = self.some(end - body.len()).await?;
            body.extend_from_slice(&piece);
        }
        Ok(())
    }

    /// Forget what was read ahead.
    pub(crate) fn discard(&mut self) {
        self.ahead.clear();
    }

    /// The stream itself; what was read ahead is lost.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// Whether nothing waits to be parsed.
    pub(crate) fn is_empty(&self) -> bool {
        self.ahead.is_empty()
    }
}

/// Position of `needle`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(hay, needle)
}

fn parse_head(head: &str) -> (String, Headers) {
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let pairs = lines.filter_map(|line| line.split_once(':'));
    let owned = pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    (first, Headers(owned.collect()))
}
