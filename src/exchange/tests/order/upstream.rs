//! Streams a backend may send.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// What an upstream may say next.
#[derive(Clone, Debug)]
pub(in crate::exchange::tests) enum Step {
    Role,
    Text(&'static str),
    Thinking(&'static str),
    /// A new call, with the beginning of its arguments.
    Call(&'static str),
    /// More arguments of the last call.
    Arguments(&'static str),
    /// Arguments of a call that is not the last one.
    Stray,
    Progress,
    Comment,
    /// Not from upstream: the client is pinged.
    Ping,
    Error,
    Garbage,
}

fn step() -> impl Strategy<Value = Step> {
    let pieces = [
        "",
        "a",
        "END",
        "EN",
        "D",
        "é",
        "\u{1f999}",
        "\n\n",
        "{\"a\":1}",
    ];
    prop_oneof![
        2 => Just(Step::Role),
        8 => select(pieces.to_vec()).prop_map(Step::Text),
        4 => select(pieces.to_vec()).prop_map(Step::Thinking),
        4 => select(vec!["", "{", "{}"]).prop_map(Step::Call),
        6 => select(vec!["", "\"a\"", ":1", "}"]).prop_map(Step::Arguments),
        1 => Just(Step::Progress),
        1 => Just(Step::Comment),
        2 => Just(Step::Ping),
    ]
}

/// A rare trouble among the steps.
pub(in crate::exchange::tests) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let trouble = prop_oneof![Just(Step::Stray), Just(Step::Error), Just(Step::Garbage),];
    (
        vec(step(), 0..14),
        prop::option::weighted(0.15, (trouble, any::<prop::sample::Index>())),
    )
        .prop_map(|(mut steps, trouble)| {
            if let Some((trouble, at)) = trouble {
                steps.insert(at.index(steps.len() + 1), trouble);
            }
            steps
        })
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::exchange::tests) enum End {
    Finish(&'static str),
    /// The body ends without a finish.
    None,
}

/// The upstream's bytes, in pieces; none is a ping of the client.
pub(in crate::exchange::tests) fn pieces(
    steps: &[Step],
    end: End,
    cut: usize,
) -> Vec<Option<Vec<u8>>> {
    let chunk = |delta: Value, finish: Option<&str>| {
        format!(
            "data: {}\n\n",
            json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        )
    };
    let call = |index: u32, arguments: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]});
    let mut calls = 0;
    let mut runs = vec![String::new()];
    for step in steps {
        let said = match step {
            Step::Role => chunk(json!({"role": "assistant", "content": null}), None),
            Step::Text(text) => chunk(json!({"content": text}), None),
            Step::Thinking(text) => chunk(json!({"reasoning_content": text}), None),
            Step::Call(arguments) => {
                let mut delta = call(calls, arguments);
                delta["tool_calls"][0]["id"] = json!(format!("id{calls}"));
                delta["tool_calls"][0]["function"]["name"] = json!("f");
                calls += 1;
                chunk(delta, None)
            }
            Step::Arguments(_) if calls == 0 => continue,
            Step::Arguments(arguments) => chunk(call(calls - 1, arguments), None),
            Step::Stray => chunk(call(calls + 1, "{}"), None),
            Step::Progress => {
                "data: {\"choices\":[],\"prompt_progress\":{\"total\":9,\"cache\":3}}\n\n".into()
            }
            Step::Comment => ":\n\n".into(),
            Step::Error => {
                "data: {\"error\":{\"code\":500,\"message\":\"Compute error.\"}}\n\n".into()
            }
            Step::Garbage => "data: {\"choices\":[{\n\n".into(),
            Step::Ping => {
                runs.push(String::new());
                continue;
            }
        };
        runs.last_mut().unwrap().push_str(&said);
    }
    if let End::Finish(reason) = end {
        let last = runs.last_mut().unwrap();
        last.push_str(&chunk(json!({}), Some(reason)));
        last.push_str("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n");
    }
    let cut_up = |run: &String| {
        run.as_bytes()
            .chunks(cut)
            .map(|c| Some(c.to_vec()))
            .collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        if number > 0 {
            all.push(None);
        }
        all.extend(cut_up(run));
    }
    all
}

/// What an upstream said in all, as far as it got.
pub(in crate::exchange::tests) fn said(steps: &[Step]) -> (String, String, String, usize) {
    let (mut text, mut thinking, mut arguments, mut calls) = Default::default();
    for step in steps {
        match step {
            Step::Text(more) => String::push_str(&mut text, more),
            Step::Thinking(more) => String::push_str(&mut thinking, more),
            Step::Call(more) => {
                calls += 1;
                String::push_str(&mut arguments, more);
            }
            Step::Arguments(more) if calls > 0 => arguments.push_str(more),
            _ => {}
        }
    }
    (text, thinking, arguments, calls)
}

/// Something no answer may contain: errors, and arguments of a call that is not the one being made.
pub(in crate::exchange::tests) fn troubled(steps: &[Step]) -> bool {
    let (mut calls, mut calling) = (0, false);
    steps.iter().any(|step| {
        match step {
            Step::Call(_) => (calls, calling) = (calls + 1, true),
            Step::Text(text) | Step::Thinking(text) if !text.is_empty() => calling = false,
            Step::Arguments(more) => return calls > 0 && !calling && !more.is_empty(),
            Step::Stray | Step::Error | Step::Garbage => return true,
            _ => {}
        }
        false
    })
}

pub(in crate::exchange::tests) fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => select(vec!["stop", "tool_calls", "length"]).prop_map(End::Finish),
        1 => Just(End::None),
    ]
}
