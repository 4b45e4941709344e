//! Answers as clients receive them.

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::time::Instant;

use super::http::{Headers, find};

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing says.
    Complete,
    /// The connection or stream broke off.
    Cut,
}

/// One event of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// When its last byte was read.
    pub(crate) at: Instant,
    /// Its data.
    pub(crate) data: String,
}

impl Event {
    /// The data as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|_| panic!("no JSON: {}", self.data))
    }

    /// The text in it, for choice 0.
    pub(crate) fn content(&self) -> Option<String> {
        self.json()["choices"][0]["delta"]["content"]
            .as_str()
            .map(str::to_owned)
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    /// The body as it came in.
    pub(crate) pieces: Vec<(Instant, Bytes)>,
    pub(crate) end: End,
}

impl Response {
    /// The body.
    pub(crate) fn text(&self) -> String {
        let body: Vec<u8> = self
            .pieces
            .iter()
            .flat_map(|(_, piece)| piece.to_vec())
            .collect();
        String::from_utf8(body).expect("the body is UTF-8")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text:?}"))
    }

    /// The events of the body, `[DONE]` included.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut events = Events::default();
        let mut found = Vec::new();
        for (at, piece) in &self.pieces {
            events.push(*at, piece);
            found.extend(&mut events);
        }
        found
    }

    /// The events' data as JSON, `[DONE]` left out.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let events = self.events();
        events
            .iter()
            .filter(|event| event.data != "[DONE]")
            .map(Event::json)
            .collect()
    }

    /// How often the stream says that it is complete.
    pub(crate) fn dones(&self) -> usize {
        self.events()
            .iter()
            .filter(|event| event.data == "[DONE]")
            .count()
    }

    /// The streamed text of choice `index`.
    pub(crate) fn said_by(&self, index: u64) -> String {
        let chunks = self.chunks();
        let choices = chunks
            .iter()
            .flat_map(|c| c["choices"].as_array().cloned().unwrap_or_default());
        choices
            .filter(|choice| choice["index"] == index)
            .filter_map(|choice| choice["delta"]["content"].as_str().map(str::to_owned))
            .collect()
    }

    /// The streamed text of the first choice.
    pub(crate) fn said(&self) -> String {
        self.said_by(0)
    }

    /// The names of the events in the stream.
    pub(crate) fn names(&self) -> Vec<String> {
        let text = self.text();
        let names = text.lines().filter_map(|line| line.strip_prefix("event: "));
        names.map(str::to_owned).collect()
    }

    /// The finish reasons in the stream, in order.
    pub(crate) fn finishes(&self) -> Vec<String> {
        let chunks = self.chunks();
        let choices = chunks
            .iter()
            .flat_map(|c| c["choices"].as_array().cloned().unwrap_or_default());
        choices
            .filter_map(|c| c["finish_reason"].as_str().map(str::to_owned))
            .collect()
    }

    /// The error object, as a body or as the last event of a stream.
    pub(crate) fn error(&self) -> Value {
        let is_stream = self
            .headers
            .get("content-type")
            .is_some_and(|t| t.starts_with("text/event-stream"));
        let holder = if is_stream {
            self.chunks().pop().unwrap_or_default()
        } else {
            self.json()
        };
        let error = holder["error"].clone();
        assert!(error.is_object(), "no error: {}", self.text());
        error
    }

    /// Panics unless this is a complete stream: finished, `[DONE]` once and last, no error.
    pub(crate) fn assert_complete_stream(&self) {
        let text = self.text();
        assert_eq!((self.status, self.end), (200, End::Complete), "{text}");
        assert_eq!(
            self.events().last().map(|e| e.data.clone()).as_deref(),
            Some("[DONE]"),
            "{text}"
        );
        assert_eq!(self.dones(), 1, "{text}");
        assert!(!self.finishes().is_empty(), "{text}");
        assert!(
            self.chunks()
                .iter()
                .all(|chunk| chunk.get("error").is_none()),
            "{text}"
        );
    }

    /// Panics unless this is a stream that broke off with an error event and no `[DONE]`.
    pub(crate) fn assert_failed_stream(&self) {
        assert_eq!((self.status, self.dones()), (200, 0), "{}", self.text());
        assert_eq!(
            self.end,
            End::Complete,
            "the framing ends properly: {}",
            self.text()
        );
        self.assert_error_object();
    }

    /// Panics unless this is an error answer with `status` as the OpenAI SDKs read it.
    pub(crate) fn assert_error(&self, status: u16) -> Value {
        assert_eq!(
            (self.status, self.end),
            (status, End::Complete),
            "{}",
            self.text()
        );
        assert_eq!(self.headers.get("content-type"), Some("application/json"));
        assert!(
            self.headers
                .get("x-request-id")
                .is_some_and(|id| !id.is_empty())
        );
        self.assert_error_object();
        self.error()
    }

    fn assert_error_object(&self) {
        let error = self.error();
        assert!(
            error["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{error}"
        );
        assert!(
            error["type"].as_str().is_some_and(|t| !t.is_empty()),
            "{error}"
        );
        assert!(
            error.get("param").is_some() && error.get("code").is_some(),
            "{error}"
        );
    }
}

/// Events of a body that comes in pieces; an unfinished one waits.
#[derive(Debug, Default)]
pub(crate) struct Events {
    buffer: BytesMut,
    last: Option<Instant>,
}

impl Events {
    /// Take in a piece.
    pub(crate) fn push(&mut self, at: Instant, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        self.last = Some(at);
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let end = find(&self.buffer, b"\n\n")?;
            let event = self.buffer.split_to(end + 2);
            let text = std::str::from_utf8(&event).expect("an event is UTF-8");
            let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
            let data: Vec<&str> = lines.collect();
            if !data.is_empty() {
                return Some(Event {
                    at: self.last?,
                    data: data.join("\n"),
                });
            }
        }
    }
}
