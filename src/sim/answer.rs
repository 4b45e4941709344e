//! Renders answers in the JSON of llama-server b11434, byte order included: event-stream chunks
//! here, whole bodies in [`super::body`].

use std::io::Write;

use serde::Serialize;

use super::{
    plan::Emit,
    request::{Kind, Request},
    rng,
    timings::Timings,
    tokens::{self, Token},
};

/// Appends formatted text.
pub(crate) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

/// Appends a value as JSON.
pub(crate) fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing to a Vec cannot fail, and no value here has maps with keys other than strings.
    let _ = serde_json::to_writer(out, value);
}

/// The parts of an answer that every chunk repeats.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) build: String,
    /// Unix seconds.
    pub(crate) created: u64,
    pub(crate) include_usage: bool,
    pub(crate) timings_per_token: bool,
    pub(crate) return_tokens: bool,
    /// Alternatives shown for each token, if log probabilities are wanted.
    pub(crate) logprobs: Option<usize>,
}

impl Envelope {
    pub(crate) fn new(
        request: &Request,
        id: String,
        model: &str,
        build: &str,
        created: u64,
    ) -> Self {
        Self {
            kind: request.kind,
            id,
            model: model.to_owned(),
            build: build.to_owned(),
            created,
            include_usage: request.include_usage,
            timings_per_token: request.timings_per_token,
            return_tokens: request.return_tokens,
            logprobs: request.logprobs,
        }
    }

    /// The first event of a chat choice.
    pub(crate) fn role(&self, out: &mut Vec<u8>, index: usize) {
        if self.kind == Kind::Chat {
            self.chat_event(
                out,
                index,
                None,
                br#""role":"assistant","content":null"#,
                "",
                |_| {},
            );
        }
    }

    /// Progress of the prompt's evaluation (`return_progress`).
    pub(crate) fn progress(
        &self,
        out: &mut Vec<u8>,
        index: usize,
        timings: &Timings,
        total: usize,
    ) {
        let done = timings.prompt_n + timings.cache_n;
        let extra = |out: &mut Vec<u8>| {
            if self.timings_per_token {
                out.push(b',');
                timings.write(out);
            }
            put(
                out,
                format_args!(
                    ",\"prompt_progress\":{{\"total\":{total},\"cache\":{},\"processed\":{done},\"time_ms\":{}}}",
                    timings.cache_n, timings.prompt_ms as u64
                ),
            );
        };
        if self.kind == Kind::Chat {
            self.chat_event(
                out,
                index,
                None,
                br#""role":"assistant","content":null"#,
                "",
                extra,
            );
        }
    }

    /// The event of one visible token.
    pub(crate) fn token(
        &self,
        out: &mut Vec<u8>,
        index: usize,
        token: Token,
        emit: &Emit,
        timings: &Timings,
        evaluated: usize,
    ) {
        let mut extra = Vec::new();
        if self.timings_per_token {
            extra.push(b',');
            timings.write(&mut extra);
        }
        let text = match emit {
            Emit::Content(text) | Emit::Split(text) | Emit::Reasoning(text) => text.as_str(),
            Emit::ToolOpen { arguments, .. } | Emit::ToolArguments { arguments, .. } => arguments,
            Emit::Nothing => "",
        };
        let probabilities = self.logprobs.map(|top| logprob(token, text, top));
        match self.kind {
            Kind::Chat => {
                let mut delta = Vec::with_capacity(64);
                write_delta(&mut delta, emit);
                let logprobs = probabilities
                    .map(|item| format!(",\"logprobs\":{{\"content\":[{item}]}}"))
                    .unwrap_or_default();
                self.chat_event(out, index, None, &delta, &logprobs, |out| {
                    out.extend_from_slice(&extra)
                });
            }
            Kind::Completion => {
                let logprobs = probabilities.map(|item| format!("{{\"content\":[{item}]}}"));
                self.text_event(out, index, text, logprobs.as_deref(), None, None);
                out.extend_from_slice(&extra);
                out.extend_from_slice(b"}\n\n");
            }
            Kind::Native => {
                out.extend_from_slice(b"data: ");
                put(out, format_args!("{{\"index\":{index},\"content\":"));
                write_json(out, text);
                let shown = if self.return_tokens {
                    token.to_string()
                } else {
                    String::new()
                };
                put(
                    out,
                    format_args!(
                        ",\"tokens\":[{shown}],\"stop\":false,\"id_slot\":-1,\"tokens_predicted\":{},\"tokens_evaluated\":{evaluated}",
                        timings.predicted_n
                    ),
                );
                out.extend_from_slice(&extra);
                out.extend_from_slice(b"}\n\n");
            }
        }
    }

