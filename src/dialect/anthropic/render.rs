//! Whole answers in Anthropic's shape.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{WireUsage, stop_reason};
use crate::dialect::{Meta, json};
use crate::turn::{Answer, Choice, Stop, Usage};

#[derive(Serialize)]
struct Whole<'a> {
    id: String,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
    usage: WireUsage,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Thinking {
        thinking: &'a str,
        signature: &'static str,
    },
    Text {
        text: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a RawValue,
    },
}

/// The whole answer as one body.
pub fn render(meta: &Meta, answer: &Answer, usage: Usage) -> BytesMut {
    let nothing = Choice::default();
    let choice = answer.choices.first().unwrap_or(&nothing);
    let no_arguments = json::raw(&NoArguments {});
    let inputs: Vec<Box<RawValue>> = choice
        .calls
        .iter()
        .map(|call| input(&call.arguments, &no_arguments))
        .collect();
    let mut content = Vec::new();
    if !choice.thinking.is_empty() {
        content.push(Block::Thinking {
            thinking: &choice.thinking,
            signature: "",
        });
    }
    if !choice.text.is_empty() {
        content.push(Block::Text { text: &choice.text });
    }
    for (call, input) in choice.calls.iter().zip(&inputs) {
        content.push(Block::ToolUse {
            id: &call.id,
            name: &call.name,
            input,
        });
    }
    let stop = choice.stop.as_ref().unwrap_or(&Stop::End);
    let (stop_reason, stop_sequence) = stop_reason(stop, choice.calls.len());
    let mut out = BytesMut::with_capacity(1024);
    let whole = Whole {
        id: format!("msg_{}", meta.id),
        r#type: "message",
        role: "assistant",
        model: &meta.model,
        content,
        stop_reason,
        stop_sequence,
        usage: usage.into(),
    };
    json::write(&mut out, &whole);
    out
}

#[derive(Serialize)]
struct NoArguments {}

/// The arguments as the model wrote them. A call cut off by the token limit has no value that
/// could be shown as JSON; its `stop_reason` says why.
fn input(arguments: &str, nothing: &RawValue) -> Box<RawValue> {
    RawValue::from_string(arguments.trim().to_owned())
        .ok()
        .filter(|raw| raw.get().starts_with('{'))
        .unwrap_or_else(|| nothing.to_owned())
}

/// The answer of `POST /v1/messages/count_tokens`, from llama-server's own count.
pub fn input_tokens(upstream: &[u8]) -> Option<BytesMut> {
    #[derive(Deserialize, Serialize)]
    struct Count {
        input_tokens: u64,
    }
    let count: Count = serde_json::from_slice(upstream).ok()?;
    let mut out = BytesMut::new();
    json::write(&mut out, &count);
    Some(out)
}
