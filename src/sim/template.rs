//! Renders a conversation into the prompt text, in the ChatML form with Hermes tool calls.
//!
//! Append-only: the prompt of a conversation's next turn starts with this turn's prompt and the
//! answer to it, so a prefix cache works as it does on the real server.

use std::fmt::Write;

use super::{
    conversation::Message,
    tokens::{MESSAGE_END, MESSAGE_START},
};

const SYSTEM: &str = "You are a helpful assistant.";

/// The template's text as `/props` shows it.
pub(crate) const CHAT_TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The prompt for `messages`, with the tools' JSON (minified) at its top; `generate` opens
/// the answer.
pub(crate) fn render(messages: &[Message], tools: Option<&str>, generate: bool) -> String {
    let size: usize = messages
        .iter()
        .map(|m| m.text.len() + m.reasoning.len() + 64)
        .sum();
    let mut out = String::with_capacity(size + tools.map_or(0, str::len) + 256);
    let (system, rest) = match messages.split_first() {
        Some((first, rest)) if first.role == "system" || first.role == "developer" => {
            (first.text.as_str(), rest)
        }
        _ => (SYSTEM, messages),
    };
    open(&mut out, "system");
    out.push_str(system);
    if let Some(tools) = tools {
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\n\n# Tools\nAnswer with a call inside <tool_call></tool_call> to use one of these.\n<tools>\n{tools}\n</tools>"
        );
    }
    close(&mut out);
    for message in rest {
        open(&mut out, &message.role);
        if !message.reasoning.is_empty() {
            out.push_str(&think(&message.reasoning));
        }
        out.push_str(&message.text);
        for (name, arguments) in &message.calls {
            let (head, tail) = call_frame(name);
            out.push_str(&head);
            out.push_str(arguments);
            out.push_str(tail);
        }
        close(&mut out);
    }
    if generate {
        open(&mut out, "assistant");
    }
    out
}

/// The text before and after the arguments of a tool call, as the model writes it.
pub(crate) fn call_frame(name: &str) -> (String, &'static str) {
    (
        format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": "),
        "}\n</tool_call>",
    )
}

/// Reasoning as the model writes it.
pub(crate) fn think(reasoning: &str) -> String {
    format!("<think>{reasoning}</think>")
}

fn open(out: &mut String, role: &str) {
    out.push_str(MESSAGE_START);
    out.push_str(role);
    out.push('\n');
}

fn close(out: &mut String) {
    out.push_str(MESSAGE_END);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, text: &str) -> Message {
        Message {
            role: role.into(),
            text: text.into(),
            ..Message::default()
        }
    }

    #[test]
    fn the_next_turn_extends_this_one() {
        let mut messages = vec![message("system", "Be brief."), message("user", "hi")];
        let first = render(&messages, Some("[]"), true);
        messages.push(Message {
            calls: vec![("f".into(), "{\"a\":1}".into())],
            ..message("assistant", "Well.")
        });
        messages.push(message("tool", "42"));
        let second = render(&messages, Some("[]"), true);
        let (head, tail) = call_frame("f");
        assert!(second.starts_with(&format!("{first}Well.{head}{{\"a\":1}}{tail}{MESSAGE_END}")));
    }

    #[test]
    fn a_default_system_message_stands_in() {
        assert_eq!(
            render(&[message("user", "hi")], None, true),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        );
    }
}
