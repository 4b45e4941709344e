//! The steps that scripts are made of.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::errors::{ApiError, KnownFailure};

/// One step of an answer. In JSON: `{"text": "hi"}`, `"die"`, `{"sleep_ms": 50}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Visible text, one event a token. Also for tool calls written as text.
    #[serde(alias = "raw")]
    Text(String),
    /// Visible text in exactly these events.
    Chunks(Vec<String>),
    /// `reasoning_content`, one event a token.
    Reasoning(String),
    /// The same text again and again.
    Repeat {
        /// The text.
        text: String,
        /// How often.
        times: usize,
    },
    /// A tool call in proper deltas.
    ToolCall(Call),
    /// A tool call cut off after some bytes of its arguments; the answer ends with `length`.
    TruncatedToolCall {
        /// The call.
        #[serde(flatten)]
        call: Call,
        /// Bytes of the arguments that are sent.
        cut: usize,
    },
    /// A verification step: the text's first `accepted + 1` tokens arrive at once.
    Burst {
        /// The text.
        text: String,
        /// Tokens drafted.
        drafted: u32,
        /// Tokens accepted.
        accepted: u32,
    },
    /// Text whose events are cut inside characters, over HTTP chunks and TCP segments.
    SplitUtf8(String),
    /// Pause, in milliseconds.
    SleepMs(u64),
    /// No bytes but pings from here on.
    Silence,
    /// A failure by name: mid-stream once the stream is open.
    Fail(KnownFailure),
    /// Any failure after the stream is open (non-stream: with its status).
    Error(ErrorStep),
    /// An HTTP error before any generation.
    HttpError(ErrorStep),
    /// Cut the connection without the end of the body.
    Die,
    /// Reset the connection.
    Reset,
    /// Bytes sent as they are, as one HTTP chunk of the event stream.
    Garbage(String),
    /// End the body cleanly, without finish chunk and `[DONE]`.
    End,
    /// Leave `[DONE]` out at the end.
    NoDone,
    /// Leave the first chunk (the role) out, as the server does after a split first character.
    NoRole,
    /// The finish reason to report.
    Finish(String),
}

/// A tool call of a script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Tool name.
    pub name: String,
    /// A string is sent as it is, anything else as JSON.
    #[serde(default)]
    pub arguments: Value,
    /// Call id; made up when missing.
    #[serde(default)]
    pub id: Option<String>,
}

impl Call {
    /// The text of the arguments.
    pub(crate) fn arguments_text(&self) -> String {
        match &self.arguments {
            Value::String(text) => text.clone(),
            Value::Null => "{}".into(),
            other => other.to_string(),
        }
    }
}

/// An error of a script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorStep {
    /// HTTP status.
    #[serde(default = "default_status")]
    pub status: u16,
    /// The message.
    #[serde(default)]
    pub message: String,
    /// The error type.
    #[serde(default = "default_kind", rename = "type")]
    pub kind: String,
    /// A whole body instead of the error object.
    #[serde(default)]
    pub body: Option<String>,
}

fn default_status() -> u16 {
    500
}

fn default_kind() -> String {
    "server_error".into()
}

impl ErrorStep {
    pub(crate) fn api_error(&self) -> ApiError {
        ApiError::new(self.status, &self.kind, self.message.clone())
    }
}
