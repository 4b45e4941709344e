//! Streams as the official SDKs' accumulators take them: what they refuse is refused here.

use serde_json::{Value, json};

use crate::dialect::Dialect;

/// What a client has put together.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    /// Visible text, block by block.
    pub(super) texts: Vec<String>,
    /// Reasoning; none where the dialect's stream does not tell.
    pub(super) thinking: Option<String>,
    pub(super) calls: Vec<Call>,
    /// How it ended; none when it did not.
    pub(super) stop: Option<Stopped>,
    /// It ended with an error.
    pub(super) failed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    End,
    Length,
    Calls,
    Sequence,
}

/// Put `stream` together.
pub(super) fn accept(dialect: Dialect, stream: &str) -> Result<Accepted, String> {
    let accepted = match dialect {
        Dialect::OpenAi => openai(stream),
        Dialect::Anthropic => anthropic(stream),
        Dialect::Responses => responses(stream),
    };
    let accepted = accepted.map_err(|error| format!("{error} in\n{stream}"))?;
    if accepted.stop == Some(Stopped::Calls) && accepted.calls.is_empty() {
        return Err(format!("a tool-use end without a call: {stream}"));
    }
    Ok(accepted)
}

/// The events of a stream: name and data.
pub(super) fn events(stream: &str) -> Result<Vec<(Option<&str>, &str)>, String> {
    if stream.is_empty() {
        return Ok(Vec::new());
    }
    let whole = stream.strip_suffix("\n\n").ok_or("half an event")?;
    whole
        .split("\n\n")
        .map(|frame| match frame.split_once('\n') {
            Some((event, data)) => Ok((
                event.strip_prefix("event: "),
                data.strip_prefix("data: ").ok_or("no data")?,
            )),
            None => Ok((None, frame.strip_prefix("data: ").ok_or("no data")?)),
        })
        .collect()
}

fn parse(data: &str) -> Result<Value, String> {
    serde_json::from_str(data).map_err(|error| format!("{error}: {data}"))
}

fn anthropic(stream: &str) -> Result<Accepted, String> {
    let mut message = Message::default();
    let mut failed = false;
    for (name, data) in events(stream)? {
        let event = parse(data)?;
        if failed {
            return Err("after an error".into());
        }
        if name == Some("error") {
            failed = true;
            if !event["error"]["type"].is_string() || event["type"] != "error" {
                return Err(format!("error: {event}"));
            }
            continue;
        }
        message.take(name.unwrap_or("no name"), &event)?;
    }
    if failed && message.stopped {
        return Err("an error after the end".into());
    }
    let mut accepted = Accepted {
        thinking: Some(String::new()),
        failed,
        ..Accepted::default()
    };
    for block in message.blocks {
        match block.kind.as_str() {
            "text" => accepted.texts.push(block.said),
            "thinking" => accepted
                .thinking
                .get_or_insert_default()
                .push_str(&block.said),
            _ => accepted.calls.push(Call {
                name: block.name,
                arguments: block.said,
            }),
        }
    }
    if message.stopped {
        accepted.stop = Some(match message.stop_reason.as_deref() {
            Some("end_turn") => Stopped::End,
            Some("max_tokens") => Stopped::Length,
            Some("tool_use") => Stopped::Calls,
            Some("stop_sequence") => Stopped::Sequence,
            other => return Err(format!("stop reason {other:?}")),
        });
    }
    Ok(accepted)
}

#[derive(Default)]
pub(super) struct Block {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) said: String,
}

/// Anthropic's stream as `MessageStream` of the SDKs accumulates it.
#[derive(Default)]
pub(super) struct Message {
    started: bool,
    open: Option<u64>,
    pub(super) blocks: Vec<Block>,
    pub(super) stop_reason: Option<String>,
    pub(super) stopped: bool,
}

impl Message {
    pub(super) fn take(&mut self, name: &str, event: &Value) -> Result<(), String> {
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
        match name {
            "message_start" if self.started => refuse("a second start"),
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
                Ok(())
            }
            "ping" => Ok(()),
            _ if self.stop_reason.is_some() && name != "message_stop" => {
                refuse("after message_delta")
            }
            "content_block_start" => self.start(event),
            "content_block_delta" => self.delta(event),
            "content_block_stop" => self.stop(event),
            "message_delta" => {
                if self.open.is_some() || !event["usage"]["output_tokens"].is_u64() {
                    return refuse("message_delta");
                }
                self.stop_reason = event["delta"]["stop_reason"].as_str().map(str::to_owned);
                Ok(())
            }
            "message_stop" if self.stop_reason.is_some() => {
                self.stopped = true;
                Ok(())
            }
            _ => refuse("unexpected"),
        }
    }

    fn start(&mut self, event: &Value) -> Result<(), String> {
        let index = event["index"].as_u64();
        if self.open.is_some() || index != Some(self.blocks.len() as u64) {
            return Err(format!("block start: {event}"));
        }
        let block = &event["content_block"];
        let kind = block["type"].as_str().unwrap_or_default();
        let name = block["name"].as_str().unwrap_or_default();
        let empty = match kind {
            "text" => block["text"] == "",
            "thinking" => block["thinking"] == "" && block["signature"] == "",
            "tool_use" => {
                block["input"] == json!({}) && block["id"].is_string() && !name.is_empty()
            }
            _ => false,
        };
        if !empty {
            return Err(format!("content block: {event}"));
        }
        self.blocks.push(Block {
            kind: kind.to_owned(),
            name: name.to_owned(),
            said: String::new(),
        });
        self.open = index;
        Ok(())
    }

    fn delta(&mut self, event: &Value) -> Result<(), String> {
        let index = event["index"].as_u64();
        let block = match self.open {
            Some(open) if index == Some(open) => &mut self.blocks[open as usize],
            _ => return Err(format!("no such block is open: {event}")),
        };
        let delta = &event["delta"];
        let field = match (block.kind.as_str(), delta["type"].as_str()) {
            ("text", Some("text_delta")) => "text",
            ("thinking", Some("thinking_delta")) => "thinking",
            ("thinking", Some("signature_delta")) => "signature",
            ("tool_use", Some("input_json_delta")) => "partial_json",
            _ => return Err(format!("a delta of another kind: {event}")),
        };
        let text = delta[field]
            .as_str()
            .ok_or_else(|| format!("delta: {event}"))?;
        block.said.push_str(text);
        Ok(())
    }

    fn stop(&mut self, event: &Value) -> Result<(), String> {
        let open = self
            .open
            .take()
            .filter(|open| event["index"].as_u64() == Some(*open));
        let open = open.ok_or_else(|| format!("stop of a block that is not open: {event}"))?;
        let block = &self.blocks[open as usize];
        if block.kind != "tool_use" && block.said.is_empty() {
            return Err(format!("an empty block: {event}"));
        }
        Ok(())
    }
}

