//! A [`Turn`] as the body of llama-server's `POST /v1/chat/completions`.
//!
//! The same turn always gives the same bytes, and what a message or tool gives does not depend on
//! what follows it: the prompt of the next turn extends that of the last one, which is what the KV
//! cache needs.

use bytes::BytesMut;
use serde::Serialize;

use crate::dialect::json::{self, ObjectWriter, write_array};
use crate::turn::{Content, Image, Message, Part, Role, ToolCall, ToolChoice, ToolResult, Turn};

/// What the encoding depends on besides the turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// Name of the model on the backend, where it differs from the client's.
    pub model: Option<&'a str>,
    /// Context window of one slot in tokens, once known.
    pub n_ctx: Option<u64>,
    /// Ask for timings in every chunk: a cancelled stream still has its usage then.
    pub timings_per_token: bool,
}

/// The request body. Always a stream: silence, garbage and disconnects are seen at once.
pub fn chat_body(turn: &Turn, appended: &[Message], target: Target<'_>) -> BytesMut {
    let mut out = BytesMut::with_capacity(estimate(turn));
    let mut body = ObjectWriter::new(&mut out);
    body.member("model", target.model.unwrap_or(&turn.model));
    let messages = turn.messages.iter().chain(appended);
    write_array(
        body.key("messages"),
        messages.flat_map(wire_messages),
        |out, piece| piece.write(out),
    );
    write_tools(turn, &mut body);
    for (name, value) in &turn.extra {
        body.raw(name, value);
    }
    if turn.choices > 1 {
        body.member("n", &turn.choices);
    }
    if let Some(max) = max_tokens(turn, target) {
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
    body.end();
    out
}

fn estimate(turn: &Turn) -> usize {
    let messages: usize = turn
        .messages
        .iter()
        .map(|m| m.verbatim().map_or(512, |raw| raw.get().len()))
        .sum();
    let tools: usize = turn
        .tools
        .iter()
        .map(|tool| tool.upstream.get().len())
        .sum();
    messages + tools + 1024
}

/// More than the window holds is asked for by real agents (128,000); the window is what they get.
fn max_tokens(turn: &Turn, target: Target<'_>) -> Option<u64> {
    match (turn.max_tokens, target.n_ctx) {
        (Some(max), Some(window)) => Some(max.min(window)),
        (max, _) => max,
    }
}

/// A named choice is not enforced by llama-server (an object falls back to `auto`): offer that tool
/// alone and require a call.
fn write_tools(turn: &Turn, body: &mut ObjectWriter<'_>) {
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
        ToolChoice::Auto => {}
        ToolChoice::None => body.member("tool_choice", "none"),
        ToolChoice::Required | ToolChoice::Named(_) => body.member("tool_choice", "required"),
    }
}

/// One element of the upstream's `messages`.
enum Wire<'a> {
    Verbatim(&'a str),
    Result(&'a ToolResult),
    Parts(Role, &'a [Part]),
}

/// A message of ours is one of llama-server's, except that every tool result is one of its own.
fn wire_messages(message: &Message) -> Vec<Wire<'_>> {
    if let Some(raw) = message.verbatim() {
        return vec![Wire::Verbatim(raw.get())];
    }
    let results = message.parts().iter().filter_map(|part| match part {
        Part::ToolResult(result) => Some(Wire::Result(result)),
        _ => None,
    });
    let mut wire: Vec<_> = results.collect();
    let only_results = !wire.is_empty() && wire.len() == message.parts().len();
    if !only_results {
        wire.push(Wire::Parts(message.role(), message.parts()));
    }
    wire
}

impl Wire<'_> {
    fn write(self, out: &mut BytesMut) {
        match self {
            Self::Verbatim(text) => out.extend_from_slice(text.as_bytes()),
            Self::Result(result) => write_result(out, result),
            Self::Parts(role, parts) => write_parts(out, role, parts),
        }
    }
}

fn write_result(out: &mut BytesMut, result: &ToolResult) {
    let mut message = ObjectWriter::new(out);
    message.member("role", "tool");
    message.member("tool_call_id", &result.call_id);
    let pieces: Vec<_> = result
        .content
        .iter()
        .map(|content| match content {
            Content::Text(text) => Piece::text(text),
            Content::Image(image) => Piece::image(image),
        })
        .collect();
    write_content(message.key("content"), &pieces);
    message.end();
}

fn write_parts(out: &mut BytesMut, role: Role, parts: &[Part]) {
    let mut message = ObjectWriter::new(out);
    message.member("role", role.as_str());
    let pieces: Vec<_> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) => Some(Piece::text(text)),
            Part::Image(image) => Some(Piece::image(image)),
            _ => None,
        })
        .collect();
    write_content(message.key("content"), &pieces);
    let mut thinking = String::new();
    let mut calls = Vec::new();
    for part in parts {
        match part {
            Part::Thinking(text) => thinking.push_str(text),
            Part::ToolCall(call) => calls.push(call),
            _ => {}
        }
    }
    if !thinking.is_empty() {
        message.member("reasoning_content", &thinking);
    }
    if !calls.is_empty() {
        write_array(message.key("tool_calls"), calls, |out, call| {
            json::write(out, &Call::new(call))
        });
    }
    message.end();
}

/// One text is a plain string, the form every template understands.
fn write_content(out: &mut BytesMut, pieces: &[Piece<'_>]) {
    match pieces {
        [] => json::write(out, ""),
        [Piece::Text { text }] => json::write(out, text),
        pieces => json::write(out, pieces),
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

impl<'a> Piece<'a> {
    fn text(text: &'a str) -> Self {
        Self::Text { text }
    }

    fn image(image: &'a Image) -> Self {
        let detail = image.detail.as_deref();
        Self::ImageUrl {
            image_url: ImageUrl {
                url: &image.data_url,
                detail,
            },
        }
    }
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> Call<'a> {
    fn new(call: &'a ToolCall) -> Self {
        let function = Function {
            name: &call.name,
            arguments: &call.arguments,
        };
        Self {
            id: &call.id,
            r#type: "function",
            function,
        }
    }
}
