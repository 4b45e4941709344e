//! Chat Completions requests.

use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{arguments, input, list, object, odd, one_of, text};

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
            if let (Some(message), Some(Value::Object(more))) = (message.as_object_mut(), more) {
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
