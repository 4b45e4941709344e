//! Any conversation a client may send, sane or not, is refused as a bad request or becomes a body
//! that llama-server takes.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::rules::{LENIENT, STRICT, fault, upstream};
use crate::dialect::Dialect;
use crate::turn::TurnError;

/// A JSON value with null or something of the wrong type now and then.
fn odd(sane: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    let wrong = select(vec![
        Value::Null,
        json!(7),
        json!(true),
        json!([]),
        json!({}),
    ]);
    prop_oneof![100 => sane, 1 => wrong].boxed()
}

fn text() -> BoxedStrategy<Value> {
    let words = [
        "",
        "a",
        "é\u{1f999}",
        "\u{0}\n\"\\",
        "x-anthropic-billing-header: a",
        "Error: no",
    ];
    odd(select(words.map(Value::from).to_vec()))
}

fn arguments() -> BoxedStrategy<Value> {
    let texts = [
        "{}",
        "{\"a\":1}",
        "{\"a\":",
        "",
        "null",
        "[1]",
        "\"x\"",
        " {\"é\": null} ",
        "{}}",
    ];
    select(texts.map(Value::from).to_vec()).boxed()
}

fn input() -> BoxedStrategy<Value> {
    odd(select(vec![
        json!({}),
        json!({"a": 1.5}),
        json!([1]),
        json!("x"),
        json!({"é": {"b": []}}),
    ]))
}

/// An object of some of these members.
fn object(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| (Just(name), prop::option::weighted(0.97, value)))
        .collect();
    members
        .prop_map(|members| {
            let given = members
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::Object(given.collect())
        })
        .boxed()
}

fn one_of(names: &[&str]) -> BoxedStrategy<Value> {
    select(
        names
            .iter()
            .map(|name| Value::from(*name))
            .collect::<Vec<_>>(),
    )
    .boxed()
}

fn list(item: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    vec(item, 0..=most).prop_map(Value::Array).boxed()
}

mod anthropic {
    use super::*;

    fn source() -> BoxedStrategy<Value> {
        odd(select(vec![
            json!({"type": "base64", "media_type": "image/png", "data": "AA=="}),
            json!({"type": "base64", "data": "AA=="}),
            json!({"type": "text", "media_type": "text/plain", "data": "body"}),
            json!({"type": "file", "file_id": "f"}),
            json!({"type": "url", "url": "http://a/b.png"}),
        ]))
    }

    fn leaf() -> BoxedStrategy<Value> {
        let kinds = [
            "text",
            "text",
            "text",
            "image",
            "document",
            "search_result",
            "hologram",
        ];
        object(vec![
            ("type", one_of(&kinds)),
            ("text", text()),
            ("source", source()),
            ("title", text()),
            ("cache_control", odd(Just(json!({"type": "ephemeral"})))),
        ])
    }

    fn content(item: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
        prop_oneof![2 => text(), 3 => list(item, 3)].boxed()
    }

    fn block() -> BoxedStrategy<Value> {
        let kinds = [
            "text",
            "text",
            "image",
            "thinking",
            "redacted_thinking",
            "tool_use",
            "tool_use",
            "server_tool_use",
            "tool_result",
            "tool_result",
            "web_search_tool_result",
            "tool_reference",
            "container_upload",
        ];
        object(vec![
            ("type", one_of(&kinds)),
            ("text", text()),
            ("thinking", text()),
            ("signature", text()),
            ("source", source()),
            ("id", one_of(&["toolu_1", "toolu_2", ""])),
            ("name", one_of(&["f", "g", ""])),
            ("input", input()),
            ("tool_use_id", one_of(&["toolu_1", "toolu_9"])),
            ("content", content(leaf())),
            ("is_error", odd(Just(json!(true)))),
        ])
    }

    fn message() -> BoxedStrategy<Value> {
        let roles = [
            "user",
            "user",
            "assistant",
            "assistant",
            "system",
            "developer",
        ];
        object(vec![
            ("role", one_of(&roles)),
            ("content", content(block())),
            ("output_config", odd(Just(json!({"effort": "low"})))),
        ])
    }

    pub(super) fn body() -> BoxedStrategy<Value> {
        let tool = object(vec![
            (
                "type",
                one_of(&["custom", "web_search_20250305", "bash_20250124"]),
            ),
            ("name", one_of(&["f", "g", "bash"])),
            ("description", text()),
            ("input_schema", input()),
            ("defer_loading", input()),
        ]);
        let choice = select(vec![
            json!({"type": "auto", "disable_parallel_tool_use": true}),
            json!({"type": "any"}),
            json!({"type": "none"}),
            json!({"type": "tool", "name": "f"}),
        ]);
        let thinking = select(vec![
            json!({"type": "enabled", "budget_tokens": 1024}),
            json!({"type": "adaptive", "display": "omitted"}),
            json!({"type": "disabled"}),
        ]);
        object(vec![
            ("model", one_of(&["m"])),
            ("system", content(leaf())),
            ("messages", list(message(), 8)),
            ("tools", list(tool, 3)),
            ("tool_choice", odd(choice)),
            ("thinking", odd(thinking)),
            (
                "max_tokens",
                odd(select(vec![json!(1), json!(128_000), json!(0), json!(2.5)])),
            ),
            ("stop_sequences", odd(Just(json!(["", "END"])))),
            ("stream", odd(Just(json!(true)))),
            ("metadata", odd(Just(json!({"user_id": "u"})))),
            ("context_management", input()),
            ("id_slot", odd(Just(json!(3)))),
        ])
    }
}

