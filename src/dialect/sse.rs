//! Server-sent events, both ways (WHATWG HTML, "Server-sent events", event stream interpretation).
//!
//! Works on bytes: a UTF-8 sequence cut by a TCP segment is nothing special here. Lines end with LF
//! or CRLF; the lone CR that the standard also allows is not used by any server in this house.

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use serde::Serialize;

use super::json;

/// One dispatched event. Comments and unknown fields never surface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The `event:` field, when there was one.
    pub event: Option<Bytes>,
    /// The `data:` lines, joined with LF.
    pub data: Bytes,
}

/// An event grew past the decoder's bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream exceeds {limit} bytes")]
pub struct TooLarge {
    /// The bound in bytes.
    pub limit: usize,
}

/// Incremental decoder; feed it chunks cut anywhere.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// Bytes at the start of `buffer` known to hold no LF.
    scanned: usize,
    event: Option<Bytes>,
    data: Data,
    limit: usize,
    started: bool,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    /// The usual case: one line, not copied.
    Line(Bytes),
    Lines(BytesMut),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Line(line) => line.len(),
            Self::Lines(lines) => lines.len(),
        }
    }

    fn push(&mut self, line: Bytes) {
        *self = match std::mem::take(self) {
            Self::None => Self::Line(line),
            Self::Line(first) => {
                let mut lines = BytesMut::with_capacity(first.len() + 1 + line.len());
                lines.extend_from_slice(&first);
                lines.extend_from_slice(b"\n");
                lines.extend_from_slice(&line);
                Self::Lines(lines)
            }
            Self::Lines(mut lines) => {
                lines.extend_from_slice(b"\n");
                lines.extend_from_slice(&line);
                Self::Lines(lines)
            }
        };
    }

    fn take(&mut self) -> Option<Bytes> {
        match std::mem::take(self) {
            Self::None => None,
            Self::Line(line) => Some(line),
            Self::Lines(lines) => Some(lines.freeze()),
        }
    }
}

impl Decoder {
    /// A decoder that refuses events larger than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            event: None,
            data: Data::None,
            limit,
            started: false,
        }
    }

    /// Append bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete event, if its end has arrived.
    ///
    /// # Errors
    /// [`TooLarge`] when the pending event exceeds the limit; the decoder is of no use afterwards.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, TooLarge> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                let event = self.event.take();
                if let Some(data) = self.data.take() {
                    return Ok(Some(Frame { event, data }));
                }
                continue;
            }
            self.field(line);
            self.check()?;
        }
        self.check()?;
        Ok(None)
    }

    fn check(&self) -> Result<(), TooLarge> {
        let unfinished_line = if self.scanned == self.buffer.len() {
            self.scanned
        } else {
            0
        };
        if self.data.len() > self.limit || unfinished_line > self.limit {
            return Err(TooLarge { limit: self.limit });
        }
        Ok(())
    }

    /// Split the next line off, without its end.
    fn line(&mut self) -> Option<Bytes> {
        let Some(found) = memchr(b'\n', &self.buffer[self.scanned..]) else {
            self.scanned = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.scanned + found + 1).freeze();
        self.scanned = 0;
        line.truncate(line.len() - 1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if !std::mem::replace(&mut self.started, true) && line.starts_with(b"\xef\xbb\xbf") {
            line = line.slice(3..);
        }
        Some(line)
    }

    fn field(&mut self, line: Bytes) {
        let colon = memchr(b':', &line).unwrap_or(line.len());
        let mut value = (colon + 1).min(line.len());
        if line.get(value) == Some(&b' ') {
            value += 1;
        }
        match &line[..colon] {
            b"data" => self.data.push(line.slice(value..)),
            b"event" => self.event = Some(line.slice(value..)),
            _ => {}
        }
    }
}

/// Append a `data:` event with `value` as JSON.
pub fn write_data<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    out.extend_from_slice(b"data: ");
    json::write(out, value);
    out.extend_from_slice(b"\n\n");
}

/// Append a named event with `value` as JSON.
pub fn write_event<T: Serialize + ?Sized>(out: &mut BytesMut, event: &str, value: &T) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\n");
    write_data(out, value);
}

/// The terminator of OpenAI streams.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(chunks: &[&[u8]]) -> Vec<(Option<String>, String)> {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let mut decoder = Decoder::new(1 << 20);
        let mut frames = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push((frame.event.map(text), text(frame.data)));
            }
        }
        frames
    }

    const STREAM: &str = "\u{feff}: hi\n\ndata: {\"a\":\"\u{1f999}\"}\n\nevent: error\r\ndata:one\r\ndata: two\r\n\r\n\
                          :\n\nid: 7\nretry: 3\nproxy error: gone\n\nevent: lost\n\ndata\n\ndata: cut off";

    fn expected() -> Vec<(Option<String>, String)> {
        vec![
            (None, "{\"a\":\"\u{1f999}\"}".into()),
            (Some("error".into()), "one\ntwo".into()),
            (None, String::new()),
        ]
    }

    #[test]
    fn whole() {
        assert_eq!(decode(&[STREAM.as_bytes()]), expected());
    }

    #[test]
    fn split_at_every_byte_and_byte_by_byte() {
        let bytes = STREAM.as_bytes();
        for at in 0..bytes.len() {
            assert_eq!(
                decode(&[&bytes[..at], &bytes[at..]]),
                expected(),
                "split at {at}"
            );
        }
        let singles: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&singles), expected());
    }

    #[test]
    fn an_endless_line_and_endless_data_are_refused() {
        let mut decoder = Decoder::new(64);
        decoder.push(&[b'x'; 65]);
        assert_eq!(decoder.next_frame(), Err(TooLarge { limit: 64 }));
        let mut decoder = Decoder::new(64);
        let mut result = Ok(None);
        for _ in 0..20 {
            decoder.push(b"data: 0123456789\n");
            result = decoder.next_frame();
            if result.is_err() {
                break;
            }
        }
        assert_eq!(result, Err(TooLarge { limit: 64 }));
    }

    #[test]
    fn many_small_events_in_one_read_are_not_too_large() {
        let mut decoder = Decoder::new(64);
        decoder.push(&b"data: 0123456789\n\n".repeat(100));
        let mut count = 0;
        while decoder.next_frame().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 100);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            values in proptest::collection::vec(".{0,40}", 1..8),
            cuts in proptest::collection::vec(1usize..30, 1..40),
        ) {
            let mut wire = BytesMut::new();
            for value in &values {
                write_event(&mut wire, "e", value);
            }
            let mut chunks: Vec<&[u8]> = Vec::new();
            let mut rest: &[u8] = &wire;
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                chunks.push(head);
                rest = tail;
            }
            let frames = decode(&chunks);
            let read: Vec<String> =
                frames.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
            prop_assert_eq!(read, values);
        }
    }
}
