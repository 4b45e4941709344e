//! OpenAI's order.

use proptest::prelude::*;
use serde_json::Value;

use super::upstream::{End, Step, pieces, said};
use super::{converse, events, request};
use crate::dialect::Dialect;

/// OpenAI's stream as the SDKs accumulate it.
pub(super) fn check(steps: &[Step], end: End, stop: bool, cut: usize) -> Result<(), TestCaseError> {
    let request = request(Dialect::OpenAi, stop);
    let (complete, stream) = converse(Dialect::OpenAi, &request, &pieces(steps, end, cut));
    let mut chunks: Vec<Value> = Vec::new();
    let mut done = false;
    for (_, data) in events(&stream) {
        prop_assert!(!done, "after [DONE]: {}", stream);
        if data == "[DONE]" {
            done = true;
        } else {
            chunks.push(serde_json::from_str(data).unwrap());
        }
    }
    prop_assert_eq!(complete, done, "{}", stream);
    let failed = chunks
        .pop_if(|chunk| chunk.get("error").is_some())
        .is_some();
    prop_assert_eq!(complete, !failed, "{}", stream);
    let (mut text, mut calls, mut finish) = (String::new(), 0, None);
    for (number, chunk) in chunks.iter().enumerate() {
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        prop_assert_eq!(
            number == 0,
            delta["role"] == "assistant",
            "the role comes first and once: {}",
            stream
        );
        prop_assert!(finish.is_none(), "after the finish: {}", stream);
        text.push_str(delta["content"].as_str().unwrap_or_default());
        if let Some(call) = delta["tool_calls"].get(0) {
            let opens = call["id"].is_string()
                && call["function"]["name"] == "f"
                && call["type"] == "function";
            calls += u64::from(opens);
            prop_assert_eq!(call["index"].as_u64(), calls.checked_sub(1), "{}", stream);
            prop_assert!(call["function"]["arguments"].is_string());
        }
        finish = choice["finish_reason"].as_str().map(str::to_owned);
    }
    prop_assert_eq!(complete, finish.is_some(), "{}", stream);
    if complete && !stop {
        let (expected, _, _, made) = said(steps);
        prop_assert_eq!(text, expected);
        prop_assert_eq!(calls, made as u64);
        let expected = match end {
            End::Finish("length") => "length",
            _ if made > 0 => "tool_calls",
            _ => "stop",
        };
        prop_assert_eq!(finish.as_deref(), Some(expected));
    }
    Ok(())
}
