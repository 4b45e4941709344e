//! Requests of clients.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde_json::{Value, json};

/// A request, to be written on any kind of connection.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Send the body in chunks of this size instead of with a length.
    chunk: Option<usize>,
}

/// A GET.
pub(crate) fn get(path: &str) -> Request {
    Request {
        method: "GET",
        path: path.into(),
        host: "gateway".into(),
        headers: Vec::new(),
        body: Bytes::new(),
        chunk: None,
    }
}

/// A POST of any bytes.
pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request {
    let request = Request {
        method: "POST",
        body: body.into(),
        ..get(path)
    };
    request.header("Content-Type", "application/json")
}

/// A chat turn of a new conversation; `more` is added to a minimal request, or replaces parts of it.
pub(crate) fn chat(more: Value) -> Request {
    static CONVERSATIONS: AtomicUsize = AtomicUsize::new(0);
    let content = format!(
        "hi for the {}th time",
        CONVERSATIONS.fetch_add(1, Ordering::Relaxed)
    );
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": content}]});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    post("/v1/chat/completions", body.to_string())
}

/// A chat turn that streams.
pub(crate) fn stream() -> Request {
    chat(json!({"stream": true}))
}

/// A turn of the Responses API; `more` is added to a minimal request, or replaces parts of it.
pub(crate) fn responses(more: Value) -> Request {
    let mut body = json!({"model": "m", "input": "hi"});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    post("/v1/responses", body.to_string())
}

impl Request {
    /// One more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Another path.
    pub(crate) fn at(self, path: &str) -> Self {
        Self {
            path: path.into(),
            ..self
        }
    }

    /// Another `Host`.
    pub(crate) fn host(self, host: &str) -> Self {
        Self {
            host: host.into(),
            ..self
        }
    }

    /// Another method.
    pub(crate) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// The body in chunks of `size` bytes.
    pub(crate) fn chunked(self, size: usize) -> Self {
        Self {
            chunk: Some(size),
            ..self
        }
    }

    /// First line and headers on HTTP/1.1.
    pub(crate) fn head(&self) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.path, self.host
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.chunk {
            Some(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
            None if self.method == "POST" => {
                head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
            }
            None => {}
        }
        head + "\r\n"
    }

    /// The body on HTTP/1.1.
    pub(crate) fn framed_body(&self) -> Bytes {
        let Some(size) = self.chunk else {
            return self.body.clone();
        };
        let mut framed = Vec::with_capacity(self.body.len() + 64);
        for chunk in self.body.chunks(size) {
            framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        framed.into()
    }
}
