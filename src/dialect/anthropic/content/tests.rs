use super::*;

fn one(content: &str) -> Vec<Part> {
    let raw = RawValue::from_string(format!(r#"[{{"role":"user","content":{content}}}]"#));
    messages(&raw.unwrap()).unwrap()[0].parts().to_vec()
}

#[test]
fn the_billing_block_is_left_out_and_the_rest_joined() {
    let raw = r#"[{"type":"text","text":"x-anthropic-billing-header: cc_version=2.1; cch=ab;"},{"type":"text","text":"You are"},{"type":"text","text":"an agent.","cache_control":{"type":"ephemeral"}}]"#;
    let raw = RawValue::from_string(raw.into()).unwrap();
    let message = system(&raw).unwrap().unwrap();
    assert_eq!(message.parts(), [Part::Text("You are\n\nan agent.".into())]);
}

#[test]
fn tool_results_take_every_form() {
    let text = |parts: &[Part]| match &parts[0] {
        Part::ToolResult(result) => result.text(),
        other => panic!("{other:?}"),
    };
    let block = |content: &str| {
        one(&format!(
            r#"[{{"type":"tool_result","tool_use_id":"t",{content}"is_error":null}}]"#
        ))
    };
    assert_eq!(text(&block(r#""content":"ok","#)), "ok");
    assert_eq!(text(&block("")), "");
    assert_eq!(
        text(&block(
            r#""content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"#
        )),
        "a\nb"
    );
    let image = block(
        r#""content":[{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"AA=="}}],"#,
    );
    let Part::ToolResult(result) = &image[0] else {
        panic!()
    };
    assert!(
        matches!(&result.content[0], Content::Image(image) if image.data_url == "data:image/jpeg;base64,AA==")
    );
}

#[test]
fn unknown_blocks_leave_a_trace_and_never_an_error() {
    assert_eq!(
        one(r#"[{"type":"hologram","x":1}]"#),
        [Part::Text(
            "[A block of type hologram was here that this gateway cannot pass on.]".into()
        )]
    );
    let document = r#"[{"type":"document","title":"T","source":{"type":"text","media_type":"text/plain","data":"body"}}]"#;
    assert_eq!(one(document), [Part::Text("T\n\nbody".into())]);
    assert_eq!(one(r#"[{"type":"redacted_thinking","data":"x"}]"#), []);
}

#[test]
fn arguments_keep_their_bytes() {
    let parts =
        one(r#"[{"type":"tool_use","id":"t","name":"f","input":{"b" : 1.50,"a":"\u00e9"}}]"#);
    let Part::ToolCall(call) = &parts[0] else {
        panic!()
    };
    assert_eq!(call.arguments, r#"{"b" : 1.50,"a":"\u00e9"}"#);
}
