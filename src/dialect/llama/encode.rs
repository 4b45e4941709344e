//! A [`Turn`] as the body of llama-server's `POST /v1/chat/completions`.
//!
//! The same turn always gives the same bytes.

use bytes::BytesMut;
use serde_json::value::RawValue;

use super::items::{Item, TemplateRules, items};
use crate::dialect::json::{self, ObjectWriter, write_array};
use crate::turn::{Message, ToolChoice, Turn};

/// Most tokens of a draft, as a request says it.
pub const SPEC_N_MAX: &str = "speculative.n_max";

/// What the encoding depends on besides the turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// Name of the model on the backend, where it differs from the client's.
    pub model: Option<&'a str>,
    /// Context window of one slot in tokens, once known.
    pub n_ctx: Option<u64>,
    /// Whether the model sees images; unknown counts as yes.
    pub vision: Option<bool>,
    /// What the model's template accepts.
    pub rules: TemplateRules,
    /// Ask for timings in every chunk: a cancelled stream still has its usage then.
    pub timings_per_token: bool,
    /// Ask for no speculation. llama-server up to 2025 and some forks honour it, others read past it
    /// (`tools/server/server-task.cpp`, `params_from_json_cmpl`).
    pub spec_off: bool,
}

/// How a turn is asked again: what is added to its end, and what the answer is held to.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Messages after the client's.
    pub append: Vec<Message>,
    /// `response_format` the answer must follow; then no tool call is asked for.
    pub constrain: Option<Box<RawValue>>,
    /// Token limit instead of the client's.
    pub max_tokens: Option<u64>,
    /// Sampling temperature instead of the client's.
    pub temperature: Option<f64>,
    /// Keep the model from reasoning, where its template has a switch.
    pub thinking_off: bool,
    /// No tool may be called.
    pub no_calls: bool,
    /// The last message is the beginning of the answer, which goes on where that ends and does not repeat it
    /// (`continue_final_message`, llama.cpp `tools/server/server-schema.cpp`).
    pub continues: bool,
}

