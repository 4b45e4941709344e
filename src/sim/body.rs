//! Whole (non-stream) answers, and the last event of the native endpoint's stream.

use super::{
    answer::{Envelope, logprob, put, write_json},
    plan::Emit,
    request::{Kind, Request},
    timings::Timings,
    tokens::Token,
};

/// What one choice has said so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) content: String,
    pub(crate) reasoning: String,
    /// Id, name and arguments of each tool call.
    pub(crate) calls: Vec<(String, String, String)>,
    pub(crate) finish: String,
    pub(crate) tokens: Vec<Token>,
    logprobs: Vec<String>,
}

impl Said {
    /// Takes in what a token makes visible.
    pub(crate) fn add(&mut self, token: Token, emit: &Emit, logprobs: Option<usize>) {
        self.tokens.push(token);
        match emit {
            Emit::Nothing => {}
            Emit::Content(text) | Emit::Split(text) => {
                self.content.push_str(text);
                self.logprobs
                    .extend(logprobs.map(|top| logprob(token, text, top)));
            }
            Emit::Reasoning(text) => self.reasoning.push_str(text),
            Emit::ToolOpen {
                id,
                name,
                arguments,
                ..
            } => {
                self.calls
                    .push((id.clone(), name.clone(), arguments.clone()));
            }
            Emit::ToolArguments { index, arguments } => {
                if let Some(call) = self.calls.get_mut(*index) {
                    call.2.push_str(arguments);
                }
            }
        }
    }
}

/// What the native endpoint's answers say about the slot and the prompt.
#[derive(Clone, Debug)]
pub(crate) struct Native<'a> {
    pub(crate) slot: usize,
    pub(crate) prompt: &'a str,
    /// `generation_settings`, as JSON.
    pub(crate) settings: String,
}

impl Envelope {
    /// The body of a whole answer. Usage and timings are those of the first choice.
    pub(crate) fn body(
        &self,
        said: &[Said],
        timings: &Timings,
        request: &Request,
        native: &Native<'_>,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        if self.kind == Kind::Native {
            if let Some(first) = said.first() {
                self.native(&mut out, 0, first, timings, request, native, false);
            }
            return out;
        }
        out.extend_from_slice(b"{\"choices\":[");
        for (index, said) in said.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            if self.kind == Kind::Chat {
                self.message(&mut out, index, said);
            } else {
                self.text(&mut out, index, said);
            }
        }
        put(
            &mut out,
            format_args!("],\"created\":{},\"model\":", self.created),
        );
        write_json(&mut out, &self.model);
        out.extend_from_slice(b",\"system_fingerprint\":");
        write_json(&mut out, &self.build);
        let object = if self.kind == Kind::Chat {
            "chat.completion"
        } else {
            "text_completion"
        };
        put(&mut out, format_args!(",\"object\":\"{object}\","));
        timings.write_usage(&mut out);
        put(&mut out, format_args!(",\"id\":\"{}\",", self.id));
        timings.write(&mut out);
        out.push(b'}');
        out
    }

    fn message(&self, out: &mut Vec<u8>, index: usize, said: &Said) {
        out.extend_from_slice(b"{\"finish_reason\":");
        write_json(out, &said.finish);
        put(
            out,
            format_args!(",\"index\":{index},\"message\":{{\"role\":\"assistant\",\"content\":"),
        );
        write_json(out, &said.content);
        if !said.reasoning.is_empty() {
            out.extend_from_slice(b",\"reasoning_content\":");
            write_json(out, &said.reasoning);
        }
        if !said.calls.is_empty() {
            out.extend_from_slice(b",\"tool_calls\":[");
            for (index, (id, name, arguments)) in said.calls.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(b"{\"type\":\"function\",\"function\":{\"name\":");
                write_json(out, name);
                out.extend_from_slice(b",\"arguments\":");
                write_json(out, arguments);
                out.extend_from_slice(b"},\"id\":");
                write_json(out, id);
                out.push(b'}');
            }
            out.push(b']');
        }
        out.push(b'}');
        if self.logprobs.is_some() {
            put(
                out,
                format_args!(
                    ",\"logprobs\":{{\"content\":[{}]}}",
                    said.logprobs.join(",")
                ),
            );
        }
        out.push(b'}');
    }

    fn text(&self, out: &mut Vec<u8>, index: usize, said: &Said) {
        out.extend_from_slice(b"{\"text\":");
        write_json(out, &said.content);
        put(out, format_args!(",\"index\":{index},\"logprobs\":"));
        match self.logprobs {
            Some(_) => put(
                out,
                format_args!("{{\"content\":[{}]}}", said.logprobs.join(",")),
            ),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"finish_reason\":");
        write_json(out, &said.finish);
        out.push(b'}');
    }

    /// The native endpoint's final object; in a stream its content was already sent.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn native(
        &self,
        out: &mut Vec<u8>,
        index: usize,
        said: &Said,
        timings: &Timings,
        request: &Request,
        native: &Native<'_>,
        streamed: bool,
    ) {
        let evaluated = timings.cache_n + timings.prompt_n;
        put(out, format_args!("{{\"index\":{index},\"content\":"));
        write_json(out, if streamed { "" } else { said.content.as_str() });
        out.extend_from_slice(b",\"tokens\":");
        let tokens = if request.return_tokens && !streamed {
            said.tokens.as_slice()
        } else {
            &[]
        };
        write_json(out, tokens);
        put(
            out,
            format_args!(",\"id_slot\":{},\"stop\":true,\"model\":", native.slot),
        );
        write_json(out, &self.model);
        put(
            out,
            format_args!(
                ",\"tokens_predicted\":{},\"tokens_evaluated\":{evaluated},\"generation_settings\":{},\"prompt\":",
                timings.predicted_n, native.settings
            ),
        );
        write_json(out, native.prompt);
        let (stop, line) = (
            if said.finish == "length" {
                "limit"
            } else {
                "eos"
            },
            said.content.contains('\n'),
        );
        put(
            out,
            format_args!(
                ",\"has_new_line\":{line},\"truncated\":false,\"stop_type\":\"{stop}\",\"stopping_word\":\"\",\"tokens_cached\":{},",
                evaluated + timings.predicted_n.saturating_sub(1)
            ),
        );
        timings.write(out);
        out.push(b'}');
    }
}
