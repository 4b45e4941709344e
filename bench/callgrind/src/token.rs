//! One token of a streamed answer, a chunk a token, as llama-server sends them.

use std::io;

use bytes::BytesMut;
use drover::dialect::Dialect;
use drover::dialect::llama::Target;
use drover::exchange::{ChatConversion, Conversion};
use serde_json::json;

use crate::{guards, meta};
use drover::config::Preset;

const PROSE: &str = include_str!("../../../README.md");
const CODE: &str = include_str!("../../../src/exchange/chat/mod.rs");

/// Convert one answer of so many tokens; without a preset the chunks are made and not converted.
pub fn run(dialect: Dialect, preset: Option<Preset>, text: &str, tokens: usize) -> io::Result<()> {
    let text = if text == "code" { CODE } else { PROSE };
    let schema = json!({"type": "object", "properties": {"path": {"type": "string"}}});
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "read", "parameters": schema}}]});
    let turn = Dialect::OpenAi
        .decode(body.to_string().as_bytes())
        .map_err(io::Error::other)?;
    let guards = guards(preset.unwrap_or(Preset::Off));
    let mut conversion = ChatConversion::new(dialect, turn, meta(), guards);
    conversion.begin(Target::default(), None);
    let mut out = BytesMut::new();
    let chars: Vec<char> = text.chars().collect();
    let mut said = chars.chunks(4).cycle();
    for _ in 0..tokens {
        let token: String = said.next().into_iter().flatten().collect();
        let chunk = chunk(&json!({"content": token}));
        if preset.is_some() {
            let fed = conversion.feed(chunk.as_bytes(), &mut out);
            fed.map_err(|fault| io::Error::other(format!("{fault:?}")))?;
        }
        std::hint::black_box(&chunk);
        // The client takes it.
        out.clear();
    }
    Ok(())
}

/// A chunk of llama-server's.
pub fn chunk(delta: &serde_json::Value) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
    let chunk = json!({"choices": [choice], "created": 1_700_000_000,
        "id": "chatcmpl-0123456789abcdef0123456789abcdef", "model": "m",
        "system_fingerprint": "b11434", "object": "chat.completion.chunk"});
    format!("data: {chunk}\n\n")
}
