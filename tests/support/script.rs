//! What a scripted backend answers, step by step.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// `data: [DONE]`.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// Holds answers back until the test opens it, for good.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn open(&self) {
        self.0.close();
    }

    pub(crate) async fn opened(&self) {
        // There is never a permit: this ends when the semaphore is closed.
        let _ = self.0.acquire().await;
    }
}

/// One step of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// These bytes, as they are.
    Send(Bytes),
    /// Silence.
    Pause(Duration),
    /// Silence until the test says so.
    Gate(Gate),
    /// Silence for ever; ends when the peer closes.
    Hang,
    /// End of the connection, with FIN.
    Close,
    /// End of the connection, with RST.
    Reset,
}

/// An answer to one POST.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) steps: Vec<Step>,
    /// Answer before the request's body has been read, then close.
    pub(crate) early: bool,
    chunked: bool,
}

impl Reply {
    /// Nothing yet: not even a status.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The head of a stream as llama-server sends it.
    pub(crate) fn stream() -> Self {
        Self::new().head()
    }

    /// A complete stream of these texts, with usage.
    pub(crate) fn says(texts: &[&str]) -> Self {
        let reply = Self::stream().event(&role());
        texts
            .iter()
            .fold(reply, |reply, said| reply.event(&text(said)))
            .ends("stop")
    }

    /// A stream of two texts, of which the second waits for the gate.
    pub(crate) fn held(gate: &Gate) -> Self {
        Self::stream()
            .event(&role())
            .event(&text("a"))
            .gate(gate)
            .event(&text("b"))
            .ends("stop")
    }

