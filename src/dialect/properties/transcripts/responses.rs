//! Responses requests.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{arguments, input, list, object, odd, one_of, text};

fn part() -> BoxedStrategy<Value> {
    let kinds = [
        "input_text",
        "input_text",
        "output_text",
        "refusal",
        "input_image",
        "input_file",
        "input_audio",
        "hologram",
    ];
    let image = select(vec![
        json!("data:image/png;base64,AA=="),
        json!({"url": "data:image/png;base64,AA=="}),
        json!("http://a/b"),
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
        ("file_id", text()),
        ("filename", text()),
        ("input_audio", odd(audio)),
    ])
}

fn content() -> BoxedStrategy<Value> {
    prop_oneof![2 => text(), 3 => list(part(), 3)].boxed()
}

fn item() -> BoxedStrategy<Value> {
    let kinds = [
        "message",
        "message",
        "message",
        "reasoning",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "local_shell_call",
        "local_shell_call_output",
        "web_search_call",
        "compaction",
        "hologram",
    ];
    let roles = ["user", "user", "assistant", "developer", "system"];
    object(vec![
        ("type", one_of(&kinds)),
        ("role", one_of(&roles)),
        ("content", content()),
        ("summary", content()),
        ("encrypted_content", text()),
        ("call_id", odd(one_of(&["call_1", "call_2", ""]))),
        ("name", odd(one_of(&["f", "g", ""]))),
        ("namespace", odd(one_of(&["mcp__a", "mcp__a__", ""]))),
        ("arguments", prop_oneof![arguments(), input()].boxed()),
        ("input", text()),
        ("action", input()),
        ("output", content()),
        ("status", text()),
    ])
}

fn function() -> BoxedStrategy<Value> {
    let kinds = [
        "function",
        "function",
        "custom",
        "local_shell",
        "web_search",
        "hologram",
    ];
    object(vec![
        ("type", one_of(&kinds)),
        ("name", odd(one_of(&["f", "g", "a__f"]))),
        ("description", text()),
        ("parameters", input()),
        (
            "format",
            odd(Just(
                json!({"type": "grammar", "syntax": "lark", "definition": "start: x"}),
            )),
        ),
        ("strict", odd(Just(json!(true)))),
    ])
}

pub(super) fn body() -> BoxedStrategy<Value> {
    let group = object(vec![
        ("type", one_of(&["namespace"])),
        ("name", one_of(&["mcp", "mcp__a"])),
        ("description", text()),
        ("tools", list(function(), 2)),
    ]);
    let tool = prop_oneof![3 => function(), 1 => group].boxed();
    let choice = select(vec![
        json!("auto"),
        json!("required"),
        json!({"type": "function", "name": "f"}),
        json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}),
        json!({"type": "web_search_preview"}),
    ]);
    let input = prop_oneof![1 => text(), 9 => list(item(), 8)].boxed();
    object(vec![
        ("model", one_of(&["m"])),
        ("instructions", text()),
        ("input", input),
        ("tools", odd(list(tool, 3))),
        ("tool_choice", odd(choice)),
        (
            "max_output_tokens",
            odd(select(vec![json!(128_000), json!(1), json!(0)])),
        ),
        ("stream", odd(Just(json!(true)))),
        ("store", odd(Just(json!(false)))),
        ("include", odd(Just(json!(["reasoning.encrypted_content"])))),
        ("id_slot", odd(Just(json!(3)))),
    ])
}
