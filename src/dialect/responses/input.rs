//! The `input` of a request as messages.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::SEAL;
use super::content::{Element, not_passed_on};
use super::tools::Tools;
use crate::dialect::json;
use crate::turn::{Message, Part, Role, ToolCall, ToolResult, TurnError};

/// Append the messages of `input`, a text or a list of items.
pub(super) fn decode(
    raw: &RawValue,
    tools: &Tools,
    messages: &mut Vec<Message>,
) -> Result<(), TurnError> {
    if raw.get().starts_with('"') {
        messages.push(Message::text(
            Role::User,
            json::field::<String>("input", raw)?,
        ));
        return Ok(());
    }
    for (position, raw) in json::list("input", raw)?.into_iter().enumerate() {
        let item = Element::read(format!("input[{position}]"), raw)?;
        add(&item, tools, messages)?;
    }
    Ok(())
}

fn add(item: &Element<'_>, tools: &Tools, messages: &mut Vec<Message>) -> Result<(), TurnError> {
    let kind = item.text("type").unwrap_or_else(|| "message".to_owned());
    match kind.as_str() {
        "message" => {
            let role = role(item)?;
            say(messages, role, item.parts("content")?);
        }
        "reasoning" => say(messages, Role::Assistant, reasoning(item)?),
        "item_reference" => {
            let what = "this gateway stores no items; send the item itself";
            return Err(item.error(what));
        }
        kind if kind.ends_with("_output") && item.raw("call_id").is_some() => {
            let result = ToolResult {
                call_id: item.text("call_id").unwrap_or_default(),
                content: item.contents("output")?,
                is_error: false,
            };
            messages.push(Message::new(Role::Tool, vec![Part::ToolResult(result)]));
        }
        kind if kind.ends_with("_call") && item.raw("call_id").is_some() => {
            let call = Part::ToolCall(call(item, kind, tools));
            say(messages, Role::Assistant, vec![call]);
        }
        // A tool of OpenAI's service: what came of it is in the answer that follows.
        kind if kind.ends_with("_call") => {}
        kind => {
            let texts = [item.texts("content")?, item.texts("summary")?];
            let text = texts.into_iter().find(|text| !text.is_empty());
            let text = text.unwrap_or_else(|| not_passed_on(item, kind));
            say(messages, Role::System, vec![Part::Text(text)]);
        }
    }
    Ok(())
}

/// Items of one answer are one message; everybody else's stay apart.
fn say(messages: &mut Vec<Message>, role: Role, parts: Vec<Part>) {
    match messages.last_mut() {
        Some(last) if role == Role::Assistant && last.role() == role => {
            last.parts_mut().extend(parts);
        }
        _ => messages.push(Message::new(role, parts)),
    }
}

fn role(item: &Element<'_>) -> Result<Role, TurnError> {
    let role = item.text("role").unwrap_or_default();
    Ok(match role.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        other => return Err(item.error(&format!("unknown role `{other}`"))),
    })
}

/// Reasoning that was sent back: the text itself, else what we sealed, else its summary. What another
/// service sealed cannot be read.
fn reasoning(item: &Element<'_>) -> Result<Vec<Part>, TurnError> {
    let sealed = || {
        let sealed = item.text("encrypted_content")?;
        sealed.strip_prefix(SEAL).map(str::to_owned)
    };
    let text = Some(item.texts("content")?).filter(|text| !text.is_empty());
    let text = match text.or_else(sealed) {
        Some(text) => text,
        None => item.texts("summary")?,
    };
    Ok(if text.is_empty() {
        Vec::new()
    } else {
        vec![Part::Thinking(text)]
    })
}

