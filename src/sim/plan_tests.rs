use serde_json::{Value, json};

use super::*;
use crate::sim::{config::SimConfig, made_up::made_up, request::Kind};

fn request(body: Value) -> Request {
    Request::parse(
        Kind::Chat,
        body.to_string().as_bytes(),
        &SimConfig::default(),
    )
    .unwrap()
}

fn plan_with(steps: Value, body: Value, room: usize, speculation: &Speculation) -> Plan {
    let steps: Vec<Step> = serde_json::from_value(steps).unwrap();
    lay_out(
        &steps,
        &request(body),
        room,
        speculation,
        &mut Rng::seeded(&[1]),
    )
}

fn plan(steps: Value) -> Plan {
    plan_with(steps, json!({"messages": []}), 1000, &Speculation::none())
}

fn content(plan: &Plan) -> String {
    let shown = plan.beats.iter().map(|beat| match beat {
        Beat::Token(TokenBeat {
            emit: Emit::Content(text) | Emit::Split(text),
            ..
        }) => text.as_str(),
        _ => "",
    });
    shown.collect()
}

fn generated(plan: &Plan) -> usize {
    plan.beats
        .iter()
        .filter(|beat| matches!(beat, Beat::Token(_)))
        .count()
}

#[test]
fn text_ends_with_the_end_token_and_stop() {
    let plan = plan(json!([{"text": "Hello, you!"}]));
    assert_eq!(
        (
            content(&plan).as_str(),
            plan.finish.as_str(),
            generated(&plan)
        ),
        ("Hello, you!", "stop", 5)
    );
}

#[test]
fn a_limit_ends_with_length() {
    let plan = plan_with(
        json!([{"text": "a b c d"}]),
        json!({"messages": []}),
        2,
        &Speculation::none(),
    );
    assert_eq!(
        (
            content(&plan).as_str(),
            plan.finish.as_str(),
            generated(&plan)
        ),
        ("a b", "length", 2)
    );
}

#[test]
fn stop_strings_cut_also_across_steps_and_tokens() {
    let body = json!({"messages": [], "stop": [" a", "END"]});
    let cut = |steps| plan_with(steps, body.clone(), 100, &Speculation::none());
    let one = cut(json!([{"text": "The sight of a fox"}]));
    assert_eq!(
        (content(&one).as_str(), one.finish.as_str()),
        ("The sight of", "stop")
    );
    let two = cut(json!([{"text": "x E"}, {"text": "ND y"}]));
    assert_eq!(content(&two), "x E");
    let none = cut(json!([{"text": "x EN"}]));
    assert_eq!(content(&none), "x EN");
}

#[test]
fn a_tool_call_opens_with_its_first_brace() {
    let plan = plan(json!([{"tool_call": {"name": "f", "arguments": "{\"a\": 1}", "id": "c1"}}]));
    let shown: Vec<&Emit> = plan
        .beats
        .iter()
        .filter_map(|beat| match beat {
            Beat::Token(TokenBeat { emit, .. }) if *emit != Emit::Nothing => Some(emit),
            _ => None,
        })
        .collect();
    assert_eq!(
        shown[0],
        &Emit::ToolOpen {
            index: 0,
            id: "c1".into(),
            name: "f".into(),
            arguments: "{".into()
        }
    );
    let rest: String = shown[1..]
        .iter()
        .map(|emit| match emit {
            Emit::ToolArguments {
                index: 0,
                arguments,
            } => arguments.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(rest, "\"a\": 1}");
    assert_eq!(plan.finish, "tool_calls");
}

#[test]
fn a_truncated_call_ends_with_length() {
    let plan =
        plan(json!([{"truncated_tool_call": {"name": "f", "arguments": "{\"a\":1}", "cut": 2}}]));
    assert_eq!(plan.finish, "length");
    let last = plan.beats.last().unwrap();
    assert!(
        matches!(
            last,
            Beat::Token(TokenBeat {
                emit: Emit::ToolArguments { .. },
                ..
            })
        ),
        "{last:?}"
    );
}

#[test]
fn made_up_answers_obey_tools_and_schema() {
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": {"x": {"const": 3}}, "required": ["x"]}}}]);
    let made = |body: Value| made_up(&request(body), 40, &mut Rng::seeded(&[1]));
    let call = made(json!({"messages": [], "tools": tools, "tool_choice": "required"}));
    let expected = Call {
        name: "f".into(),
        arguments: json!("{\"x\": 3}"),
        id: None,
    };
    assert_eq!(call, [Step::ToolCall(expected)]);
    let auto = made(json!({"messages": [], "tools": tools}));
    assert!(matches!(&auto[..], [Step::Text(_)]));
    let schema = made(json!({"messages": [], "response_format":
        {"type": "json_schema", "json_schema": {"schema": {"const": [1]}}}}));
    assert_eq!(schema, [Step::Text("[1]".into())]);
    let long = made(json!({"messages": [], "ignore_eos": true}));
    assert!(matches!(&long[..], [Step::Text(text)] if tokens::count(text) >= 40));
}

fn passes(plan: &Plan) -> Vec<Pass> {
    let pass = |beat: &Beat| match beat {
        Beat::Token(token) => token.pass,
        _ => None,
    };
    plan.beats.iter().filter_map(pass).collect()
}

#[test]
fn passes_account_for_every_token() {
    for name in ["ngram-mod", "draft-simple", "ngram-cache", "none"] {
        let profile: Speculation = name.parse().unwrap();
        let steps = json!([{"repeat": {"text": "one two three ", "times": 100}}]);
        let plan = plan_with(steps, json!({"messages": []}), 10_000, &profile);
        let passes = passes(&plan);
        let from_drafts: u32 = passes.iter().map(|pass| pass.accepted).sum();
        assert_eq!(
            passes.len() + from_drafts as usize,
            generated(&plan),
            "{name}"
        );
        assert_eq!(
            passes.iter().any(|pass| pass.drafted > 0),
            name != "none",
            "{name}"
        );
        assert_eq!(
            passes[0],
            Pass {
                drafted: 0,
                accepted: 0
            }
        );
    }
}

#[test]
fn acceptance_is_the_configured_one() {
    let mut profile: Speculation = "draft-simple".parse().unwrap();
    profile.repetitive.accept_rate = 0.7;
    let steps = json!([{"repeat": {"text": "a b c d e f ", "times": 3000}}]);
    let plan = plan_with(steps, json!({"messages": []}), 100_000, &profile);
    let (drafts, accepted) = passes(&plan)
        .iter()
        .filter(|pass| pass.drafted > 0)
        .fold((0, 0), |(n, sum), pass| (n + 1, sum + pass.accepted));
    // Three positions at 0.7 each: 0.7 + 0.49 + 0.343.
    let mean = f64::from(accepted) / f64::from(drafts);
    assert!((mean - 1.533).abs() < 0.06, "{mean}");
}

#[test]
fn a_scripted_burst_is_one_pass() {
    let plan =
        plan(json!([{"text": "x"}, {"burst": {"text": "a b c", "drafted": 8, "accepted": 2}}]));
    let passes = passes(&plan);
    assert_eq!(
        passes[1],
        Pass {
            drafted: 8,
            accepted: 2
        }
    );
    assert_eq!(passes.len(), 3, "first token, burst, end");
}
