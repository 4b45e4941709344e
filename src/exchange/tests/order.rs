//! Whatever a backend streams, and however its bytes are cut, the client gets an order of events that
//! the official SDKs' accumulators take, and never a false end.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::dialect::llama::Target;
use crate::dialect::{Dialect, Meta};
use crate::exchange::{ChatConversion, Conversion, Guards, Progress};

/// What an upstream may say next.
#[derive(Clone, Debug)]
enum Step {
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
fn steps() -> impl Strategy<Value = Vec<Step>> {
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
enum End {
    Finish(&'static str),
    /// The body ends without a finish.
    None,
}

/// The upstream's bytes, in pieces; none is a ping of the client.
fn pieces(steps: &[Step], end: End, cut: usize) -> Vec<Option<Vec<u8>>> {
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

/// Whether the answer was said to be complete, and what the client got.
fn converse(dialect: Dialect, stop: bool, pieces: &[Option<Vec<u8>>]) -> (bool, String) {
    let mut body = json!({"model": "m", "max_tokens": 9, "stream": true,
        "messages": [{"role": "user", "content": "x"}]});
    if stop {
        body["stop_sequences"] = json!(["END"]);
        body["stop"] = json!(["END"]);
    }
    let turn = dialect.decode(body.to_string().as_bytes()).unwrap();
    let meta = Meta {
        id: "1".into(),
        created: 1,
        model: "m".into(),
    };
    let mut conversion = ChatConversion::new(dialect, turn, meta, Guards::off());
    conversion.begin(Target::default(), None);
    let mut out = BytesMut::new();
    let fed = pieces.iter().try_fold(false, |done, piece| match piece {
        _ if done => Ok(true),
        None => {
            conversion.ping(&mut out);
            Ok(false)
        }
        Some(piece) => conversion
            .feed(piece, &mut out)
            .map(|progress| matches!(progress, Progress::Complete | Progress::Cancel)),
    });
    let ended = fed.and_then(|_| conversion.end(&mut out));
    let complete = ended.is_ok();
    if let Err(fault) = ended {
        conversion.fail(&fault.into_error(), &mut out);
    }
    (complete, String::from_utf8(out.to_vec()).unwrap())
}

/// The events of a stream: name and data.
fn events(stream: &str) -> Vec<(Option<&str>, &str)> {
    let frames = stream.strip_suffix("\n\n").map(|all| all.split("\n\n"));
    frames
        .into_iter()
        .flatten()
        .map(|frame| match frame.split_once('\n') {
            Some((event, data)) => (
                event.strip_prefix("event: "),
                data.strip_prefix("data: ").unwrap(),
            ),
            None => (None, frame.strip_prefix("data: ").unwrap()),
        })
        .collect()
}

/// Anthropic's stream as `MessageStream` of the SDKs accumulates it.
#[derive(Default)]
struct Message {
    started: bool,
    open: Option<(u64, String)>,
    blocks: Vec<(String, String)>,
    stop_reason: Option<String>,
    stopped: bool,
}

impl Message {
    fn take(&mut self, name: &str, event: &Value) -> Result<(), String> {
        let refuse = |what: &str| Err(format!("{what}: {event}"));
        if event["type"] != name {
            return refuse("the event's name is not its type");
        }
        if self.stopped {
            return refuse("after message_stop");
        }
        if !self.started && name != "message_start" {
            return refuse("before message_start");
        }
        let index = event["index"].as_u64();
        match name {
            "message_start" if self.started => return refuse("a second start"),
            "message_start" => {
                let message = &event["message"];
                let id = message["id"].as_str().unwrap_or_default();
                if !id.starts_with("msg_")
                    || message["content"] != json!([])
                    || !message["usage"]["input_tokens"].is_u64()
                {
                    return refuse("start");
                }
                self.started = true;
            }
            "ping" => {}
            _ if self.stop_reason.is_some() && name != "message_stop" => {
                return refuse("after message_delta");
            }
            "content_block_start" => {
                if self.open.is_some() || index != Some(self.blocks.len() as u64) {
                    return refuse("block start");
                }
                let block = &event["content_block"];
                let kind = block["type"].as_str().unwrap_or_default();
                let empty = match kind {
                    "text" => block["text"] == "",
                    "thinking" => block["thinking"] == "" && block["signature"] == "",
                    "tool_use" => {
                        block["input"] == json!({})
                            && block["id"].is_string()
                            && block["name"] == "f"
                    }
                    _ => false,
                };
                if !empty {
                    return refuse("content block");
                }
                self.blocks.push((kind.to_owned(), String::new()));
                self.open = index.map(|index| (index, kind.to_owned()));
            }
            "content_block_delta" => {
                let Some((open, kind)) = &self.open else {
                    return refuse("no block is open");
                };
                let delta = &event["delta"];
                let field = match (kind.as_str(), delta["type"].as_str()) {
                    ("text", Some("text_delta")) => "text",
                    ("thinking", Some("thinking_delta")) => "thinking",
                    ("thinking", Some("signature_delta")) => "signature",
                    ("tool_use", Some("input_json_delta")) => "partial_json",
                    _ => return refuse("a delta of another kind"),
                };
                let Some(text) = delta[field].as_str().filter(|_| index == Some(*open)) else {
                    return refuse("delta");
                };
                self.blocks[*open as usize].1.push_str(text);
            }
            "content_block_stop" => {
                let Some((open, kind)) = self.open.take().filter(|(open, _)| index == Some(*open))
                else {
                    return refuse("stop of a block that is not open");
                };
                if kind != "tool_use" && self.blocks[open as usize].1.is_empty() {
                    return refuse("an empty block");
                }
            }
            "message_delta" => {
                if self.open.is_some() || !event["usage"]["output_tokens"].is_u64() {
                    return refuse("message_delta");
                }
                self.stop_reason = event["delta"]["stop_reason"].as_str().map(str::to_owned);
            }
            "message_stop" if self.stop_reason.is_some() => self.stopped = true,
            _ => return refuse("unexpected"),
        }
        Ok(())
    }

    fn of(&self, kind: &str) -> String {
        self.blocks
            .iter()
            .filter(|(k, _)| k == kind)
            .map(|(_, text)| text.as_str())
            .collect()
    }
}

/// What an upstream said in all, as far as it got.
fn said(steps: &[Step]) -> (String, String, String, usize) {
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
fn troubled(steps: &[Step]) -> bool {
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

fn check_anthropic(steps: &[Step], end: End, stop: bool, cut: usize) -> Result<(), TestCaseError> {
    let (complete, stream) = converse(Dialect::Anthropic, stop, &pieces(steps, end, cut));
    let mut message = Message::default();
    let mut events = events(&stream);
    let failed = events
        .last()
        .is_some_and(|(name, _)| *name == Some("error"));
    prop_assert_eq!(complete, !failed, "{}", stream);
    if failed {
        let (_, data) = events.pop().unwrap();
        let error: Value = serde_json::from_str(data).unwrap();
        prop_assert!(error["error"]["type"].is_string() && error["type"] == "error");
    }
    for (name, data) in events {
        let event: Value = serde_json::from_str(data).unwrap();
        let taken = message.take(name.unwrap_or("no name"), &event);
        prop_assert!(taken.is_ok(), "{:?} in\n{}", taken, stream);
    }
    prop_assert_eq!(complete, message.stopped, "{}", stream);
    let (text, thinking, arguments, calls) = said(steps);
    if !stop {
        prop_assert_eq!(complete, end != End::None && !troubled(steps), "{}", stream);
    }
    if complete && !stop {
        prop_assert_eq!(message.of("text"), text);
        prop_assert_eq!(message.of("thinking"), thinking);
        prop_assert_eq!(message.of("tool_use"), arguments);
        let expected = match end {
            End::Finish("length") => "max_tokens",
            _ if calls > 0 => "tool_use",
            _ => "end_turn",
        };
        prop_assert_eq!(message.stop_reason.as_deref(), Some(expected));
    }
    if message.stop_reason.as_deref() == Some("tool_use") {
        prop_assert!(message.blocks.iter().any(|(kind, _)| kind == "tool_use"));
    }
    if message.stop_reason.as_deref() == Some("stop_sequence") {
        // Block by block: reasoning between two texts ends a half match.
        let shown = |(kind, text): &(String, String)| kind == "text" && text.contains("END");
        prop_assert!(!message.blocks.iter().any(shown));
    }
    Ok(())
}

/// OpenAI's stream as the SDKs accumulate it.
fn check_openai(steps: &[Step], end: End, stop: bool, cut: usize) -> Result<(), TestCaseError> {
    let (complete, stream) = converse(Dialect::OpenAi, stop, &pieces(steps, end, cut));
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

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => select(vec!["stop", "tool_calls", "length"]).prop_map(End::Finish),
        1 => Just(End::None),
    ]
}

proptest! {
    #[test]
    fn any_answer_is_an_order_the_anthropic_sdks_take(
        steps in steps(), end in end(), stop in any::<bool>(), cut in 1usize..200
    ) {
        check_anthropic(&steps, end, stop, cut)?;
    }

    #[test]
    fn any_answer_is_an_order_the_openai_sdks_take(
        steps in steps(), end in end(), stop in any::<bool>(), cut in 1usize..200
    ) {
        check_openai(&steps, end, stop, cut)?;
    }
}
