//! How an agent speaks to the gateway, in each dialect.

use serde_json::{Value, json};

use crate::support::{Request, Response, post};

/// A client protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// OpenAI Chat Completions.
    OpenAi,
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Responses.
    Responses,
}

/// The tools every agent has, with the one argument each requires.
const TOOLS: [(&str, &str); 4] = [
    ("Bash", "command"),
    ("Read", "file_path"),
    ("Write", "file_path"),
    ("Edit", "file_path"),
];

/// Something in a conversation.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A human, or the agent in their name.
    User(String),
    /// The model's text.
    Assistant(String),
    /// The model's call.
    Call {
        id: String,
        name: String,
        arguments: String,
    },
    /// What a call returned.
    Result { id: String, text: String },
}

/// What an agent got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) text: String,
    /// Id, name, arguments.
    pub(crate) calls: Vec<(String, String, String)>,
    /// Why the answer ended, in the dialect's own word.
    pub(crate) stop: String,
}

impl Protocol {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::Responses];

    /// Where it is spoken.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1/chat/completions",
            Self::Anthropic => "/v1/messages",
            Self::Responses => "/v1/responses",
        }
    }

    /// The word for an answer that ended by itself.
    pub(crate) fn end_turn(self) -> &'static str {
        match self {
            Self::OpenAi => "stop",
            Self::Anthropic => "end_turn",
            Self::Responses => "completed",
        }
    }

    fn tools(self, names: &[&str]) -> Value {
        let offered = TOOLS
            .iter()
            .filter(|(name, _)| names.is_empty() || names.contains(name));
        let tools = offered.map(|(name, argument)| {
            let schema = json!({"type": "object", "properties": {*argument: {"type": "string"}}, "required": [argument]});
            match self {
                Self::OpenAi => json!({"type": "function", "function": {"name": name, "parameters": schema}}),
                Self::Anthropic => json!({"name": name, "input_schema": schema}),
                Self::Responses => json!({"type": "function", "name": name, "parameters": schema}),
            }
        });
        tools.collect()
    }

    /// An item as it stands in the history.
    pub(crate) fn item(self, item: &Item) -> Value {
        match (self, item) {
            (Self::Responses, Item::User(text)) => json!({"type": "message", "role": "user",
                "content": [{"type": "input_text", "text": text}]}),
            (Self::Responses, Item::Assistant(text)) => {
                json!({"type": "message", "role": "assistant",
                "content": [{"type": "output_text", "text": text}]})
            }
            (
                Self::Responses,
                Item::Call {
                    id,
                    name,
                    arguments,
                },
            ) => {
                json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments})
            }
            (Self::Responses, Item::Result { id, text }) => {
                json!({"type": "function_call_output", "call_id": id, "output": text})
            }
            (_, Item::User(text)) => json!({"role": "user", "content": text}),
            (_, Item::Assistant(text)) => json!({"role": "assistant", "content": text}),
            (
                Self::OpenAi,
                Item::Call {
                    id,
                    name,
                    arguments,
                },
            ) => json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]}),
            (Self::OpenAi, Item::Result { id, text }) => {
                json!({"role": "tool", "tool_call_id": id, "content": text})
            }
            (
                Self::Anthropic,
                Item::Call {
                    id,
                    name,
                    arguments,
                },
            ) => {
                let input: Value = serde_json::from_str(arguments).unwrap();
                json!({"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": name, "input": input}]})
            }
            (Self::Anthropic, Item::Result { id, text }) => json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": id, "content": text}]}),
        }
    }

    /// Items that belong to one answer, or to what follows one, as they stand in the history: the
    /// dialects that have messages put several of a kind into one.
    pub(crate) fn together(self, items: impl Iterator<Item = Item>) -> Vec<Value> {
        let list = match self {
            Self::OpenAi => "tool_calls",
            Self::Anthropic => "content",
            Self::Responses => return items.map(|item| self.item(&item)).collect(),
        };
        let mut all: Vec<Value> = Vec::new();
        for item in items {
            let mut item = self.item(&item);
            let last = all.last_mut().filter(|last| last["role"] == item["role"]);
            match (
                last.and_then(|l| l[list].as_array_mut()),
                item[list].as_array_mut(),
            ) {
                (Some(known), Some(more)) => known.append(more),
                _ => all.push(item),
            }
        }
        all
    }

    /// A request of these items, each already written with [`Self::item`]. An empty list of tools
    /// stands for all.
    pub(crate) fn request(
        self,
        model: &str,
        system: &str,
        items: &[String],
        tools: &[&str],
        stream: bool,
    ) -> Request {
        let tools = self.tools(tools);
        let items = items.join(",");
        let own = match self {
            Self::OpenAi => {
                let system = json!({"role": "system", "content": system});
                format!(r#""max_tokens":500,"messages":[{system},{items}]"#)
            }
            Self::Anthropic => {
                format!(
                    r#""max_tokens":500,"system":{},"messages":[{items}]"#,
                    json!(system)
                )
            }
            Self::Responses => {
                format!(
                    r#""max_output_tokens":500,"instructions":{},"input":[{items}]"#,
                    json!(system)
                )
            }
        };
        let body = format!(r#"{{"model":"{model}","stream":{stream},"tools":{tools},{own}}}"#);
        post(self.path(), body)
    }

    /// Read an answer.
    pub(crate) fn read(self, response: &Response, stream: bool) -> Heard {
        assert_eq!(response.status, 200, "{}", response.text());
        match (self, stream) {
            (Self::OpenAi, false) => openai(&response.json()["choices"][0], "message"),
            (Self::OpenAi, true) => {
                let mut heard = Heard::default();
                for chunk in response.chunks() {
                    heard.add(openai(&chunk["choices"][0], "delta"));
                }
                heard
            }
            (Self::Anthropic, false) => anthropic(&response.json()),
            (Self::Anthropic, true) => anthropic_stream(&response.chunks()),
            (Self::Responses, false) => responses(&response.json()),
            (Self::Responses, true) => {
                let last = response.chunks().pop().unwrap_or_default();
                responses(&last["response"])
            }
        }
    }
}

impl Heard {
    /// What a further chunk of an OpenAI stream adds.
    fn add(&mut self, more: Self) {
        self.text.push_str(&more.text);
        self.stop.push_str(&more.stop);
        for (id, name, arguments) in more.calls {
            match self.calls.last_mut() {
                Some(last) if name.is_empty() => last.2.push_str(&arguments),
                _ => self.calls.push((id, name, arguments)),
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn openai(choice: &Value, key: &str) -> Heard {
    let said = &choice[key];
    let calls = said["tool_calls"].as_array().cloned().unwrap_or_default();
    let call = |call: &Value| {
        let function = &call["function"];
        (
            text(&call["id"]),
            text(&function["name"]),
            text(&function["arguments"]),
        )
    };
    Heard {
        text: text(&said["content"]),
        calls: calls.iter().map(call).collect(),
        stop: text(&choice["finish_reason"]),
    }
}

fn anthropic(message: &Value) -> Heard {
    let mut heard = Heard {
        stop: text(&message["stop_reason"]),
        ..Heard::default()
    };
    for block in message["content"].as_array().into_iter().flatten() {
        match block["type"].as_str() {
            Some("text") => heard.text.push_str(&text(&block["text"])),
            Some("tool_use") => heard.calls.push((
                text(&block["id"]),
                text(&block["name"]),
                block["input"].to_string(),
            )),
            _ => {}
        }
    }
    heard
}

fn anthropic_stream(events: &[Value]) -> Heard {
    let mut heard = Heard::default();
    for event in events {
        let (block, delta) = (&event["content_block"], &event["delta"]);
        if block["type"] == "tool_use" {
            heard
                .calls
                .push((text(&block["id"]), text(&block["name"]), String::new()));
        }
        heard.text.push_str(&text(&delta["text"]));
        if let Some(call) = heard.calls.last_mut() {
            call.2.push_str(&text(&delta["partial_json"]));
        }
        heard.stop.push_str(&text(&delta["stop_reason"]));
    }
    heard
}

fn responses(response: &Value) -> Heard {
    let mut heard = Heard::default();
    for item in response["output"].as_array().into_iter().flatten() {
        match item["type"].as_str() {
            Some("message") => {
                let content = item["content"].as_array().into_iter().flatten();
                heard.text.extend(content.map(|part| text(&part["text"])));
            }
            Some("function_call") => heard.calls.push((
                text(&item["call_id"]),
                text(&item["name"]),
                text(&item["arguments"]),
            )),
            _ => {}
        }
    }
    // The dialect has no word of its own for an answer that waits for results.
    heard.stop = match heard.calls.is_empty() {
        true => text(&response["status"]),
        false => "tool_calls".to_owned(),
    };
    heard
}
