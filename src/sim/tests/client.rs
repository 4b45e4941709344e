//! A raw HTTP client that shows heads and chunks as they are on the wire.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::sim::{SimConfig, SimHandle, bind};

pub(super) async fn sim(config: SimConfig) -> SimHandle {
    bind(config, "127.0.0.1:0").await.unwrap()
}

/// An answer in its parts.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: String,
    /// HTTP chunks, or the whole body as one.
    pub(super) chunks: Vec<Vec<u8>>,
    /// The body came to its proper end.
    pub(super) whole: bool,
}

impl Answer {
    pub(super) fn parse(raw: &[u8]) -> Self {
        let cut = raw.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(cut) = cut else {
            return Self {
                head: String::new(),
                chunks: Vec::new(),
                whole: false,
            };
        };
        let head = String::from_utf8_lossy(&raw[..cut]).into_owned();
        let mut body = &raw[cut + 4..];
        if !head.contains("Transfer-Encoding: chunked") {
            return Self {
                head,
                chunks: vec![body.to_vec()],
                whole: true,
            };
        }
        let mut chunks = Vec::new();
        loop {
            let Some(line) = body.windows(2).position(|window| window == b"\r\n") else {
                return Self {
                    head,
                    chunks,
                    whole: false,
                };
            };
            let size =
                usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
            body = &body[line + 2..];
            if size == 0 {
                return Self {
                    head,
                    chunks,
                    whole: true,
                };
            }
            chunks.push(body[..size].to_vec());
            body = &body[size + 2..];
        }
    }

    pub(super) fn status(&self) -> u16 {
        self.head
            .split(' ')
            .nth(1)
            .map_or(0, |status| status.parse().unwrap())
    }

    pub(super) fn header_names(&self) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split(':').next())
            .collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let line = self
            .head
            .lines()
            .find(|line| line.starts_with(&format!("{name}:")))?;
        Some(line[name.len() + 1..].trim())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.chunks.concat()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The `data:` texts of an event stream.
    pub(super) fn data(&self) -> Vec<String> {
        let text = self.text();
        text.split("\n\n")
            .filter_map(|event| event.strip_prefix("data: ").map(str::to_owned))
            .collect()
    }

    /// The JSON events of an event stream.
    pub(super) fn events(&self) -> Vec<Value> {
        self.data()
            .iter()
            .filter_map(|data| serde_json::from_str(data).ok())
            .collect()
    }

    /// All visible text of a chat stream.
    pub(super) fn content(&self) -> String {
        let events = self.events();
        events
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
            .collect()
    }
}

pub(super) fn post(path: &str, body: &Value, headers: &str) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends raw bytes and reads until the server closes.
pub(super) async fn exchange(sim: &SimHandle, raw: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(sim.address()).await.unwrap();
    stream.write_all(raw.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset ends the answer too.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

pub(super) async fn ask(sim: &SimHandle, path: &str, body: &Value) -> Answer {
    Answer::parse(&exchange(sim, &post(path, body, "Connection: close\r\n")).await)
}

pub(super) async fn chat(sim: &SimHandle, body: &Value) -> Answer {
    ask(sim, "/v1/chat/completions", body).await
}

pub(super) async fn get(sim: &SimHandle, path: &str) -> Answer {
    let raw = format!("GET {path} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n");
    Answer::parse(&exchange(sim, &raw).await)
}
