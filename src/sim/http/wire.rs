//! One client connection: buffered writes, HTTP chunks, pings, and a watch for the client's end.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{net::TcpStream, sync::watch, time::Instant};

/// The client is gone, or the connection is to be cut: stop and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Output is flushed when it waits or gets larger than this.
const FLUSH_AT: usize = 16 << 10;
/// Bytes of a pipelined request that are read while an answer is being sent.
const READ_AHEAD: usize = 64 << 10;

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    /// Bytes received and not yet used.
    pub(super) inbox: BytesMut,
    out: Vec<u8>,
    /// Whether the connection stays open after this answer.
    pub(crate) keep_alive: bool,
    /// An answer's body is being streamed; with the longest silence before a ping.
    streaming: Option<Duration>,
    last_write: Instant,
    /// The request's `Origin`, which the CORS header echoes.
    pub(super) origin: Option<String>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Without it, small chunks wait for acknowledgements; a failure only costs latency.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            inbox: BytesMut::with_capacity(8 << 10),
            out: Vec::with_capacity(FLUSH_AT + 4096),
            keep_alive: true,
            streaming: None,
            last_write: Instant::now(),
            origin: None,
        }
    }

    /// Reads more bytes; `false` at the client's end.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        loop {
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut self.inbox) {
                Ok(read) => return Ok(read > 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A complete answer.
    pub(crate) async fn respond(
        &mut self,
        status: u16,
        headers: &str,
        body: &[u8],
    ) -> Result<(), Gone> {
        if status >= 400 {
            self.keep_alive = false;
        }
        let reason = reason(status);
        let (origin, connection) = (
            self.origin.as_deref().unwrap_or_default(),
            self.connection(),
        );
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: {origin}\r\n\
             {headers}Content-Length: {}\r\n{connection}\r\n\r\n",
            body.len()
        );
        self.out.extend_from_slice(head.as_bytes());
        self.out.extend_from_slice(body);
        self.flush().await
    }

    /// A complete JSON answer.
    pub(crate) async fn json(&mut self, status: u16, body: impl AsRef<[u8]>) -> Result<(), Gone> {
        const TYPE: &str = "Content-Type: application/json; charset=utf-8\r\n";
        self.respond(status, TYPE, body.as_ref()).await
    }

    /// Starts a streamed answer; its header goes out with the first flush.
    pub(crate) fn start_stream(&mut self, ping: Duration) {
        let (origin, connection) = (
            self.origin.as_deref().unwrap_or_default(),
            self.connection(),
        );
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: {origin}\r\n\
             X-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{connection}\r\n\r\n"
        );
        self.out.extend_from_slice(head.as_bytes());
        self.streaming = Some(ping);
        self.last_write = Instant::now();
    }

    fn connection(&self) -> &'static str {
        if self.keep_alive {
            "Keep-Alive: timeout=5, max=100"
        } else {
            "Connection: close"
        }
    }

    /// Adds an HTTP chunk.
    pub(crate) fn chunk(&mut self, data: &[u8]) {
        use std::io::Write;
        if data.is_empty() {
            return;
        }
        // Writing to a Vec cannot fail.
        let _ = write!(self.out, "{:x}\r\n", data.len());
        self.out.extend_from_slice(data);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Flushes when much has gathered; also notices a client that left.
    pub(crate) async fn relieve(&mut self) -> Result<(), Gone> {
        if self.out.len() < FLUSH_AT {
            return Ok(());
        }
        self.peek()?;
        self.flush().await
    }

    /// Ends a streamed body, and the connection with it: llama-server announces keep-alive on a stream and closes
    /// all the same (its content provider returns false together with the end, `server-http.cpp`, which cpp-httplib
    /// takes for a cancelled answer).
    pub(crate) async fn end_stream(&mut self) -> Result<(), Gone> {
        self.streaming = None;
        self.keep_alive = false;
        self.out.extend_from_slice(b"0\r\n\r\n");
        self.flush().await
    }

    /// Interim answer to `Expect: 100-continue`.
    pub(super) async fn continue_100(&mut self) -> Result<(), Gone> {
        self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        self.flush().await
    }

    /// An answer of the HTTP library itself: no JSON, no body. `origin`: with the CORS header.
    pub(super) async fn bare(&mut self, status: u16, origin: bool) -> Result<(), Gone> {
        let origin = if origin {
            "Access-Control-Allow-Origin: \r\n"
        } else {
            ""
        };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nServer: llama.cpp\r\n{origin}Connection: close\r\nContent-Length: 0\r\n\r\n",
            reason(status)
        );
        self.out.extend_from_slice(head.as_bytes());
        self.flush().await?;
        // Closing with unread bytes would reset the connection and lose the answer.
        let drain = async { while self.inbox_drained().await {} };
        let _ = tokio::time::timeout(Duration::from_millis(300), drain).await;
        Err(Gone)
    }

    async fn inbox_drained(&mut self) -> bool {
        self.inbox.clear();
        matches!(self.fill().await, Ok(true))
    }

    /// Sends raw bytes of an answer.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Writes everything out, unless the client leaves.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.try_write(&self.out[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::select! {
                        ready = self.stream.writable() => ready.map_err(|_| Gone)?,
                        gone = watch_end(&self.stream, &mut self.inbox) => return Err(gone),
                    }
                }
                Err(_) => return Err(Gone),
            }
        }
        if sent > 0 {
            self.out.clear();
            self.last_write = Instant::now();
            // Lets other connections of this thread go on while this one is never blocked.
            tokio::task::consume_budget().await;
        }
        Ok(())
    }

    /// Flushes and waits until `deadline` (for ever without one), sending pings while streaming.
    pub(crate) async fn wait_until(&mut self, deadline: Option<Instant>) -> Result<(), Gone> {
        self.wait_for(async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        })
        .await
    }

    /// Flushes and waits for `event`, sending pings while streaming, until the client leaves.
    pub(crate) async fn wait_for<T>(&mut self, event: impl Future<Output = T>) -> Result<T, Gone> {
        tokio::pin!(event);
        loop {
            self.flush().await?;
            let ping = self
                .streaming
                .and_then(|every| self.last_write.checked_add(every));
            tokio::select! {
                biased;
                done = &mut event => return Ok(done),
                gone = watch_end(&self.stream, &mut self.inbox) => return Err(gone),
                () = sleep_until(ping) => self.chunk(b":\n\n"),
            }
        }
    }

    /// Waits while `blocked` says so of the value in `gate`; returns the time that took.
    pub(crate) async fn wait_gate<T>(
        &mut self,
        gate: &mut watch::Receiver<T>,
        blocked: impl Fn(&T) -> bool,
    ) -> Result<Duration, Gone> {
        if !blocked(&gate.borrow()) {
            return Ok(Duration::ZERO);
        }
        let start = Instant::now();
        // The sender lives as long as the server, so only an opened gate ends this.
        let opened = async { gate.wait_for(|value| !blocked(value)).await.is_ok() };
        self.wait_for(opened).await?;
        Ok(start.elapsed())
    }

    /// Notices a client that left without waiting.
    fn peek(&mut self) -> Result<(), Gone> {
        if self.inbox.len() >= READ_AHEAD {
            return Ok(());
        }
        match self.stream.try_read_buf(&mut self.inbox) {
            Ok(0) => Err(Gone),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(Gone),
            _ => Ok(()),
        }
    }

    /// Cuts the connection after what was written so far; `reset` with a TCP reset.
    pub(crate) async fn cut(&mut self, reset: bool) -> Gone {
        let _ = self.flush().await;
        if reset {
            let _ = self.stream.set_zero_linger();
        }
        Gone
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Ends when the client closes or resets the connection; keeps what it pipelines.
async fn watch_end(stream: &TcpStream, inbox: &mut BytesMut) -> Gone {
    loop {
        if inbox.len() >= READ_AHEAD {
            std::future::pending::<()>().await;
        }
        if stream.readable().await.is_err() {
            return Gone;
        }
        match stream.try_read_buf(inbox) {
            Ok(0) => return Gone,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Gone,
            _ => {}
        }
    }
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unknown")
}