/// OpenAI's stream as the SDKs accumulate it.
fn openai(stream: &str) -> Result<Accepted, String> {
    let mut accepted = Accepted::default();
    let (mut text, mut thinking) = (String::new(), String::new());
    let mut done = false;
    for (number, (_, data)) in events(stream)?.into_iter().enumerate() {
        if done || accepted.failed {
            return Err("after the end".into());
        }
        if data == "[DONE]" {
            done = true;
            continue;
        }
        let chunk = parse(data)?;
        if chunk.get("error").is_some() {
            accepted.failed = true;
            continue;
        }
        let Some(choice) = chunk["choices"].get(0) else {
            // The usage report.
            continue;
        };
        if accepted.stop.is_some() {
            return Err("after the finish".into());
        }
        let delta = &choice["delta"];
        if (number == 0) != (delta["role"] == "assistant") {
            return Err("the role comes first and once".into());
        }
        text.push_str(delta["content"].as_str().unwrap_or_default());
        thinking.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        if let Some(call) = delta["tool_calls"].get(0) {
            openai_call(call, &mut accepted.calls)?;
        }
        accepted.stop = match choice["finish_reason"].as_str() {
            None => None,
            Some("stop") => Some(Stopped::End),
            Some("length") => Some(Stopped::Length),
            Some("tool_calls") => Some(Stopped::Calls),
            Some(other) => return Err(format!("finish reason {other}")),
        };
    }
    if done != accepted.stop.is_some() {
        return Err("[DONE] without a finish, or a finish without [DONE]".into());
    }
    accepted.texts.push(text);
    accepted.thinking = Some(thinking);
    Ok(accepted)
}

fn openai_call(call: &Value, calls: &mut Vec<Call>) -> Result<(), String> {
    if call["id"].is_string() {
        let name = call["function"]["name"]
            .as_str()
            .filter(|name| !name.is_empty());
        let name = name.filter(|_| call["type"] == "function");
        calls.push(Call {
            name: name.ok_or_else(|| format!("call: {call}"))?.to_owned(),
            arguments: String::new(),
        });
    }
    let index = call["index"].as_u64().map(|index| index as usize + 1);
    let last = calls.last_mut().ok_or("arguments before a call")?;
    let more = call["function"]["arguments"].as_str();
    last.arguments
        .push_str(more.ok_or_else(|| format!("call: {call}"))?);
    if index != Some(calls.len()) {
        return Err(format!("not the last call: {call}"));
    }
    Ok(())
}

/// The stream of OpenAI Responses; `order::responses` looks at its items more closely.
fn responses(stream: &str) -> Result<Accepted, String> {
    let mut accepted = Accepted::default();
    let mut ended = false;
    for (number, (name, data)) in events(stream)?.into_iter().enumerate() {
        let event = parse(data)?;
        if ended {
            return Err("after the end".into());
        }
        if event["type"].as_str() != name || event["sequence_number"] != number {
            return Err(format!("name or number: {event}"));
        }
        let item = &event["item"];
        match name.unwrap_or_default() {
            "response.output_text.delta" => {
                accepted
                    .texts
                    .extend(event["delta"].as_str().map(str::to_owned));
            }
            "response.output_item.done" if item["type"] == "function_call" => {
                let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
                accepted.calls.push(Call {
                    name: text("name"),
                    arguments: text("arguments"),
                });
            }
            "response.completed" => {
                ended = true;
                let calls = !accepted.calls.is_empty();
                accepted.stop = Some(if calls { Stopped::Calls } else { Stopped::End });
            }
            "response.incomplete" => {
                ended = true;
                accepted.stop = Some(Stopped::Length);
            }
            "response.failed" | "error" => {
                ended = true;
                accepted.failed = true;
            }
            _ => {}
        }
    }
    Ok(accepted)
}