/// A call of the history in the form the model made it.
fn call(item: &Element<'_>, kind: &str, tools: &Tools) -> ToolCall {
    #[derive(Serialize)]
    struct Freeform {
        input: String,
    }
    /// As the model is told to write them.
    #[derive(Deserialize, Serialize)]
    struct ShellArguments<'a> {
        #[serde(borrow)]
        command: &'a RawValue,
        #[serde(borrow, skip_serializing_if = "Option::is_none")]
        working_directory: Option<&'a RawValue>,
        #[serde(borrow, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<&'a RawValue>,
    }
    let (name, arguments) = match kind {
        "function_call" => {
            let arguments = item.text("arguments");
            let object = || item.raw("arguments").map(|raw| raw.get().to_owned());
            let arguments = arguments.or_else(object);
            (item.text("name"), arguments.unwrap_or_default())
        }
        "custom_tool_call" => {
            let input = item.text("input").unwrap_or_default();
            let arguments = json::raw(&Freeform { input });
            (item.text("name"), arguments.get().to_owned())
        }
        "local_shell_call" => {
            let action = item.raw("action");
            let action =
                action.and_then(|raw| serde_json::from_str::<ShellArguments<'_>>(raw.get()).ok());
            let arguments = action.map(|action| json::raw(&action).get().to_owned());
            (None, arguments.unwrap_or_default())
        }
        _ => {
            let what = ["action", "operation", "arguments", "input"];
            let what = what.iter().find_map(|name| item.raw(name));
            let arguments = what.map(|raw| raw.get().to_owned());
            (item.text("name"), arguments.unwrap_or_default())
        }
    };
    let name = name.unwrap_or_else(|| kind.trim_end_matches("_call").to_owned());
    ToolCall {
        id: item.text("call_id").unwrap_or_default(),
        name: tools.upstream_name(item.text("namespace").as_deref(), &name),
        arguments,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::{Content, Image};

    fn read(input: &str) -> Result<Vec<Message>, TurnError> {
        let raw = RawValue::from_string(input.to_owned()).unwrap();
        let mut messages = Vec::new();
        decode(&raw, &Tools::default(), &mut messages).map(|()| messages)
    }

    fn one(input: &str) -> Vec<Part> {
        let messages = read(&format!("[{input}]")).unwrap();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages[0].parts().to_vec()
    }

    #[test]
    fn items_of_one_answer_are_one_message() {
        let messages = read(
            r#"[{"role":"developer","content":"d"},{"role":"user","content":[{"type":"input_text","text":"u"}]},{"role":"user","content":"v"},
               {"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},
               {"type":"message","role":"assistant","content":[{"type":"output_text","text":"a"}]},
               {"type":"function_call","call_id":"1","name":"say","namespace":"mcp__echo","arguments":"{\"a\":1}"},
               {"type":"custom_tool_call","call_id":"2","name":"apply_patch","input":"*** \"x\""},
               {"type":"function_call_output","call_id":"1","output":"r"},
               {"type":"custom_tool_call_output","call_id":"2","output":[{"type":"input_text","text":"s"}]}]"#,
        )
        .unwrap();
        let roles: Vec<_> = messages.iter().map(Message::role).collect();
        assert_eq!(
            roles,
            [
                Role::System,
                Role::User,
                Role::User,
                Role::Assistant,
                Role::Tool,
                Role::Tool
            ]
        );
        let parts = messages[3].parts();
        assert_eq!(
            parts[..2],
            [Part::Thinking("hm".into()), Part::Text("a".into())]
        );
        let calls: Vec<_> = messages[3].tool_calls().collect();
        assert_eq!(
            (calls[0].name.as_str(), calls[0].arguments.as_str()),
            ("mcp__echo__say", r#"{"a":1}"#)
        );
        assert_eq!(calls[1].arguments, r#"{"input":"*** \"x\""}"#);
        assert!(
            matches!(&messages[5].parts()[0], Part::ToolResult(r) if r.text() == "s" && r.call_id == "2")
        );
    }

    #[test]
    fn reasoning_comes_back_from_wherever_it_was_put() {
        let thought =
            |item: &str| match one(&format!(r#"{{"type":"reasoning",{item}}}"#)).as_slice() {
                [Part::Thinking(text)] => Some(text.clone()),
                [] => None,
                other => panic!("{other:?}"),
            };
        let summary = r#""summary":[{"type":"summary_text","text":"s"}]"#;
        let ours = format!(r#""encrypted_content":"{SEAL}whole""#);
        assert_eq!(
            thought(&format!(r#"{summary},{ours}"#)).as_deref(),
            Some("whole")
        );
        assert_eq!(
            thought(&format!(r#"{summary},"encrypted_content":"gAAAA""#)).as_deref(),
            Some("s")
        );
        assert_eq!(thought(r#""summary":[],"encrypted_content":"gAAAA""#), None);
    }

    #[test]
    fn images_come_inline_or_not_at_all() {
        let image = |url: &str| {
            read(&format!(
                r#"[{{"role":"user","content":[{{"type":"input_image","image_url":"{url}","detail":"low"}}]}}]"#
            ))
        };
        for url in ["http://169.254.169.254/", "file:///etc/passwd", ""] {
            assert!(image(url).is_err(), "{url}");
        }
        let inline = Image {
            data_url: "data:,x".into(),
            detail: Some("low".into()),
        };
        assert_eq!(image("data:,x").unwrap()[0].parts(), [Part::Image(inline)]);
        let uploaded = one(r#"{"role":"user","content":[{"type":"input_image","file_id":"f"}]}"#);
        assert!(matches!(&uploaded[0], Part::Text(note) if note.contains("image")));
        let result = one(
            r#"{"type":"function_call_output","call_id":"1","output":[{"type":"input_image","image_url":"data:,x"}]}"#,
        );
        assert!(
            matches!(&result[0], Part::ToolResult(r) if matches!(r.content[0], Content::Image(_)))
        );
    }

    #[test]
    fn strangers_leave_a_trace_and_never_an_error() {
        assert_eq!(
            one(r#"{"type":"hologram","x":1}"#),
            [Part::Text(
                "[An item of type hologram was here that this gateway cannot pass on.]".into()
            )]
        );
        assert_eq!(
            one(r#"{"type":"compaction","summary":"so far"}"#),
            [Part::Text("so far".into())]
        );
        assert!(
            read(r#"[{"type":"web_search_call","id":"ws","action":{"query":"q"}}]"#)
                .unwrap()
                .is_empty()
        );
        let shell = one(
            r#"{"type":"local_shell_call","call_id":"1","action":{"type":"exec","command":["ls"]}}"#,
        );
        assert!(
            matches!(&shell[0], Part::ToolCall(call) if call.name == "local_shell" && call.arguments == r#"{"command":["ls"]}"#)
        );
        let shell = one(r#"{"type":"shell_call_output","call_id":"1","output":[{"stdout":"x"}]}"#);
        assert!(
            matches!(&shell[0], Part::ToolResult(result) if result.text() == r#"{"stdout":"x"}"#)
        );
        let file = one(
            r#"{"role":"user","content":[{"type":"input_file","filename":"a.pdf","file_data":"x"}]}"#,
        );
        assert!(matches!(&file[0], Part::Text(note) if note.contains("a.pdf")));
    }

    #[test]
    fn errors_say_where() {
        for (input, path) in [
            (r#"[{"role":"boss","content":"x"}]"#, "input[0]"),
            (r#"[{"role":"user","content":"x"},7]"#, "input[1]"),
            (r#"[{"type":"item_reference","id":"msg_1"}]"#, "input[0]"),
            (r#"[{"role":"user","content":[7]}]"#, "input[0].content[0]"),
            ("7", "input"),
        ] {
            let Err(TurnError::BadRequest { param, .. }) = read(input) else {
                panic!("{input}")
            };
            assert_eq!(param.as_deref(), Some(path));
        }
    }
}
