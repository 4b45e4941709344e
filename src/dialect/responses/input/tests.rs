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
    let thought = |item: &str| match one(&format!(r#"{{"type":"reasoning",{item}}}"#)).as_slice() {
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
    assert!(matches!(&result[0], Part::ToolResult(r) if matches!(r.content[0], Content::Image(_))));
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
    assert!(matches!(&shell[0], Part::ToolResult(result) if result.text() == r#"{"stdout":"x"}"#));
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
