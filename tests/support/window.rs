//! The context window of a backend: how prompts are counted, how they are refused.

use serde_json::json;

use super::script::{DONE, Reply, finish, role, text, usage};
use super::{Backend, Response};

/// Stands where messages were left out.
pub(crate) const MARKER: &str = "[CONTEXT PRUNED:";

/// An answer to a prompt of so many tokens.
pub(crate) fn answer(prompt: u64) -> Reply {
    Reply::stream()
        .event(&role())
        .event(&text("Hello"))
        .event(&finish("stop"))
        .event(&usage(prompt, 0, 4))
        .piece(DONE)
        .end()
}

/// The answer to a count.
pub(crate) fn count(tokens: u64) -> Reply {
    Reply::json(
        200,
        &json!({"input_tokens": tokens, "object": "response.input_tokens"}),
    )
}

/// How llama-server refuses a prompt that is too long.
pub(crate) fn overflow(prompt: u64, n_ctx: u64) -> Reply {
    let message = format!(
        "request ({prompt} tokens) exceeds the available context size ({n_ctx} tokens), try increasing it"
    );
    Reply::json(
        400,
        &json!({"error": {"code": 400, "message": message,
        "type": "exceed_context_size_error", "n_prompt_tokens": prompt, "n_ctx": n_ctx}}),
    )
}

/// What the backend was asked, in order.
pub(crate) fn paths(backend: &Backend) -> Vec<String> {
    let path = |line: String| line.split(' ').nth(1).unwrap_or_default().to_owned();
    backend
        .requests()
        .into_iter()
        .map(|r| path(r.line))
        .collect()
}

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const COUNT: &str = "/v1/chat/completions/input_tokens";

/// The client was told in the words that make it compact.
pub(crate) fn assert_overflow(response: &Response, path: &str, prompt: u64, n_ctx: u64) {
    if response.status == 200 && path == "/v1/responses" {
        // The dialect tells errors of streams inside them.
        let text = response.text();
        let words = format!("prompt is too long: {prompt} tokens > {n_ctx} maximum");
        assert!(
            text.contains("response.failed") && text.contains(&words),
            "{text}"
        );
        assert!(text.contains("context_length_exceeded"), "{text}");
        return;
    }
    assert_eq!(response.status, 400, "{}", response.text());
    let error = response.error();
    let message = error["message"].as_str().unwrap();
    let words = format!("prompt is too long: {prompt} tokens > {n_ctx} maximum");
    assert!(message.starts_with(&words), "{message}");
    assert_eq!(error["type"], "invalid_request_error");
    if path != "/v1/messages" {
        assert_eq!(error["code"], "context_length_exceeded");
    }
}
