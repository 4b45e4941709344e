use rstest::rstest;

use super::*;
use crate::turn::{Part, ToolChoice};

fn extra(turn: &Turn) -> Vec<(&str, &str)> {
    turn.extra
        .iter()
        .map(|(k, v)| (k.as_str(), v.get()))
        .collect()
}

#[test]
fn fields_are_typed_translated_or_left_out() {
    let turn = decode(
        br#"{"model":"m","input":"hi","instructions":"Be brief.","stream":true,"store":false,
            "max_output_tokens":128000,"temperature":0.70,"top_p":1,"parallel_tool_calls":false,
            "reasoning":{"effort":"low","summary":"auto"},"include":["reasoning.encrypted_content"],
            "metadata":{"session_id":"s"},"prompt_cache_key":"k","client_metadata":{"a":1},
            "text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":{"type":"object"}},"verbosity":"low"},
            "truncation":"auto","service_tier":"auto","id_slot":3,"future":[1],"tools":null,
            "previous_response_id":null,"background":false,"min_p":0.1}"#,
    )
    .unwrap();
    assert_eq!(
        (turn.model.as_str(), turn.stream, turn.max_tokens),
        ("m", true, Some(128_000))
    );
    assert_eq!(turn.tool_choice, ToolChoice::Auto);
    assert_eq!(
        extra(&turn),
        [
            ("temperature", "0.70"),
            ("top_p", "1"),
            ("parallel_tool_calls", "false"),
            ("prompt_cache_key", "\"k\""),
            ("future", "[1]"),
            ("min_p", "0.1"),
            (
                "response_format",
                r#"{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object"}}}"#
            ),
            ("reasoning_effort", "\"low\""),
        ]
    );
    assert!(turn.answer.summary && turn.answer.sealed_reasoning);
    let roles: Vec<_> = turn.messages.iter().map(Message::role).collect();
    assert_eq!(roles, [Role::System, Role::User]);
    assert_eq!(turn.messages[1].parts(), [Part::Text("hi".into())]);
}

#[rstest]
#[case(r#""previous_response_id":"resp_1""#, "previous_response_id")]
#[case(r#""conversation":{"id":"conv_1"}"#, "conversation")]
#[case(r#""prompt":{"id":"pmpt_1"}"#, "prompt")]
#[case(r#""background":true"#, "background")]
#[case(r#""max_output_tokens":0"#, "max_output_tokens")]
#[case(
    r#""text":{"format":{"type":"json_schema","name":"n"}}"#,
    "text.format.schema"
)]
#[case(r#""stream":"yes""#, "stream")]
#[case(r#""tools":7"#, "tools")]
fn what_cannot_be_served_is_named(#[case] member: &str, #[case] param: &str) {
    let body = format!(r#"{{"model":"m","input":"hi",{member}}}"#);
    let Err(TurnError::BadRequest { param: found, .. }) = decode(body.as_bytes()) else {
        panic!("{member}")
    };
    assert_eq!(found.as_deref(), Some(param));
}

#[test]
fn there_must_be_something_to_answer() {
    for body in ["{}", r#"{"input":null}"#, r#"{"input":[]}"#] {
        assert!(decode(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn probabilities_are_asked_for_in_the_upstreams_words() {
    let turn = decode(br#"{"input":"a","top_logprobs":2}"#).unwrap();
    assert_eq!(extra(&turn), [("top_logprobs", "2"), ("logprobs", "true")]);
    let turn = decode(br#"{"input":"a","include":["message.output_text.logprobs"]}"#).unwrap();
    assert_eq!(extra(&turn), [("logprobs", "true")]);
}
