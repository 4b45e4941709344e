use rstest::rstest;

use super::*;

fn parse(body: &str) -> Result<Request, ApiError> {
    let config = SimConfig {
        total_slots: 2,
        ..SimConfig::default()
    };
    Request::parse(Kind::Chat, body.as_bytes(), &config)
}

// Texts and status codes are those of the real server's answers to the same bodies.
#[rstest]
#[case(r"{}", 400, "'messages' is required")]
#[case("[]", 400, "'messages' is required")]
#[case(r#"{"messages":"hi"}"#, 400, "Expected 'messages' to be an array")]
#[case(
    r#"{"messages":[{"role":"user"}]}"#,
    400,
    "All non-assistant messages must contain 'content'"
)]
#[case(
    r#"{"messages":[{"role":"user","content":[{"type":"banana"}]}]}"#,
    400,
    "unsupported content[].type"
)]
#[case(
    r#"{"messages":[],"max_tokens":-5}"#,
    400,
    "Field 'max_tokens': Value must be between -1 <= value <= 2147483647, but got -5"
)]
#[case(
    r#"{"messages":[],"n":3}"#,
    400,
    "Field 'n': Value must be between 1 <= value <= 2, but got 3"
)]
#[case(
    r#"{"messages":[],"temperature":"1"}"#,
    400,
    "Field 'temperature': [json.exception.type_error.302] type must be number, but is string"
)]
#[case(
    r#"{"messages":[],"top_logprobs":2}"#,
    400,
    "top_logprobs requires logprobs to be set to true"
)]
#[case(
    r#"{"messages":[],"tool_choice":"sometimes"}"#,
    400,
    "Invalid tool_choice: sometimes"
)]
#[case(
    r#"{"messages":[],"response_format":{"type":"xml"}}"#,
    400,
    "response_format type must be one of \"text\" or \"json_object\", but got: xml"
)]
#[case(
    r#"{"messages":[{"role":"assistant","content":"a"},{"role":"assistant","content":"b"}]}"#,
    400,
    "Cannot have 2 or more assistant messages at the end of the list."
)]
#[case(r#"{"messages":[],"stream":true,"logprobs":true,"tools":[{"type":"function","function":{"name":"f"}}]}"#, 400, "logprobs is not supported with tools + stream")]
#[case(r#"{"messages":[],"grammar":"root ::= x","tools":[{"type":"function","function":{"name":"f"}}]}"#, 400, "Cannot use custom grammar constraints with tools.")]
fn refused(#[case] body: &str, #[case] status: u16, #[case] message: &str) {
    let error = parse(body).unwrap_err();
    assert_eq!((error.status, error.message.as_str()), (status, message));
}

#[test]
fn tools_that_are_no_list_are_a_server_error() {
    let error = parse(r#"{"messages":[],"tools":{"a":1}}"#).unwrap_err();
    assert_eq!(error.status, 500);
    assert!(
        error
            .message
            .starts_with(r#"Failed to parse tools: Expected 'tools' to be an array, got {"a":1}"#)
    );
}

#[test]
fn limits_and_lenient_values() {
    let request = |extra: &str| parse(&format!(r#"{{"messages":[],{extra}}}"#)).unwrap();
    assert_eq!(request(r#""max_tokens":0"#).limit, Some(1));
    assert_eq!(request(r#""max_tokens":2.7"#).limit, Some(2));
    assert_eq!(request(r#""max_tokens":-1"#).limit, None);
    assert_eq!(
        request(r#""max_tokens":5,"max_completion_tokens":9"#).limit,
        Some(9)
    );
    assert_eq!(
        request(r#""tool_choice":{"type":"function"}"#).tool_choice,
        ToolChoice::Auto
    );
    assert_eq!(request(r#""stop":["a","",3]"#).stop, ["a"]);
    assert!(request(r#""temperature":null"#).cache_prompt);
}

#[test]
fn the_order_of_keys_in_tools_is_part_of_the_prompt() {
    let prompt = |tools: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],"tools":{tools}}}"#);
        parse(&body).unwrap().prompt
    };
    let one = prompt(r#"[{"type":"function","function":{"name":"f","description":"d"}}]"#);
    let spaced =
        prompt(r#"[ {"type": "function", "function": {"name": "f", "description": "d"}} ]"#);
    let other = prompt(r#"[{"type":"function","function":{"description":"d","name":"f"}}]"#);
    assert_eq!(one, spaced);
    assert_ne!(one, other);
}
