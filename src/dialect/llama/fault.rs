//! What llama-server's errors mean.
//!
//! Statuses alone do not tell: a template that rejects the conversation is a 500 like a crashed
//! decode, and only one of them is worth another attempt.

use std::time::Duration;

use serde::Deserialize;

use crate::turn::TurnError;

/// How an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This request would fail on every backend of the pool.
    Permanent(TurnError),
    /// Another backend, or the same one later, may answer it.
    Transient(TurnError),
    /// The model wrote something that llama-server's parser for its template cannot read; in all
    /// likelihood a malformed tool call. The text is llama-server's.
    Misparsed(String),
}

impl Fault {
    /// The error inside.
    pub fn into_error(self) -> TurnError {
        match self {
            Self::Permanent(error) | Self::Transient(error) => error,
            Self::Misparsed(why) => TurnError::Upstream(why),
        }
    }
}

/// llama-server's error object (`format_error_response`, `server-common.cpp`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireError {
    pub(super) message: String,
    r#type: String,
    n_prompt_tokens: Option<u64>,
    n_ctx: Option<u64>,
}

#[derive(Deserialize)]
struct Envelope {
    error: WireError,
}

/// Texts of 500s that no retry can cure: the chat template's own exceptions.
const TEMPLATE: &[&str] = &[
    "Jinja Exception",
    "While executing",
    "Unable to generate parser",
];

/// The 500 of an answer that does not follow the template's own format (`common/chat.cpp`).
const MISPARSED: &str = "does not match the expected";

/// The 500 of every answer under way when the KV cache that the slots share is full
/// (`tools/server/server-context.cpp`).
const KV_OVERFLOW: &str = "Context size has been exceeded";

/// Texts of a router's 400s about a model that no process serves now (`router_validate_model` and `proxy_request`,
/// `server-models.cpp`).
const NOT_LOADED: &[&str] = &["model is not loaded", "is not running"];

/// When to ask again for a model that is being loaded.
const LOADED_IN: Duration = Duration::from_secs(2);

/// Texts of 500s that blame the request.
const REQUEST: &[&str] = &[
    "is not supported - hint",
    "does not support multimodal",
    "Failed to load image",
    "Invalid base64",
    "Failed to parse messages",
    "Failed to parse tools",
    "Failed to tokenize",
    "Cannot use both",
    "Unsupported param",
    "Only no echo",
    "is required",
    "must be",
    "failed to parse grammar",
    "Failed to parse grammar",
    "JSON schema conversion failed",
    "JSON schema error",
    "Failed to parse tool call arguments",
];

/// An error answer that came instead of a stream.
pub fn http_fault(status: u16, body: &[u8], retry_after: Option<Duration>) -> Fault {
    let wire = serde_json::from_slice::<Envelope>(body)
        .map(|e| e.error)
        .unwrap_or_default();
    let told = |fallback: &str| {
        if wire.message.is_empty() {
            fallback.to_owned()
        } else {
            clip(&wire.message)
        }
    };
    match status {
        400 if let Some(fault) = wire.router_fault() => fault,
        400 | 422 => wire.known_fault().unwrap_or_else(|| {
            Fault::Permanent(TurnError::bad_request(told(
                "the backend rejects the request",
            )))
        }),
        401 | 403 => Fault::Transient(TurnError::Upstream(
            "the backend refuses the gateway's credentials (see `api_key_env` of the backend)"
                .into(),
        )),
        404 => Fault::Transient(TurnError::Upstream(told(
            "the backend does not know this path",
        ))),
        413 => Fault::Permanent(TurnError::BodyTooLarge { limit: 100 << 20 }),
        429 => Fault::Transient(TurnError::RateLimited { retry_after }),
        501 => Fault::Permanent(TurnError::Unsupported(told(
            "the backend does not support this",
        ))),
        503 => Fault::Transient(TurnError::Loading {
            retry_after: retry_after.unwrap_or(LOADED_IN),
        }),
        500 => wire
            .known_fault()
            .unwrap_or_else(|| Fault::Transient(TurnError::Upstream(told("the backend failed")))),
        status => Fault::Transient(TurnError::Upstream(told(&format!(
            "the backend answered {status}"
        )))),
    }
}

/// An error event inside an open stream: `{"error": …}` already unwrapped.
pub(super) fn event_fault(wire: &WireError) -> Fault {
    wire.known_fault().unwrap_or_else(|| {
        let message = if wire.message.is_empty() {
            "the backend failed"
        } else {
            &wire.message
        };
        Fault::Transient(TurnError::Upstream(clip(message)))
    })
}

/// A stream that broke its own protocol.
pub fn stream_fault(what: &str) -> Fault {
    Fault::Transient(TurnError::Upstream(what.to_owned()))
}

impl WireError {
    /// What a router says of the model, not of the request.
    fn router_fault(&self) -> Option<Fault> {
        let name = self.message.strip_prefix("model '");
        if let Some(name) = name.and_then(|rest| rest.strip_suffix("' not found")) {
            return Some(Fault::Transient(TurnError::UnknownModel(clip(name))));
        }
        let is_gone = self.message.starts_with("model ")
            && NOT_LOADED.iter().any(|text| self.message.ends_with(text));
        is_gone.then_some(Fault::Transient(TurnError::Loading {
            retry_after: LOADED_IN,
        }))
    }

