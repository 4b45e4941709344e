//! A long turn up to what is sent to the backend, with or without a tool call as its answer.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use drover::config::{Config, Preset};
use drover::dialect::Dialect;
use drover::dialect::llama::Target;
use drover::exchange::{ChatConversion, Conversion, Prepared, Shaping};
use drover::session::lineage;
use serde_json::json;

use crate::{guards, meta, token, workload};

/// Serve the turn so many times; without a preset it is only read. `answer` is `none`, or `call`.
pub fn run(preset: Option<Preset>, answer: &str, times: usize) -> io::Result<()> {
    let large = workload::simulated().pop();
    let large = large.ok_or_else(|| io::Error::other("no workload"))?;
    let body = Bytes::from(large.body);
    let config = Arc::new(Config::default());
    for _ in 0..times {
        let turn = Dialect::OpenAi.decode(&body).map_err(io::Error::other)?;
        let Some(preset) = preset else {
            std::hint::black_box(&turn);
            continue;
        };
        let shaping = Shaping::new(
            Arc::clone(&config),
            preset,
            None,
            Default::default(),
            lineage::hash,
        );
        let conversion = ChatConversion::new(Dialect::OpenAi, turn, meta(), guards(preset));
        let mut conversion = conversion.shaped(shaping);
        let target = Target {
            n_ctx: Some(1 << 20),
            ..Target::default()
        };
        if !matches!(conversion.prepare(target), Prepared::Ready) {
            return Err(io::Error::other("the prompt is not ready"));
        }
        std::hint::black_box(conversion.begin(target, None));
        if answer == "call" {
            self::call(&mut conversion)?;
        }
    }
    Ok(())
}

fn call(conversion: &mut ChatConversion) -> io::Result<()> {
    let function = json!({"name": "tool_1", "arguments": "{\"argument_0\":\"src/main.rs\"}"});
    let delta =
        json!({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": function}]});
    let end = token::chunk(&json!({}))
        .replace("\"finish_reason\":null", "\"finish_reason\":\"tool_calls\"");
    let mut out = BytesMut::new();
    for chunk in [token::chunk(&delta), end] {
        let fed = conversion.feed(chunk.as_bytes(), &mut out);
        fed.map_err(|fault| io::Error::other(format!("{fault:?}")))?;
    }
    // A call that was not released would cost less than it should.
    match out.windows(11).any(|text| text == b"src/main.rs") {
        true => Ok(()),
        false => Err(io::Error::other("the call did not arrive")),
    }
}
