//! A raw HTTP/1.1 client that sees every piece and every cut.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::http::{Headers, Reader};
use super::request::Request;
use super::response::{End, Event, Events, Response};
use super::wait::patiently;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    reader: Reader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// An answer whose head has been read.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    client: &'a mut Client,
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    left: Left,
    pieces: Vec<(Instant, Bytes)>,
    end: Option<End>,
    events: Events,
}

/// What is still due of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// So many bytes.
    Bytes(usize),
    /// Chunks; so much of the current one.
    Chunks(usize),
    /// Whatever comes until the connection closes.
    UntilClose,
}

impl Client {
    /// A new connection.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the gateway listens");
        stream.set_nodelay(true).unwrap();
        let (read, writer) = stream.into_split();
        Self {
            reader: Reader::new(read),
            writer,
        }
    }

    /// A new connection that takes little at a time: what is not read soon stops the sender.
    pub(crate) async fn connect_narrow(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let stream = socket.connect(addr).await.expect("the gateway listens");
        let (read, writer) = stream.into_split();
        Self {
            reader: Reader::new(read),
            writer,
        }
    }

    /// Write bytes as they are.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await
    }

    /// Write a request. A gateway that answers before it has read everything may close.
    pub(crate) async fn send(&mut self, request: &Request) {
        let mut wire = request.head().into_bytes();
        wire.extend_from_slice(&request.framed_body());
        let _ = self.write(&wire).await;
    }

    /// The head of the next answer; interim ones (1xx) are skipped.
    pub(crate) async fn answer(&mut self) -> Answer<'_> {
        loop {
            let (status, headers) = self.head().await;
            if status >= 200 {
                return self.begin(status, headers);
            }
        }
    }

    /// Send a request and read the whole answer.
    pub(crate) async fn ask(&mut self, request: &Request) -> Response {
        self.send(request).await;
        let mut answer = self.answer().await;
        if request.method == "HEAD" {
            answer.left = Left::Bytes(0);
        }
        answer.rest().await
    }

    /// The next head, an interim one included.
    pub(crate) async fn head(&mut self) -> (u16, Headers) {
        self.try_head().await.expect("an answer before the close")
    }

    /// The next head, or none when the gateway closes instead.
    pub(crate) async fn try_head(&mut self) -> Option<(u16, Headers)> {
        let head = patiently("the head of an answer", self.reader.head())
            .await
            .ok()??;
        let status = head.0.split(' ').nth(1)?.parse().ok()?;
        Some((status, head.1))
    }

    /// Wait until the gateway closes, having sent nothing more.
    pub(crate) async fn closed(&mut self) {
        let end = patiently("the end of the connection", self.reader.fill()).await;
        assert!(!matches!(end, Ok(true)), "more bytes instead of a close");
    }

    /// Close with RST.
    pub(crate) fn reset(self) {
        let stream = self.reader.into_inner().reunite(self.writer).unwrap();
        stream.set_zero_linger().unwrap();
    }

    fn begin(&mut self, status: u16, headers: Headers) -> Answer<'_> {
        let left = match headers.length() {
            _ if headers.is_chunked() => Left::Chunks(0),
            Some(length) => Left::Bytes(length),
            None if status == 204 || status == 304 => Left::Bytes(0),
            None => Left::UntilClose,
        };
        Answer {
            client: self,
            status,
            headers,
            left,
            pieces: Vec::new(),
            end: None,
            events: Events::default(),
        }
    }
}

impl Answer<'_> {
    /// The next event of a stream; none at its end.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.next() {
                return Some(event);
            }
            if !self.more().await {
                return None;
            }
            let (at, piece) = self.pieces.last()?;
            self.events.push(*at, piece);
        }
    }

    /// Events until one has text in it; that text.
    pub(crate) async fn content(&mut self) -> String {
        loop {
            let event = self
                .event()
                .await
                .expect("text before the end of the stream");
            if let Some(text) = event.content().filter(|text| !text.is_empty()) {
                return text;
            }
        }
    }

    /// Read to the end.
    pub(crate) async fn rest(mut self) -> Response {
        while self.more().await {}
        let Self {
            status,
            headers,
            pieces,
            end,
            ..
        } = self;
        Response {
            status,
            headers,
            pieces,
            end: end.unwrap_or(End::Cut),
        }
    }

    /// Read a piece; false at the end.
    async fn more(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        match patiently("more of an answer", self.piece()).await {
            Ok(Some(piece)) => {
                self.pieces.push((Instant::now(), piece));
                true
            }
            Ok(None) => {
                self.end = Some(End::Complete);
                false
            }
            Err(_) => {
                let until_close = self.left == Left::UntilClose;
                self.end = Some(if until_close { End::Complete } else { End::Cut });
                false
            }
        }
    }

    async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let reader = &mut self.client.reader;
        let due = match &mut self.left {
            Left::Bytes(0) => return Ok(None),
            Left::Bytes(due) => due,
            Left::UntilClose => return reader.some(usize::MAX).await.map(Some),
            Left::Chunks(due) => {
                if *due == 0 {
                    *due = reader.chunk_size().await?;
                    if *due == 0 {
                        reader.line().await?;
                        return Ok(None);
                    }
                }
                due
            }
        };
        let piece = reader.some(*due).await?;
        *due -= piece.len();
        if let Left::Chunks(0) = self.left {
            reader.line().await?;
        }
        Ok(Some(piece))
    }
}