    /// The last event of a choice, and its usage event when wanted.
    pub(crate) fn finish(&self, out: &mut Vec<u8>, index: usize, reason: &str, timings: &Timings) {
        match self.kind {
            Kind::Chat => {
                self.chat_event(out, index, Some(reason), b"", "", |out| {
                    if !self.include_usage {
                        out.push(b',');
                        timings.write(out);
                    }
                });
                if self.include_usage {
                    out.extend_from_slice(b"data: {\"choices\":[]");
                    self.chat_tail(out);
                    out.push(b',');
                    timings.write_usage(out);
                    out.push(b',');
                    timings.write(out);
                    out.extend_from_slice(b"}\n\n");
                }
            }
            Kind::Completion => {
                self.text_event(out, index, "", None, Some(reason), Some(timings));
                out.push(b',');
                timings.write(out);
                out.extend_from_slice(b"}\n\n");
            }
            // The native endpoint's last event is a whole body.
            Kind::Native => {}
        }
    }

    fn chat_event(
        &self,
        out: &mut Vec<u8>,
        index: usize,
        reason: Option<&str>,
        delta: &[u8],
        logprobs: &str,
        extra: impl FnOnce(&mut Vec<u8>),
    ) {
        out.extend_from_slice(b"data: {\"choices\":[{\"finish_reason\":");
        write_json(out, &reason);
        put(out, format_args!(",\"index\":{index},\"delta\":{{"));
        out.extend_from_slice(delta);
        put(out, format_args!("}}{logprobs}}}]"));
        self.chat_tail(out);
        extra(out);
        out.extend_from_slice(b"}\n\n");
    }

    fn chat_tail(&self, out: &mut Vec<u8>) {
        put(
            out,
            format_args!(
                ",\"created\":{},\"id\":\"{}\",\"model\":",
                self.created, self.id
            ),
        );
        write_json(out, &self.model);
        out.extend_from_slice(b",\"system_fingerprint\":");
        write_json(out, &self.build);
        out.extend_from_slice(b",\"object\":\"chat.completion.chunk\"");
    }

    /// A `text_completion` event without its closing brace.
    fn text_event(
        &self,
        out: &mut Vec<u8>,
        index: usize,
        text: &str,
        logprobs: Option<&str>,
        reason: Option<&str>,
        usage: Option<&Timings>,
    ) {
        out.extend_from_slice(b"data: {\"choices\":[{\"text\":");
        write_json(out, text);
        put(
            out,
            format_args!(
                ",\"index\":{index},\"logprobs\":{},\"finish_reason\":",
                logprobs.unwrap_or("null")
            ),
        );
        write_json(out, &reason);
        put(
            out,
            format_args!("}}],\"created\":{},\"model\":", self.created),
        );
        write_json(out, &self.model);
        out.extend_from_slice(b",\"system_fingerprint\":");
        write_json(out, &self.build);
        out.extend_from_slice(b",\"object\":\"text_completion\"");
        if let Some(timings) = usage {
            out.push(b',');
            timings.write_usage(out);
        }
        put(out, format_args!(",\"id\":\"{}\"", self.id));
    }
}

/// The inside of a chat `delta`.
fn write_delta(out: &mut Vec<u8>, emit: &Emit) {
    match emit {
        Emit::Nothing => {}
        Emit::Content(text) | Emit::Split(text) => {
            out.extend_from_slice(b"\"content\":");
            write_json(out, text);
        }
        Emit::Reasoning(text) => {
            out.extend_from_slice(b"\"reasoning_content\":");
            write_json(out, text);
        }
        Emit::ToolOpen {
            index,
            id,
            name,
            arguments,
        } => {
            put(
                out,
                format_args!("\"tool_calls\":[{{\"index\":{index},\"id\":"),
            );
            write_json(out, id);
            out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
            write_json(out, name);
            out.extend_from_slice(b",\"arguments\":");
            write_json(out, arguments);
            out.extend_from_slice(b"}}]");
        }
        Emit::ToolArguments { index, arguments } => {
            put(
                out,
                format_args!("\"tool_calls\":[{{\"index\":{index},\"function\":{{\"arguments\":"),
            );
            write_json(out, arguments);
            out.extend_from_slice(b"}}]");
        }
    }
}

/// One entry of `logprobs.content`: a made-up probability and `top` alternatives, the first of
/// which is the token itself.
pub(crate) fn logprob(token: Token, text: &str, top: usize) -> String {
    let chance = -((token % 97) as f64) / 64.0 - 0.015_625;
    let entry = |id: Token, text: &str, value: f64| {
        let bytes = text
            .bytes()
            .map(|byte| byte.to_string())
            .collect::<Vec<_>>()
            .join(",");
        let text = serde_json::Value::from(text);
        format!("{{\"id\":{id},\"token\":{text},\"bytes\":[{bytes}],\"logprob\":{value}")
    };
    let alternatives: Vec<String> = (0..top)
        .map(|rank| match rank {
            0 => entry(token, text, chance) + "}",
            rank => {
                let other = format!(
                    " w{}",
                    rng::hash(text.as_bytes()).wrapping_add(rank as u64) % 100
                );
                entry(tokens::number(&other), &other, chance - rank as f64) + "}"
            }
        })
        .collect();
    format!(
        "{},\"top_logprobs\":[{}]}}",
        entry(token, text, chance),
        alternatives.join(",")
    )
}