mod openai {
    use super::*;

    fn part() -> BoxedStrategy<Value> {
        let kinds = [
            "text",
            "text",
            "text",
            "refusal",
            "image_url",
            "input_audio",
            "file",
            "hologram",
        ];
        let image = select(vec![
            json!({"url": "data:image/png;base64,AA==", "detail": "low"}),
            json!({"url": "http://a/b"}),
            json!("data:image/png;base64,AA=="),
        ]);
        let audio = select(vec![
            json!({"data": "AA==", "format": "wav"}),
            json!({"url": "http://a"}),
        ]);
        object(vec![
            ("type", one_of(&kinds)),
            ("text", text()),
            ("refusal", text()),
            ("image_url", odd(image)),
            ("input_audio", odd(audio)),
        ])
    }

    fn call() -> BoxedStrategy<Value> {
        let function = object(vec![
            ("name", one_of(&["f", "g", ""])),
            ("arguments", prop_oneof![arguments(), input()].boxed()),
        ]);
        object(vec![
            ("id", odd(one_of(&["call_1", ""]))),
            ("type", one_of(&["function", "custom"])),
            ("function", function),
            ("index", odd(Just(json!(0)))),
        ])
    }

    fn message() -> BoxedStrategy<Value> {
        let roles = [
            "user",
            "user",
            "assistant",
            "assistant",
            "tool",
            "system",
            "developer",
            "function",
        ];
        let content = prop_oneof![3 => text(), 2 => list(part(), 3)].boxed();
        (
            object(vec![("role", one_of(&roles)), ("content", content)]),
            of(list(call(), 2)),
            of(object(vec![
                ("tool_call_id", text()),
                ("name", text()),
                ("reasoning_content", text()),
                ("refusal", text()),
            ])),
        )
            .prop_map(|(mut message, calls, more)| {
                if let Some(calls) = calls {
                    message["tool_calls"] = calls;
                }
                if let (Some(message), Some(Value::Object(more))) = (message.as_object_mut(), more)
                {
                    message.extend(more);
                }
                message
            })
            .boxed()
    }

    pub(super) fn body() -> BoxedStrategy<Value> {
        let function = object(vec![
            ("name", one_of(&["f", "g"])),
            ("description", text()),
            ("parameters", input()),
        ]);
        let tool = object(vec![
            ("type", one_of(&["function"])),
            ("function", function),
        ]);
        let choice = select(vec![
            json!("auto"),
            json!("none"),
            json!("required"),
            json!({"type": "function", "function": {"name": "f"}}),
        ]);
        object(vec![
            ("model", one_of(&["m"])),
            ("messages", list(message(), 8)),
            ("tools", odd(list(tool, 3))),
            ("tool_choice", odd(choice)),
            (
                "max_tokens",
                odd(select(vec![json!(128_000), json!(-1), json!(0)])),
            ),
            ("stop", odd(Just(json!(["END"])))),
            ("stream", odd(Just(json!(true)))),
            ("store", odd(Just(json!(false)))),
        ])
    }
}

fn check(dialect: Dialect, body: &Value) -> Result<(), TestCaseError> {
    let turn = match dialect.decode(body.to_string().as_bytes()) {
        Ok(turn) => turn,
        Err(TurnError::BadRequest { .. }) => return Ok(()),
        Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
    };
    for rules in [STRICT, LENIENT] {
        for vision in [false, true] {
            let upstream = upstream(&turn, rules, vision);
            let fault = fault(&upstream, rules, vision);
            prop_assert!(fault.is_none(), "{:?}\nof {body}\nin {upstream}", fault);
            prop_assert!(upstream.get("id_slot").is_none());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn anthropic_transcripts_are_bad_requests_or_valid_upstream(body in anthropic::body()) {
        check(Dialect::Anthropic, &body)?;
    }

    #[test]
    fn openai_transcripts_are_bad_requests_or_valid_upstream(body in openai::body()) {
        check(Dialect::OpenAi, &body)?;
    }
}

/// The generators must mostly yield what is accepted, or they test nothing.
#[test]
fn most_transcripts_are_accepted() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    for (dialect, strategy) in [
        (Dialect::Anthropic, anthropic::body()),
        (Dialect::OpenAi, openai::body()),
    ] {
        let mut runner = TestRunner::deterministic();
        let bodies = (0..400).map(|_| strategy.new_tree(&mut runner).unwrap().current());
        let accepted = bodies.filter(|body| dialect.decode(body.to_string().as_bytes()).is_ok());
        assert!(accepted.count() > 60, "{dialect:?}");
    }
}