    /// A JSON answer with `status`. llama-server closes after every error.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        let reply = Self::whole(status, "application/json; charset=utf-8", &body.to_string());
        if status >= 400 { reply.close() } else { reply }
    }

    /// An error as llama-server words it.
    pub(crate) fn error(status: u16, kind: &str, message: &str) -> Self {
        Self::json(
            status,
            &json!({"error": {"code": status, "message": message, "type": kind}}),
        )
    }

    /// What llama-server says while it loads its model.
    pub(crate) fn loading() -> Self {
        Self::error(503, "unavailable_error", "Loading model")
    }

    /// Any answer with a `Content-Length`.
    pub(crate) fn whole(status: u16, kind: &str, body: &str) -> Self {
        let connection = if status >= 400 {
            "Connection: close\r\n"
        } else {
            ""
        };
        Self::new().raw(format!(
            "HTTP/1.1 {status} Whatever\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n{connection}\r\n{body}",
            body.len()
        ))
    }

    /// Status 200 and the headers of a stream.
    pub(crate) fn head(mut self) -> Self {
        self.chunked = true;
        self.raw(
            "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n\
             X-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\nKeep-Alive: timeout=5, max=100\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
        )
    }

    /// Bytes as they are, past any framing.
    pub(crate) fn raw(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Send(bytes.into()))
    }

    /// A piece of the stream, in one HTTP chunk.
    pub(crate) fn piece(self, bytes: impl AsRef<[u8]>) -> Self {
        assert!(self.chunked, "a piece needs a head before it");
        let bytes = bytes.as_ref();
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.raw(framed)
    }

    /// One event.
    pub(crate) fn event(self, data: &Value) -> Self {
        self.piece(format!("data: {data}\n\n"))
    }

    /// More text than the sockets between a backend and a client hold, for clients that do not read.
    pub(crate) fn flood(self) -> Self {
        let event = format!("data: {}\n\n", text(&"z".repeat(256 << 10)));
        let frame = Bytes::from(format!("{:x}\r\n{event}\r\n", event.len()));
        (0..128).fold(self, |reply, _| reply.raw(frame.clone()))
    }

    /// llama-server's comment ping.
    pub(crate) fn comment(self) -> Self {
        self.piece(":\n\n")
    }

    /// What `more` does.
    pub(crate) fn and(mut self, more: Self) -> Self {
        self.steps.extend(more.steps);
        self
    }

    /// Silence for a while.
    pub(crate) fn pause(self, length: Duration) -> Self {
        self.step(Step::Pause(length))
    }

    /// Silence until `gate` is opened.
    pub(crate) fn gate(self, gate: &Gate) -> Self {
        self.step(Step::Gate(gate.clone()))
    }

    /// Silence for ever.
    pub(crate) fn hang(self) -> Self {
        self.step(Step::Hang)
    }

    /// End of the connection.
    pub(crate) fn close(self) -> Self {
        self.step(Step::Close)
    }

    /// Abrupt end of the connection.
    pub(crate) fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    /// Finish, usage, `[DONE]`, end of the body.
    pub(crate) fn ends(self, reason: &str) -> Self {
        self.event(&finish(reason))
            .event(&usage(11, 3, 4))
            .piece(DONE)
            .end()
    }

    /// The end of the body.
    pub(crate) fn end(self) -> Self {
        self.raw("0\r\n\r\n")
    }

    /// Answer before the request's body has been read.
    pub(crate) fn early(mut self) -> Self {
        self.early = true;
        self
    }

    /// Keep only the first `length` bytes of all that would be sent, then close.
    pub(crate) fn cut(self, length: usize) -> Self {
        let mut left = length;
        let mut steps = Vec::new();
        for step in self.steps {
            match step {
                Step::Send(bytes) => {
                    let kept = bytes.slice(..bytes.len().min(left));
                    left -= kept.len();
                    steps.push(Step::Send(kept));
                }
                other => steps.push(other),
            }
            if left == 0 {
                break;
            }
        }
        steps.push(Step::Close);
        Self { steps, ..self }
    }

    /// Bytes it would send.
    pub(crate) fn sent_len(&self) -> usize {
        let lengths = self.steps.iter().map(|step| match step {
            Step::Send(bytes) => bytes.len(),
            _ => 0,
        });
        lengths.sum()
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// A chunk of llama-server's chat stream around `choices` and whatever `more` holds.
pub(crate) fn chunk(choices: Value, more: Value) -> Value {
    let mut chunk = json!({
        "choices": choices, "created": 1_795_437_452, "id": "chatcmpl-backend",
        "model": "backend-model", "system_fingerprint": "b11434-test",
        "object": "chat.completion.chunk",
    });
    if let (Some(chunk), Value::Object(more)) = (chunk.as_object_mut(), more) {
        chunk.extend(more);
    }
    chunk
}

/// A delta of choice `index`.
pub(crate) fn delta_of(index: u32, delta: Value) -> Value {
    chunk(
        json!([{"finish_reason": null, "index": index, "delta": delta}]),
        json!({}),
    )
}

/// A delta of the only choice.
pub(crate) fn delta(delta: Value) -> Value {
    delta_of(0, delta)
}

/// The first chunk.
pub(crate) fn role() -> Value {
    delta(json!({"role": "assistant", "content": null}))
}

/// A tool call, or its beginning.
pub(crate) fn tool_call(index: usize, id: &str, name: &str, arguments: &str) -> Value {
    delta(
        json!({"tool_calls": [{"index": index, "id": id, "type": "function",
        "function": {"name": name, "arguments": arguments}}]}),
    )
}

/// A piece of text.
pub(crate) fn text(text: &str) -> Value {
    delta(json!({"content": text}))
}

/// The last chunk of choice `index`.
pub(crate) fn finish_of(index: u32, reason: &str) -> Value {
    chunk(
        json!([{"finish_reason": reason, "index": index, "delta": {}}]),
        json!({}),
    )
}

/// The last chunk of the only choice.
pub(crate) fn finish(reason: &str) -> Value {
    finish_of(0, reason)
}

/// Timings that fit these counts.
pub(crate) fn timings(prompt: u64, cached: u64, completion: u64) -> Value {
    json!({
        "cache_n": cached, "prompt_n": prompt - cached, "prompt_ms": 10.5,
        "prompt_per_token_ms": 1.0, "prompt_per_second": 100.0, "predicted_n": completion,
        "predicted_ms": 20.5, "predicted_per_token_ms": 5.0, "predicted_per_second": 200.0,
    })
}

/// The usage chunk.
pub(crate) fn usage(prompt: u64, cached: u64, completion: u64) -> Value {
    let usage = json!({
        "completion_tokens": completion, "prompt_tokens": prompt,
        "total_tokens": prompt + completion, "prompt_tokens_details": {"cached_tokens": cached},
    });
    chunk(
        json!([]),
        json!({"usage": usage, "timings": timings(prompt, cached, completion)}),
    )
}
