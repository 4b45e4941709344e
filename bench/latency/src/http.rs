//! A blocking HTTP/1.1 client for one request at a time on a kept-alive connection.
//!
//! Blocking on purpose: one thread that sleeps in `read` disturbs what it measures less than any
//! event loop, and its wake-up is part of both sides alike.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection to one server, opened again when the server has closed it (llama-server does so after
/// every stream, and after 100 requests); opening is not part of any measurement.
pub struct Connection {
    addr: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// One answered request.
#[derive(Debug, Default)]
pub struct Sample {
    /// From before the first byte was written to the first piece of text; without a stream, to the end.
    pub first: Duration,
    /// To the end of the answer.
    pub total: Duration,
    /// Between the reads that brought text.
    pub gaps: Vec<Duration>,
    /// `x-drover-overhead-us`, when there was one.
    pub own: Option<Duration>,
    /// Bytes of the decoded body.
    pub body: Vec<u8>,
}

/// A request, ready to be sent as often as needed; `header` is a line of its own, or empty.
pub fn request(host: SocketAddr, header: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         {header}Accept: */*\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Connection {
    /// Nothing is opened before the first request.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            stream: None,
            buffer: vec![0; 1 << 16],
        }
    }

    /// Sends the request and reads its whole answer.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Sample> {
        let kept = self.stream.take().filter(is_open);
        if let Some(stream) = kept {
            match self.exchange_on(stream, request) {
                // The server's close and the request have met.
                Err(error) if is_closed(&error) => {}
                done => return done,
            }
        }
        let stream = TcpStream::connect(self.addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        self.exchange_on(stream, request)
    }

    fn exchange_on(&mut self, mut stream: TcpStream, request: &[u8]) -> io::Result<Sample> {
        let started = Instant::now();
        stream.write_all(request)?;
        let mut answer = Answer::default();
        let mut sample = Sample::default();
        let mut last_text: Option<Instant> = None;
        while !answer.complete {
            let read = stream.read(&mut self.buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let now = Instant::now();
            let before = answer.body.len();
            answer.push(&self.buffer[..read])?;
            // From a little before: the marker may have been cut by the read.
            if has_text(&answer.body[before.saturating_sub(MARKER.len())..]) {
                match last_text.replace(now) {
                    None => sample.first = now - started,
                    Some(last) => sample.gaps.push(now - last),
                }
            }
            sample.total = now - started;
        }
        if answer.status != 200 {
            let body = String::from_utf8_lossy(&answer.body);
            return Err(io::Error::other(format!(
                "status {}: {body}",
                answer.status
            )));
        }
        if !answer.is_stream {
            sample.first = sample.total;
        }
        sample.own = answer.own;
        sample.body = answer.body;
        if !answer.close {
            self.stream = Some(stream);
        }
        Ok(sample)
    }
}

/// Whether the server has not closed the connection, as far as is known here.
fn is_open(stream: &TcpStream) -> bool {
    let peeked = stream
        .set_nonblocking(true)
        .and_then(|()| stream.peek(&mut [0]));
    let waiting = peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    waiting && stream.set_nonblocking(false).is_ok()
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

const MARKER: &[u8] = b"\"content\":\"";

/// Whether a piece of a body holds a content string that is not empty.
fn has_text(piece: &[u8]) -> bool {
    piece
        .windows(MARKER.len() + 1)
        .any(|window| window.starts_with(MARKER) && window[MARKER.len()] != b'"')
}

/// An answer as it arrives.
#[derive(Debug, Default)]
struct Answer {
    /// What has not been understood yet.
    rest: Vec<u8>,
    body: Vec<u8>,
    head_done: bool,
    status: u16,
    length: Option<usize>,
    close: bool,
    is_stream: bool,
    own: Option<Duration>,
    complete: bool,
}

impl Answer {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.rest.extend_from_slice(bytes);
        if !self.head_done {
            let Some(end) = find(&self.rest, b"\r\n\r\n") else {
                return Ok(());
            };
            let head = String::from_utf8_lossy(&self.rest[..end]).into_owned();
            self.rest.drain(..end + 4);
            self.head(&head)?;
        }
        match self.length {
            Some(length) => {
                self.body.append(&mut self.rest);
                self.complete = self.body.len() >= length;
                Ok(())
            }
            None => self.chunks(),
        }
    }

    fn head(&mut self, head: &str) -> io::Result<()> {
        self.head_done = true;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        self.status = status.and_then(|s| s.parse().ok()).ok_or_else(bad)?;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => self.length = Some(value.parse().map_err(|_| bad())?),
                "connection" => self.close = value.eq_ignore_ascii_case("close"),
                "content-type" => self.is_stream = value.starts_with("text/event-stream"),
                "x-drover-overhead-us" => self.own = value.parse().ok().map(Duration::from_micros),
                _ => {}
            }
        }
        Ok(())
    }

    /// RFC 9112 §7.1, without trailers.
    fn chunks(&mut self) -> io::Result<()> {
        let mut at = 0;
        while let Some(line) = find(&self.rest[at..], b"\r\n") {
            let size = std::str::from_utf8(&self.rest[at..at + line]).map_err(|_| bad())?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(|_| bad())?;
            let data = at + line + 2;
            if self.rest.len() < data + size + 2 {
                break;
            }
            self.body.extend_from_slice(&self.rest[data..data + size]);
            at = data + size + 2;
            self.complete = size == 0;
        }
        self.rest.drain(..at);
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an HTTP/1.1 answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_stream_cut_anywhere_is_put_together() {
        let wire =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\
            x-drover-overhead-us: 120\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        for cut in 1..wire.len() {
            let mut answer = Answer::default();
            answer.push(&wire[..cut]).unwrap();
            answer.push(&wire[cut..]).unwrap();
            assert!(answer.complete && answer.is_stream, "cut at {cut}");
            assert_eq!(answer.body, b"hello world");
            assert_eq!(answer.own, Some(Duration::from_micros(120)));
        }
    }

    #[test]
    fn a_body_of_known_length_ends_with_it() {
        let mut answer = Answer::default();
        let head = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nab";
        answer.push(head).unwrap();
        assert!(!answer.complete);
        answer.push(b"cd").unwrap();
        assert!(answer.complete && answer.close);
        assert_eq!(answer.status, 503);
    }

    #[test]
    fn empty_content_is_no_text() {
        assert!(has_text(br#"{"delta":{"content":"a"}}"#));
        assert!(!has_text(br#"{"delta":{"role":"assistant","content":""}}"#));
        assert!(!has_text(br#"{"delta":{"content":null}}"#));
    }
}