/// The request body. Always a stream: silence, garbage and disconnects are seen at once.
pub fn chat_body(turn: &Turn, ask: Option<&Ask>, target: Target<'_>) -> BytesMut {
    let mut out = BytesMut::with_capacity(estimate(turn));
    let mut body = ObjectWriter::new(&mut out);
    write_prompt(turn, ask, target, &mut body);
    if turn.choices > 1 {
        body.member("n", &turn.choices);
    }
    let limit = ask.and_then(|ask| ask.max_tokens).or(turn.max_tokens);
    if let Some(max) = max_tokens(limit, target) {
        body.member("max_tokens", &max);
    }
    body.member("stream", &true);
    body.key("stream_options")
        .extend_from_slice(br#"{"include_usage":true}"#);
    // Tells the size of the prompt, and that it is being worked on, before the first token.
    body.member("return_progress", &true);
    if target.timings_per_token {
        body.member("timings_per_token", &true);
    }
    if target.spec_off {
        body.member(SPEC_N_MAX, &0);
    }
    body.end();
    out
}

/// The body of `POST /v1/chat/completions/input_tokens`: everything that makes up the prompt.
pub fn count_body(turn: &Turn, target: Target<'_>) -> BytesMut {
    let mut out = BytesMut::with_capacity(estimate(turn));
    let mut body = ObjectWriter::new(&mut out);
    write_prompt(turn, None, target, &mut body);
    body.end();
    out
}

fn write_prompt(turn: &Turn, ask: Option<&Ask>, target: Target<'_>, body: &mut ObjectWriter<'_>) {
    body.member("model", target.model.unwrap_or(&turn.model));
    let messages = turn
        .messages
        .iter()
        .chain(ask.into_iter().flat_map(|ask| &ask.append));
    let items = items(messages, target.rules, target.vision.unwrap_or(true));
    write_array(body.key("messages"), &items, write_item);
    let constrain = ask.and_then(|ask| ask.constrain.as_deref());
    let no_calls = ask.is_some_and(|ask| ask.no_calls);
    write_tools(turn, constrain.is_some(), no_calls, body);
    for (name, value) in &turn.extra {
        let is_ours = target.spec_off && name == SPEC_N_MAX;
        if !is_ours && !ask.is_some_and(|ask| ask.replaces(name)) {
            body.raw(name, value);
        }
    }
    if let Some(ask) = ask {
        ask.write(body);
    }
}

fn estimate(turn: &Turn) -> usize {
    let messages: usize = turn
        .messages
        .iter()
        .map(|m| m.verbatim().map_or(1024, |raw| raw.get().len()))
        .sum();
    let tools: usize = turn
        .tools
        .iter()
        .map(|tool| tool.upstream.get().len())
        .sum();
    messages + tools + 1024
}

/// More than the window holds is asked for by real agents (128,000); the window is what they get.
/// llama-server keeps the number as an `int32_t`, where a larger one would turn into any other.
fn max_tokens(limit: Option<u64>, target: Target<'_>) -> Option<u64> {
    const LARGEST: u64 = i32::MAX as u64;
    let most = target.n_ctx.unwrap_or(LARGEST).min(LARGEST);
    limit.map(|max| max.min(most))
}

/// A named choice is not enforced by llama-server (an object falls back to `auto`): offer that tool
/// alone and require a call.
fn write_tools(turn: &Turn, constrained: bool, no_calls: bool, body: &mut ObjectWriter<'_>) {
    if turn.tools.is_empty() {
        return;
    }
    let named = match &turn.tool_choice {
        ToolChoice::Named(name) => Some(name),
        _ => None,
    };
    let offered = turn
        .tools
        .iter()
        .filter(|tool| named.is_none_or(|name| *name == tool.name));
    write_array(body.key("tools"), offered, |out, tool| {
        out.extend_from_slice(tool.upstream.get().as_bytes());
    });
    match turn.tool_choice {
        // The schema decides; a grammar for calls beside it would contradict it.
        _ if constrained => {}
        _ if no_calls => body.member("tool_choice", "none"),
        ToolChoice::Auto => {}
        ToolChoice::None => body.member("tool_choice", "none"),
        ToolChoice::Required | ToolChoice::Named(_) => body.member("tool_choice", "required"),
    }
}

impl Ask {
    fn replaces(&self, name: &str) -> bool {
        match name {
            "response_format" | "json_schema" | "grammar" => self.constrain.is_some(),
            "temperature" => self.temperature.is_some(),
            "chat_template_kwargs" | "reasoning_effort" => self.thinking_off,
            "add_generation_prompt" | "continue_final_message" => self.continues,
            _ => false,
        }
    }

    fn write(&self, body: &mut ObjectWriter<'_>) {
        if let Some(format) = &self.constrain {
            body.raw("response_format", format);
        }
        if let Some(temperature) = self.temperature {
            body.member("temperature", &temperature);
        }
        if self.continues {
            body.member("add_generation_prompt", &false);
            body.member("continue_final_message", &true);
        }
        if self.thinking_off {
            body.key("chat_template_kwargs")
                .extend_from_slice(br#"{"enable_thinking":false}"#);
        }
    }
}

fn write_item(out: &mut BytesMut, item: &Item<'_>) {
    if let Some(verbatim) = item.verbatim {
        out.extend_from_slice(verbatim.as_bytes());
        return;
    }
    let mut message = ObjectWriter::new(out);
    message.member("role", item.role.as_str());
    if let Some(call_id) = &item.call_id {
        message.member("tool_call_id", call_id);
    }
    match item.plain() {
        Some(text) => message.member("content", &*text),
        None => message.member("content", &item.pieces),
    }
    if !item.thinking.is_empty() {
        message.member("reasoning_content", &item.thinking);
    }
    if !item.calls.is_empty() {
        write_array(message.key("tool_calls"), &item.calls, |out, call| {
            json::write(out, call)
        });
    }
    message.end();
}

#[cfg(test)]
mod tests;
