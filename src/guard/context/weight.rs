//! How much of a prompt a message is, before anybody has counted: bytes of what reaches the model.

use crate::turn::{Content, Message, Part, Tool};

/// What a template writes around a message.
const FRAME: u64 = 16;

/// What a template writes around a call.
const CALL_FRAME: u64 = 32;

/// An image, by what most vision models make of one: about 1,000 tokens.
const IMAGE: u64 = 3000;

/// The weight of one message.
pub(super) fn of(message: &Message) -> u64 {
    let parts = message.parts().iter().map(|part| match part {
        Part::Text(text) | Part::Thinking(text) | Part::Other(text) => text.len() as u64,
        Part::Image(_) => IMAGE,
        Part::ToolCall(call) => (call.name.len() + call.arguments.len()) as u64 + CALL_FRAME,
        Part::ToolResult(result) => {
            let pieces = result.content.iter().map(|content| match content {
                Content::Text(text) => text.len() as u64,
                Content::Image(_) => IMAGE,
            });
            pieces.sum::<u64>() + FRAME
        }
    });
    parts.sum::<u64>() + FRAME
}

/// The weight of the tools on offer.
pub(super) fn of_tools(tools: &[Tool]) -> u64 {
    let sizes = tools.iter().map(|tool| tool.upstream.get().len() as u64);
    sizes.sum()
}

/// What is said in messages, as one text to be counted. Images are not in it.
pub(super) fn text(messages: &[Message]) -> String {
    let mut text = String::new();
    let mut add = |more: &str| {
        text.push_str(more);
        text.push('\n');
    };
    for message in messages {
        for part in message.parts() {
            match part {
                Part::Text(said) | Part::Thinking(said) | Part::Other(said) => add(said),
                Part::ToolCall(call) => {
                    add(&call.name);
                    add(&call.arguments);
                }
                Part::ToolResult(result) => add(&result.text()),
                Part::Image(_) => {}
            }
        }
    }
    text
}

/// Whether a message shows a picture, which only the backend can count.
pub(super) fn has_image(message: &Message) -> bool {
    message.parts().iter().any(|part| match part {
        Part::Image(_) => true,
        Part::ToolResult(result) => result
            .content
            .iter()
            .any(|content| matches!(content, Content::Image(_))),
        _ => false,
    })
}
