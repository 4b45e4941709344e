//! Anthropic requests.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{input, list, object, odd, one_of, text};

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
