//! llama-server's error answers: status and JSON body.
//!
//! The server writes `code` first for errors of a task and last for errors of its HTTP layer
//! (`tools/server/server-common.cpp`, `server-http.cpp` of b11434); both orders are kept.

use serde::{Deserialize, Serialize};
use serde_json::json;

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) message: String,
    /// `(n_prompt_tokens, n_ctx)` of a context overflow.
    pub(crate) overflow: Option<(usize, usize)>,
}

/// What fails, by name, in scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownFailure {
    /// `Context size has been exceeded.`: the KV cache overflowed while decoding.
    KvOverflow,
    /// The model's output does not parse with the template's parser.
    PegParse,
    /// The chat template refuses a system message that is not the first.
    TemplateSystem,
    /// The chat template refuses two messages of one role in a row.
    TemplateRoles,
    /// `Compute error.`
    Compute,
    /// `Loading model`, 503.
    Loading,
}

impl ApiError {
    pub(crate) fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: kind.into(),
            message: message.into(),
            overflow: None,
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    pub(crate) fn server(message: impl Into<String>) -> Self {
        Self::new(500, "server_error", message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(501, "not_supported_error", message)
    }

    pub(crate) fn context(prompt: usize, n_ctx: usize) -> Self {
        let message = format!(
            "request ({prompt} tokens) exceeds the available context size ({n_ctx} tokens), try increasing it"
        );
        Self {
            overflow: Some((prompt, n_ctx)),
            ..Self::new(400, "exceed_context_size_error", message)
        }
    }

    pub(crate) fn known(failure: KnownFailure) -> Self {
        match failure {
            KnownFailure::KvOverflow => Self::server("Context size has been exceeded."),
            KnownFailure::PegParse => Self::server(
                "The model produced output that does not match the expected peg-native format",
            ),
            KnownFailure::TemplateSystem => Self::server(
                "Unable to generate parser for this template. Automatic parser generation failed: \
                 System message must be at the beginning.",
            ),
            KnownFailure::TemplateRoles => Self::server(
                "Unable to generate parser for this template. Automatic parser generation failed: \
                 After the optional system message, conversation roles must alternate user/assistant/user/assistant/...",
            ),
            KnownFailure::Compute => Self::server("Compute error."),
            KnownFailure::Loading => Self::new(503, "unavailable_error", "Loading model"),
        }
    }

    /// The body of an error of a task.
    pub(crate) fn body(&self) -> String {
        let tail = match self.overflow {
            Some((prompt, n_ctx)) => format!(",\"n_prompt_tokens\":{prompt},\"n_ctx\":{n_ctx}"),
            None => String::new(),
        };
        let (message, kind) = (json!(self.message), json!(self.kind));
        format!(
            "{{\"error\":{{\"code\":{},\"message\":{message},\"type\":{kind}{tail}}}}}",
            self.status
        )
    }

    /// The body of an error of the HTTP layer: unknown path, wrong key, loading.
    pub(crate) fn http_body(&self) -> String {
        let (message, kind) = (json!(self.message), json!(self.kind));
        format!(
            "{{\"error\":{{\"message\":{message},\"type\":{kind},\"code\":{}}}}}",
            self.status
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_those_of_the_real_server() {
        assert_eq!(
            ApiError::context(931, 512).body(),
            r#"{"error":{"code":400,"message":"request (931 tokens) exceeds the available context size (512 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":931,"n_ctx":512}}"#
        );
        assert_eq!(
            ApiError::known(KnownFailure::Loading).http_body(),
            r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#
        );
    }
}
