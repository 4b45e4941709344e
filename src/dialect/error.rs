//! Errors in the words and shapes each client understands: the only place that writes them.

use bytes::BytesMut;
use serde::Serialize;

use super::{Dialect, json, sse};
use crate::turn::TurnError;

/// HTTP status of an error response. Anthropic's API has one of its own for too much work.
pub fn status(dialect: Dialect, error: &TurnError) -> u16 {
    match (dialect, error, error.status()) {
        (Dialect::Anthropic, TurnError::Overloaded { .. }, 503) => 529,
        (_, _, status) => status,
    }
}

/// The JSON body of an error response.
pub fn body(dialect: Dialect, error: &TurnError) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    match dialect {
        Dialect::OpenAi => json::write(&mut out, &OpenAiEnvelope::new(error, "messages")),
        Dialect::Responses => json::write(&mut out, &OpenAiEnvelope::new(error, "input")),
        Dialect::Anthropic => json::write(&mut out, &AnthropicEnvelope::new(error)),
    }
    out
}

/// Append the error as the last event of a stream that has already begun. No terminator follows:
/// an answer that broke off must not look complete. (A Responses stream ends with the response
/// itself, which its encoder writes around a [`ResponseError`]; this is the event that such a stream
/// has for everything else.)
pub fn stream_event(dialect: Dialect, error: &TurnError, out: &mut BytesMut) {
    match dialect {
        Dialect::OpenAi => sse::write_data(out, &OpenAiEnvelope::new(error, "messages")),
        Dialect::Responses => sse::write_event(out, "error", &OpenAiEnvelope::new(error, "input")),
        Dialect::Anthropic => sse::write_event(out, "error", &AnthropicEnvelope::new(error)),
    }
}

/// <https://platform.openai.com/docs/guides/error-codes>; `code` inside streams is what SDKs log.
#[derive(Serialize)]
struct OpenAiEnvelope<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: String,
    r#type: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
}

impl<'a> OpenAiEnvelope<'a> {
    /// `prompt` is the field the conversation is in.
    fn new(error: &'a TurnError, prompt: &'static str) -> Self {
        let param = match error {
            TurnError::BadRequest { param, .. } => param.as_deref(),
            TurnError::ContextOverflow { .. } => Some(prompt),
            TurnError::UnknownModel(_) => Some("model"),
            _ => None,
        };
        let (r#type, code) = openai_type(error);
        Self {
            error: OpenAiError {
                message: message(error),
                r#type,
                param,
                code,
            },
        }
    }
}

fn openai_type(error: &TurnError) -> (&'static str, Option<&'static str>) {
    const INVALID: &str = "invalid_request_error";
    match error {
        TurnError::ContextOverflow { .. } => (INVALID, Some("context_length_exceeded")),
        TurnError::UnknownModel(_) => (INVALID, Some("model_not_found")),
        TurnError::UnknownPath(_) => (INVALID, Some("unknown_url")),
        TurnError::NotStored => (INVALID, Some("not_stored")),
        TurnError::BadRequest { .. } => (INVALID, None),
        TurnError::Template(_) => (INVALID, Some("chat_template_error")),
        TurnError::BodyTooLarge { .. } | TurnError::HeaderTooLarge { .. } => {
            (INVALID, Some("request_too_large"))
        }
        TurnError::BodyTimeout => (INVALID, Some("request_timeout")),
        TurnError::Unauthorized => (INVALID, Some("invalid_api_key")),
        TurnError::Forbidden(_) => ("permission_error", Some("forbidden")),
        TurnError::Unsupported(_) => ("not_supported_error", Some("not_supported")),
        TurnError::Loading { .. } => ("server_error", Some("model_loading")),
        TurnError::NoBackend { .. } => ("server_error", Some("no_backend")),
        TurnError::RateLimited { .. } => ("requests", Some("rate_limit_exceeded")),
        TurnError::Overloaded { .. } if error.status() == 429 => {
            ("requests", Some("rate_limit_exceeded"))
        }
        TurnError::Overloaded { .. } => ("server_error", Some("overloaded")),
        TurnError::Draining => ("server_error", Some("shutting_down")),
        TurnError::Upstream(_) => ("server_error", Some("upstream_error")),
        TurnError::KvOverflow => ("server_error", Some("kv_overflow")),
        TurnError::Timeout { .. } => ("server_error", Some("timeout")),
        TurnError::Internal(_) => ("server_error", Some("internal_error")),
    }
}

/// The error inside a failed response.
#[derive(Debug, Serialize)]
pub(super) struct ResponseError {
    code: &'static str,
    message: String,
}

impl ResponseError {
    /// Codes are the API's own where clients act on them: Codex compacts on
    /// `context_length_exceeded`, gives up on `invalid_prompt`, and tries everything else again.
    pub(super) fn new(error: &TurnError) -> Self {
        let code = match error {
            TurnError::ContextOverflow { .. } => "context_length_exceeded",
            error if error.status() == 429 => "rate_limit_exceeded",
            error if error.status() < 500 || matches!(error, TurnError::Unsupported(_)) => {
                "invalid_prompt"
            }
            _ => "server_error",
        };
        Self {
            code,
            message: message(error),
        }
    }
}

/// <https://docs.anthropic.com/en/api/errors>
#[derive(Serialize)]
struct AnthropicEnvelope {
    r#type: &'static str,
    error: AnthropicError,
}

#[derive(Serialize)]
struct AnthropicError {
    r#type: &'static str,
    message: String,
}

impl AnthropicEnvelope {
    fn new(error: &TurnError) -> Self {
        let r#type = match error.status() {
            400 | 408 | 431 | 501 => "invalid_request_error",
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            _ => "api_error",
        };
        let error = AnthropicError {
            r#type,
            message: message(error),
        };
        Self {
            r#type: "error",
            error,
        }
    }
}

