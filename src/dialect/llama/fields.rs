//! Which request fields may pass from a client to a backend.

/// Fields that reach across sessions, change server state, or feed llama-server's own parser and
/// must never come from a client (b11434, `server-schema.cpp` and the copy-through of
/// `oaicompat_chat_params_parse`).
const REFUSED: &[&str] = &[
    "chat_format",
    "chat_parser",
    "generation_prompt",
    // Pinning a busy slot swaps another conversation's KV cache into the running answer.
    "id_slot",
    "lora",
    "message_delimiters",
    "n_cmpl",
    "preserved_tokens",
    "reasoning_control",
    "response_fields",
    "slot_id",
    "speculative",
    // The gateway's own business: it decides how the backend streams and pings.
    "return_progress",
    "return_tokens",
    "sse_ping_interval",
    "timings_per_token",
    // Adds the full prompt and the server's settings to the answer.
    "verbose",
];

/// Families of such fields.
const REFUSED_PREFIXES: &[&str] = &["__", "grammar_", "speculative."];

/// Whether a field that the gateway does not interpret may be forwarded. Everything may that is
/// not known to be dangerous: an unknown field is most likely a sampling option of a newer build.
pub fn is_forwardable(name: &str) -> bool {
    !REFUSED.contains(&name)
        && !REFUSED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_fields_stop_here_and_harmless_ones_pass() {
        for name in [
            "id_slot",
            "speculative.n_max",
            "speculative",
            "grammar_lazy",
            "grammar_triggers",
            "grammar_type",
            "chat_parser",
            "lora",
            "verbose",
            "n_cmpl",
            "__verbose",
        ] {
            assert!(!is_forwardable(name), "{name}");
        }
        for name in [
            "temperature",
            "grammar",
            "seed",
            "logit_bias",
            "min_p",
            "from_the_future",
        ] {
            assert!(is_forwardable(name), "{name}");
        }
    }
}
