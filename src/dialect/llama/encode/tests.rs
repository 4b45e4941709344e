use super::*;
use crate::dialect::openai;

const STRICT: TemplateRules = TemplateRules::NONE;

fn messages(request: &str, target: Target<'_>) -> String {
    let turn = openai::decode(request.as_bytes()).unwrap();
    let body = chat_body(&turn, None, target);
    let members: json::Members<'_> = serde_json::from_slice(&body).unwrap();
    members.get("messages").unwrap().get().to_owned()
}

fn strict(messages_json: &str) -> String {
    let target = Target {
        rules: STRICT,
        ..Target::default()
    };
    messages(
        &format!(r#"{{"model":"m","messages":{messages_json}}}"#),
        target,
    )
}

#[test]
fn a_plain_conversation_keeps_its_bytes() {
    let plain = r#"[{"role":"system", "content":"s"},{"role":"user","content":[{"type":"text","text":"a"}],"name":"n"},{"role":"assistant","content":"b"}]"#;
    assert_eq!(strict(plain), plain);
}

#[test]
fn system_messages_later_on_become_reminders_where_they_stand() {
    let text = strict(
        r#"[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"system","content":"r"},{"role":"assistant","content":"b"},{"role":"developer","content":"q"},{"role":"user","content":"c"}]"#,
    );
    assert_eq!(
        text,
        r#"[{"role":"system","content":"s"},{"role":"user","content":"a\n\n<system-reminder>\nr\n</system-reminder>"},{"role":"assistant","content":"b"},{"role":"user","content":"<system-reminder>\nq\n</system-reminder>\n\nc"}]"#
    );
}

#[test]
fn a_template_that_takes_everything_gets_everything_as_it_is() {
    let wild = r#"[{"role":"user","content":"a"},{"role":"system","content":"r"},{"role":"user","content":"b"},{"role":"user","content":"c"}]"#;
    let rules = TemplateRules::ALL;
    let request = format!(r#"{{"model":"m","messages":{wild}}}"#);
    assert_eq!(
        messages(
            &request,
            Target {
                rules,
                ..Target::default()
            }
        ),
        wild
    );
}

#[test]
fn text_after_a_tool_result_joins_it() {
    let text = strict(
        r#"[{"role":"user","content":"a"},{"role":"assistant","content":"","tool_calls":[{"id":"call00001","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call00001","content":"r"},{"role":"user","content":"stop"}]"#,
    );
    assert!(
        text.ends_with(r#"{"role":"tool","tool_call_id":"call00001","content":"r\n\nstop"}]"#),
        "{text}"
    );
}

#[test]
fn ids_of_any_form_become_short_ones_where_a_template_insists() {
    let text = strict(
        r#"[{"role":"user","content":"a"},{"role":"assistant","content":"","tool_calls":[{"id":"toolu_01","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"toolu_01","content":"r"}]"#,
    );
    assert!(!text.contains("toolu_01"), "{text}");
    let id = |name: &str| text.split_once(name).unwrap().1.get(..9).unwrap();
    assert_eq!(id(r#""id":""#), id(r#""tool_call_id":""#), "{text}");
}

#[test]
fn a_conversation_that_begins_with_the_assistant_gets_an_opening() {
    let text = strict(
        r#"[{"role":"system","content":"s"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]"#,
    );
    let opened = r#"{"role":"system","content":"s"},{"role":"user","content":"(The conversation goes on.)"},{"role":"assistant","content":"b"}"#;
    assert!(text.contains(opened), "{text}");
}

#[test]
fn malformed_arguments_in_the_history_are_healed() {
    let history = |arguments: &str| {
        let arguments = serde_json::to_string(arguments).unwrap();
        strict(&format!(
            r#"[{{"role":"user","content":"a"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"call00001","type":"function","function":{{"name":"f","arguments":{arguments}}}}}]}}]"#
        ))
    };
    assert!(
        history(r#"{"a":1}"#).contains(r#""content":null"#),
        "well-formed: kept as it is"
    );
    assert!(
        history(r#"{"a":"#).contains(r#""arguments":"{\"malformed_arguments\":\"{\\\"a\\\":\"}"#)
    );
    assert!(history("").contains(r#""arguments":"{}""#));
    for (unreadable, why) in [
        ("[1]".to_owned(), "no object"),
        (
            r#"{"a":1e999}"#.to_owned(),
            "a number llama-server cannot hold",
        ),
        (r#"{"a":"\ud800"}"#.to_owned(), "half a character"),
        (
            format!("{}1{}", r#"{"a":"#.repeat(20_000), "}".repeat(20_000)),
            "deep enough to exhaust its stack",
        ),
    ] {
        assert!(
            history(&unreadable).contains("malformed_arguments"),
            "{why}"
        );
    }
}

#[test]
fn images_become_a_note_for_a_model_that_cannot_see() {
    let request = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}]}"#;
    let blind = messages(
        request,
        Target {
            vision: Some(false),
            ..Target::default()
        },
    );
    assert!(
        blind.contains("cannot see images") && !blind.contains("base64"),
        "{blind}"
    );
    assert!(messages(request, Target::default()).contains("base64"));
}

#[test]
fn limits_are_capped_by_the_window_and_named_choices_narrow() {
    let request = r#"{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":128000,"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}],"tool_choice":{"type":"function","function":{"name":"g"}}}"#;
    let turn = openai::decode(request.as_bytes()).unwrap();
    let body = chat_body(
        &turn,
        None,
        Target {
            n_ctx: Some(4096),
            ..Target::default()
        },
    );
    let text = std::str::from_utf8(&body).unwrap();
    assert!(text.contains(r#""max_tokens":4096"#));
    assert!(text.contains(
        r#""tools":[{"type":"function","function":{"name":"g"}}],"tool_choice":"required""#
    ));
}