/// Clients compact their conversation only when an overflow is worded as they know it: Anthropic's
/// "prompt is too long: N tokens > M maximum" or llama.cpp's "exceeds the available context size".
fn message(error: &TurnError) -> String {
    match error {
        TurnError::ContextOverflow { prompt, limit } => format!(
            "{error}: the request ({prompt} tokens) exceeds the available context size ({limit} tokens)"
        ),
        error => clipped(error.to_string()),
    }
}

/// Messages may quote what a client sent, at any length.
fn clipped(mut message: String) -> String {
    const LONGEST: usize = 1000;
    if let Some((end, _)) = message.char_indices().nth(LONGEST) {
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Overload;

    #[test]
    fn too_much_work_has_the_status_of_the_dialect() {
        let busy = |reason| TurnError::Overloaded {
            pool: "p".into(),
            reason,
            retry_after: std::time::Duration::from_secs(7),
        };
        let (full, share) = (busy(Overload::Full), busy(Overload::Share));
        for (dialect, expected) in [
            (
                Dialect::Anthropic,
                (529, "overloaded_error", "rate_limit_error"),
            ),
            (Dialect::OpenAi, (503, "overloaded", "rate_limit_exceeded")),
            (
                Dialect::Responses,
                (503, "overloaded", "rate_limit_exceeded"),
            ),
        ] {
            assert_eq!(status(dialect, &full), expected.0);
            assert_eq!(status(dialect, &share), 429);
            let text = |error| String::from_utf8(body(dialect, error).to_vec()).unwrap();
            assert!(text(&full).contains(expected.1), "{}", text(&full));
            assert!(text(&share).contains(expected.2), "{}", text(&share));
        }
        assert_eq!(ResponseError::new(&full).code, "server_error");
        assert_eq!(ResponseError::new(&share).code, "rate_limit_exceeded");
    }

    #[test]
    fn openai_errors_have_the_shape_the_sdks_read() {
        let error = TurnError::bad_field("n", "`n` must be 1 to 128");
        let text = body(Dialect::OpenAi, &error);
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            r#"{"error":{"message":"`n` must be 1 to 128","type":"invalid_request_error","param":"n","code":null}}"#
        );
    }

    #[test]
    fn what_a_client_sent_is_quoted_in_part_only() {
        let error = TurnError::bad_request(format!("unknown role `{}`", "é".repeat(1 << 20)));
        let text = body(Dialect::OpenAi, &error);
        assert!(text.len() < 3000, "{}", text.len());
    }

    #[test]
    fn overflow_is_worded_so_that_clients_compact() {
        let error = TurnError::ContextOverflow {
            prompt: 931,
            limit: 512,
        };
        let text = String::from_utf8(body(Dialect::OpenAi, &error).to_vec()).unwrap();
        assert!(text.contains("prompt is too long: 931 tokens > 512 maximum"));
        assert!(text.contains("exceeds the available context size"));
        assert!(text.contains("context_length_exceeded"));
    }

    #[test]
    fn anthropic_errors_have_their_envelope() {
        let error = TurnError::ContextOverflow {
            prompt: 9,
            limit: 5,
        };
        let text = String::from_utf8(body(Dialect::Anthropic, &error).to_vec()).unwrap();
        let start = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 5 maximum"#;
        assert!(text.starts_with(start), "{text}");
        let mut out = BytesMut::new();
        stream_event(
            Dialect::Anthropic,
            &TurnError::Upstream("gone".into()),
            &mut out,
        );
        assert!(out.starts_with(b"event: error\ndata: {\"type\":\"error\""));
    }

    #[test]
    fn a_failed_stream_ends_with_an_error_and_no_terminator() {
        let mut out = BytesMut::new();
        stream_event(
            Dialect::OpenAi,
            &TurnError::Upstream("gone".into()),
            &mut out,
        );
        let text = std::str::from_utf8(&out).unwrap();
        assert!(text.starts_with("data: {\"error\":") && text.ends_with("\n\n"));
        assert!(!text.contains("[DONE]"));
    }
}
