use serde_json::{Value, json};

use super::*;
use crate::sim::{config::SimConfig, request::Kind};

fn request(messages: Value) -> Request {
    let body = json!({ "messages": messages }).to_string();
    Request::parse(Kind::Chat, body.as_bytes(), &SimConfig::default()).unwrap()
}

fn choose(messages: Value, rules: &[Rule]) -> Option<Vec<Step>> {
    Scripts::default()
        .choose(&request(messages), rules, "gpu0")
        .unwrap()
}

fn text(text: &str) -> Option<Vec<Step>> {
    Some(vec![Step::Text(text.into())])
}

#[test]
fn every_step_has_a_json_form() {
    let steps: Vec<Step> = serde_json::from_value(json!([
        {"text": "a"}, {"raw": "<tool_call>"}, {"chunks": ["a", "b"]}, {"reasoning": "hm"},
        {"repeat": {"text": "x", "times": 3}},
        {"tool_call": {"name": "f", "arguments": {"a": 1}}},
        {"truncated_tool_call": {"name": "f", "arguments": "{\"a\":1}", "cut": 3}},
        {"burst": {"text": "a b c", "drafted": 8, "accepted": 2}},
        {"split_utf8": "🦙"}, {"sleep_ms": 5}, "silence", {"fail": "kv_overflow"},
        {"error": {"message": "m"}}, {"http_error": {"status": 503, "body": "x"}},
        "die", "reset", {"garbage": "data: {\n\n"}, "end", "no_done", "no_role", {"finish": "length"}
    ]))
    .unwrap();
    assert_eq!(steps.len(), 21);
    assert_eq!(steps[1], Step::Text("<tool_call>".into()));
    let again: Vec<Step> = serde_json::from_value(serde_json::to_value(&steps).unwrap()).unwrap();
    assert_eq!(again, steps);
}

#[test]
fn a_directive_answers_its_own_turn_only() {
    let say = json!({"role": "user", "content": "x [[sim [{\"text\":\"one\"}]]] y"});
    assert_eq!(choose(json!([say]), &[]), text("one"));
    let later =
        json!([say, {"role": "assistant", "content": "one"}, {"role": "user", "content": "more"}]);
    assert_eq!(choose(later, &[]), None);
}

#[test]
fn turns_follow_the_assistant_messages() {
    let say = json!({"role": "user", "content":
        "[[sim {\"turns\": [[{\"text\":\"one\"}], [{\"text\":\"two\"}]], \"repeat\": true}]]"});
    let assistant = json!({"role": "assistant", "content": "x"});
    let tool = json!({"role": "tool", "content": "ok", "tool_call_id": "1"});
    assert_eq!(choose(json!([say, assistant, tool]), &[]), text("two"));
    assert_eq!(
        choose(json!([say, assistant, tool, assistant, tool]), &[]),
        text("two")
    );
    let result = json!({"role": "tool", "content": "[[sim [{\"text\":\"from tool\"}] ]]"});
    assert_eq!(
        choose(json!([say, assistant, result]), &[]),
        text("from tool")
    );
}

#[test]
fn attempts_count_the_same_conversation() {
    let say = |t: &str| {
        let script = "[[sim {\"attempts\": [[\"die\"], [{\"text\":\"ok\"}]]}]]";
        request(json!([{"role": "user", "content": format!("{t} {script}")}]))
    };
    let mut scripts = Scripts::default();
    let mut next = |t| scripts.choose(&say(t), &[], "gpu0").unwrap();
    assert_eq!(next("a"), Some(vec![Step::Die]));
    assert_eq!(next("b"), Some(vec![Step::Die]));
    assert_eq!(next("a"), text("ok"));
    assert_eq!(next("a"), text("ok"));
}

#[test]
fn other_backends_make_up_their_answer() {
    let say = |on: &str| {
        json!([{"role": "user", "content":
        format!("[[sim {{\"on\": \"{on}\", \"steps\": [\"die\"]}}]]")}])
    };
    assert_eq!(choose(say("gpu0"), &[]), Some(vec![Step::Die]));
    assert_eq!(choose(say("gpu1"), &[]), None);
}

#[test]
fn a_broken_directive_is_a_bad_request() {
    for broken in [
        "[[sim [\"fly\"]]]",
        "[[sim {\"steps\": [\"die\"]}",
        "[[sim {\"stepz\": 1}]]",
    ] {
        let request = request(json!([{"role": "user", "content": broken}]));
        let error = Scripts::default().choose(&request, &[], "x").unwrap_err();
        assert!(
            error.status == 400 && error.message.starts_with("sim directive"),
            "{error:?}"
        );
    }
}

#[test]
fn rules_match_on_text_number_and_tool_results() {
    let rules = parse_rules(
        "- {contains: weather, after_tool: true, script: {repeat: true, steps: [{text: sunny}]}}\n\
         - {regex: '(?i)WEATHER', script: {steps: [{text: asking}]}}\n\
         - {request: 1, script: {steps: [{text: first}]}}\n",
    )
    .unwrap();
    let user = json!({"role": "user", "content": "the weather?"});
    let after =
        json!([user, {"role": "assistant", "content": ""}, {"role": "tool", "content": "x"}]);
    assert_eq!(choose(json!([user]), &rules), text("asking"));
    assert_eq!(choose(after, &rules), text("sunny"));
    assert_eq!(
        choose(json!([{"role": "user", "content": "hi"}]), &rules),
        text("first")
    );
    assert!(parse_rules("- {regex: '('}").is_err());
}