    /// What a 500 or an event with this error means, where that is known.
    fn known_fault(&self) -> Option<Fault> {
        if self.r#type == "exceed_context_size_error" {
            return Some(Fault::Permanent(TurnError::ContextOverflow {
                prompt: self.n_prompt_tokens.unwrap_or(0),
                limit: self.n_ctx.unwrap_or(0),
            }));
        }
        if self.message.contains(KV_OVERFLOW) {
            return Some(Fault::Transient(TurnError::KvOverflow));
        }
        if self.message.contains(MISPARSED) {
            return Some(Fault::Misparsed(clip(&self.message)));
        }
        let says = |texts: &[&str]| texts.iter().any(|text| self.message.contains(text));
        if says(TEMPLATE) {
            return Some(Fault::Permanent(TurnError::Template(template_reason(
                &self.message,
            ))));
        }
        says(REQUEST).then(|| Fault::Permanent(TurnError::bad_request(clip(&self.message))))
    }
}

/// The last line of a Jinja trace is the template author's message.
fn template_reason(message: &str) -> String {
    let reason = message
        .rsplit("Jinja Exception:")
        .next()
        .unwrap_or(message)
        .trim();
    clip(reason.lines().next_back().unwrap_or(reason))
}

/// Backends put prompts and templates into messages; clients get the beginning only.
fn clip(message: &str) -> String {
    const LONGEST: usize = 500;
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_carries_its_numbers() {
        let body = br#"{"error":{"code":400,"message":"request (931 tokens) exceeds the available context size (512 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":931,"n_ctx":512}}"#;
        let expected = TurnError::ContextOverflow {
            prompt: 931,
            limit: 512,
        };
        assert_eq!(http_fault(400, body, None), Fault::Permanent(expected));
    }

    #[test]
    fn a_template_exception_is_permanent_and_told_in_one_line() {
        let body = br#"{"error":{"code":500,"message":"\n------------\nWhile executing CallExpression at line 85, column 32 in source:\n...\nError: Jinja Exception: System message must be at the beginning.","type":"server_error"}}"#;
        let expected = TurnError::Template("System message must be at the beginning.".into());
        assert_eq!(http_fault(500, body, None), Fault::Permanent(expected));
    }

    #[test]
    fn faults_of_the_backend_are_transient() {
        for (status, message) in [(500, "Compute error."), (502, "x"), (404, "File Not Found")] {
            let body = format!(r#"{{"error":{{"message":"{message}","type":"server_error"}}}}"#);
            let fault = http_fault(status, body.as_bytes(), None);
            assert!(
                matches!(fault, Fault::Transient(TurnError::Upstream(_))),
                "{message}: {fault:?}"
            );
        }
        let loading =
            br#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
        assert!(matches!(
            http_fault(503, loading, None),
            Fault::Transient(TurnError::Loading { .. })
        ));
    }

    #[test]
    fn an_overflow_of_the_shared_cache_is_known_in_both_forms() {
        let body = br#"{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}"#;
        let expected = Fault::Transient(TurnError::KvOverflow);
        assert_eq!(http_fault(500, body, None), expected);
        let wire = serde_json::from_slice::<Envelope>(body).unwrap().error;
        assert_eq!(event_fault(&wire), expected);
    }

    #[test]
    fn a_proxy_before_the_backend_may_ask_for_fewer_requests() {
        let retry_after = Some(Duration::from_secs(12));
        let fault = http_fault(429, b"slow down", retry_after);
        let error = TurnError::RateLimited { retry_after };
        assert_eq!((error.status(), error.retry_after()), (429, retry_after));
        assert_eq!(fault, Fault::Transient(error));
    }

    /// Bodies as a router of b11434 sends them.
    #[test]
    fn what_a_router_says_of_its_models_is_no_fault_of_the_request() {
        let unknown = br#"{"error":{"code":400,"message":"model 'nope' not found","type":"invalid_request_error"}}"#;
        let expected = Fault::Transient(TurnError::UnknownModel("nope".into()));
        assert_eq!(http_fault(400, unknown, None), expected);
        for message in ["model is not loaded", "model name=smol-base is not running"] {
            let body = format!(
                r#"{{"error":{{"code":400,"message":"{message}","type":"invalid_request_error"}}}}"#
            );
            let fault = http_fault(400, body.as_bytes(), None);
            let Fault::Transient(error @ TurnError::Loading { .. }) = fault else {
                panic!("{message}: {fault:?}");
            };
            assert_eq!(error.status(), 503);
        }
        let broken = br#"{"error":{"code":500,"message":"model name=smol-broken failed to load","type":"server_error"}}"#;
        assert!(matches!(
            http_fault(500, broken, None),
            Fault::Transient(TurnError::Upstream(_))
        ));
    }

    #[test]
    fn bodies_that_are_no_json_still_have_a_meaning() {
        assert!(matches!(
            http_fault(400, b"", None),
            Fault::Permanent(TurnError::BadRequest { .. })
        ));
        assert!(matches!(
            http_fault(500, b"<html>", None),
            Fault::Transient(_)
        ));
    }
}
