use super::*;

fn one(message: &str) -> Result<Message, TurnError> {
    let raw = RawValue::from_string(format!("[{message}]")).unwrap();
    decode(&raw).map(|mut messages| messages.remove(0))
}

#[test]
fn a_plain_message_keeps_its_bytes_and_unknown_fields() {
    let text = r#"{"role":"user", "content":"h\u0069", "cache_control":{"type":"ephemeral"}}"#;
    let message = one(text).unwrap();
    assert_eq!(message.verbatim().unwrap().get(), text);
    assert_eq!(message.parts(), [Part::Text("hi".into())]);
}

#[test]
fn what_llama_server_would_refuse_is_written_anew() {
    for text in [
        r#"{"role":"developer","content":"x"}"#,
        r#"{"role":"user","content":null}"#,
        r#"{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]}"#,
        r#"{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":{"a":1}}}]}"#,
        r#"{"role":"assistant","content":"x","reasoning_content":null}"#,
        r#"{"role":"user","content":"x","name":null}"#,
        r#"{"role":"tool","content":"x","tool_call_id":null}"#,
        r#"{"role":"assistant","tool_calls":[{"id":null,"type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
        r#"{"role":"user","content":[{"type":"text"}]}"#,
        r#"{"role":"user","content":[{"type":"hologram","x":1}]}"#,
        r#"{"role":"user","content":[{"type":"image_url","text":"x"}]}"#,
    ] {
        assert!(one(text).unwrap().verbatim().is_none(), "{text}");
    }
}

#[test]
fn calls_and_results_are_typed() {
    let call = one(
        r#"{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}"#,
    )
    .unwrap();
    assert!(call.verbatim().is_some());
    assert_eq!(call.tool_calls().next().unwrap().arguments, r#"{"a":1}"#);
    let result = one(
        r#"{"role":"tool","tool_call_id":"1","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#,
    )
    .unwrap();
    let [Part::ToolResult(result)] = result.parts() else {
        panic!("{result:?}")
    };
    assert_eq!(
        (result.call_id.as_str(), result.text().as_str()),
        ("1", "a\nb")
    );
}

#[test]
fn remote_images_are_refused_and_inline_ones_pass() {
    let image = |url: &str| {
        one(&format!(
            r#"{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}"#
        ))
    };
    for url in [
        "http://169.254.169.254/",
        "HTTPS://a/b.png",
        "file:///etc/passwd",
        "",
    ] {
        assert!(image(url).is_err(), "{url}");
    }
    for part in [
        r#"{"type":"input_audio","input_audio":{"data":"http://169.254.169.254/"}}"#,
        r#"{"type":"video_url","video_url":{"url":"http://169.254.169.254/"}}"#,
        r#"{"type":"input_audio","image_url":{"url":"data:,"},"input_audio":{"url":"http://a/"}}"#,
    ] {
        let message = format!(r#"{{"role":"user","content":[{part}]}}"#);
        assert!(one(&message).is_err(), "{part}");
    }
    assert!(
        image("data:image/png;base64,AA==")
            .unwrap()
            .verbatim()
            .is_some()
    );
}

#[test]
fn errors_say_where() {
    for text in [
        r#"{"content":"x"}"#,
        r#"{"role":"boss","content":"x"}"#,
        r#"{"role":"user","content":7}"#,
        "7",
    ] {
        let Err(TurnError::BadRequest { param, .. }) = one(text) else {
            panic!("{text}")
        };
        assert_eq!(param.as_deref(), Some("messages[0]"));
    }
}
