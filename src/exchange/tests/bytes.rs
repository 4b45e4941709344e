//! Argument values of a valid call reach the client byte for byte, whatever they look like.

use bytes::BytesMut;
use serde_json::{Value, json};

use crate::config::{self, Preset};
use crate::dialect::llama::Target;
use crate::dialect::{Dialect, Meta};
use crate::exchange::{ChatConversion, Conversion, Guards, Progress};
use crate::sim::rng::Rng;

/// What tempted earlier guards to touch a value.
const TEMPTING: &[&str] = &[
    "}}}}",
    "]}",
    "{{{",
    "```json\n{}\n```",
    "<parameter name=\"x\">1</parameter>",
    "<parameter=path>",
    "</parameter>\n</function>\n</tool_call>",
    "<tool_call>{\"name\":\"put\",\"arguments\":{}}</tool_call>",
    "<function=put>",
    "<think>no</think>",
    "<|im_end|>",
    "<|tool_call>call:put{}<tool_call|>",
    "[TOOL_CALLS]",
    "00000000-0000-0000-0000-000000000000",
    "0000000000000000000000000000000000000000",
    "<system-reminder>\n",
    "Please follow these rules:",
    "You must call a tool. You must call a tool.",
    "You are provided with function signatures within <tools></tools> XML tags:",
    "I could not produce a valid tool-call format in this turn",
    "{'a': True, 'b': None}",
    "C:\\users\\new\\t",
    "it's \"quoted\"",
    "trailing, ]",
    "line\nbreak\r\n\ttab",
    "\u{0}\u{1f}\u{7f}\u{2028}\u{feff}",
    "\u{1f980} \u{202e}Köln \u{65e5}\u{672c}",
    "\\u0041 \\n \\",
    "\"",
    " \t ",
    "data: [DONE]\n\n",
    "event: message_stop\n",
    "null",
];

fn text(rng: &mut Rng) -> String {
    (0..rng.below(6))
        .map(|_| TEMPTING[rng.below(TEMPTING.len())])
        .collect()
}

fn value(rng: &mut Rng, depth: usize) -> Value {
    match rng.below(if depth == 0 { 5 } else { 7 }) {
        0 => json!(rng.below(1 << 40)),
        1 => json!(rng.below(2) == 0),
        2..=4 => json!(text(rng)),
        5 => (0..rng.below(4)).map(|_| value(rng, depth - 1)).collect(),
        _ => Value::Object(
            (0..rng.below(4))
                .map(|_| (text(rng), value(rng, depth - 1)))
                .collect(),
        ),
    }
}

/// Arguments of the tool `put`, as a model might write them: compact, or with blanks.
fn arguments(rng: &mut Rng, number: usize) -> String {
    let path = match number % 400 {
        7 => "<a>}}\u{1f980}\n".repeat((1 << 20) / 10),
        _ => text(rng),
    };
    let object = json!({"path": path, "more": value(rng, 3)});
    match rng.below(2) {
        0 => object.to_string(),
        _ => serde_json::to_string_pretty(&object).unwrap(),
    }
}

/// The upstream's bytes: the call structured and in pieces, or as text.
fn upstream(rng: &mut Rng, arguments: &str, textual: bool) -> Vec<u8> {
    let mut out = String::new();
    let mut chunk = |delta: Value, finish: Option<&str>| {
        let chunk = json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
        out.push_str(&format!("data: {chunk}\n\n"));
    };
    let said = match textual {
        true => format!("<tool_call>{{\"name\":\"put\",\"arguments\":{arguments}}}</tool_call>"),
        false => arguments.to_owned(),
    };
    if !textual {
        chunk(
            json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "put", "arguments": ""}}]}),
            None,
        );
    }
    let chars: Vec<char> = said.chars().collect();
    let mut rest = &chars[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + rng.below(1 + said.len() / 8)));
        rest = after;
        let piece: String = piece.iter().collect();
        let delta = match textual {
            true => json!({"content": piece}),
            false => json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}),
        };
        chunk(delta, None);
    }
    chunk(json!({}), Some("stop"));
    out.push_str("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n");
    out.into_bytes()
}

fn converse(dialect: Dialect, stream: bool, preset: Preset, bytes: &[u8], cut: usize) -> String {
    let schema =
        json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    let body = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "put", "parameters": schema}}]});
    let turn = Dialect::OpenAi.decode(body.to_string().as_bytes()).unwrap();
    let meta = Meta {
        id: "1".into(),
        created: 1,
        model: "m".into(),
    };
    let guards = Guards::new(preset, &config::Guard::default());
    let mut conversion = ChatConversion::new(dialect, turn, meta, guards);
    conversion.begin(Target::default(), None);
    let mut out = BytesMut::new();
    for piece in bytes.chunks(cut) {
        let progress = conversion.feed(piece, &mut out).unwrap();
        assert!(progress < Progress::Cancel, "{progress:?}");
    }
    conversion.end(&mut out).unwrap();
    let out = conversion.whole().unwrap_or(out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// Everything in an answer that may be a call's arguments: whole members, and members put together.
fn candidates(answer: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut together: [String; 3] = Default::default();
    let lines = answer
        .lines()
        .map(|line| line.strip_prefix("data: ").unwrap_or(line));
    for line in lines.filter(|line| line.starts_with('{')) {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let all: [(usize, &Value); 4] = [
            (
                0,
                &event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"],
            ),
            (
                0,
                &event["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"],
            ),
            (1, &event["delta"]["partial_json"]),
            (2, &event["delta"]),
        ];
        for (family, value) in all {
            together[family].push_str(value.as_str().unwrap_or_default());
        }
        found.extend(event["arguments"].as_str().map(str::to_owned));
        for item in event["output"].as_array().into_iter().flatten() {
            found.extend(item["arguments"].as_str().map(str::to_owned));
        }
    }
    // Anthropic's whole answers hold the object itself: its source is what stands there.
    if let Some(at) = answer.find(r#""input":"#) {
        let source = &answer[at + 8..];
        let mut values = serde_json::Deserializer::from_str(source).into_iter::<Value>();
        if values.next().is_some_and(|value| value.is_ok()) {
            found.push(source[..values.byte_offset()].to_owned());
        }
    }
    found.extend(together);
    found
}

#[test]
fn a_thousand_argument_values_arrive_byte_for_byte() {
    let mut rng = Rng::seeded(&[20_261_123]);
    for number in 0..1000 {
        let arguments = arguments(&mut rng, number);
        let textual = number % 4 == 0;
        let bytes = upstream(&mut rng, &arguments, textual);
        let cut = 1 + rng.below(bytes.len());
        for &dialect in Dialect::ALL {
            for stream in [true, false] {
                for preset in [
                    Preset::Standard,
                    Preset::Strict,
                    Preset::UapLegacy,
                    Preset::Off,
                ] {
                    if textual && preset == Preset::Off {
                        continue;
                    }
                    let answer = converse(dialect, stream, preset, &bytes, cut);
                    assert!(
                        candidates(&answer).contains(&arguments),
                        "{number} {dialect:?} stream={stream} {preset:?} textual={textual}:\n{arguments:.2000}\n{answer:.4000}"
                    );
                }
            }
        }
    }
}
