//! `POST /v1/messages` as a [`Turn`].

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{content, tools};
use crate::dialect::json::{self, field};
use crate::dialect::llama;
use crate::dialect::stop::StopSequences;
use crate::turn::{Extra, Message, Part, Role, Turn, TurnError};

/// Fields that mean something to Anthropic's service and nothing to a model here.
const ANTHROPIC_ONLY: &[&str] = &[
    "anthropic_beta",
    "anthropic_version",
    "cache_control",
    "container",
    "context_management",
    "inference_geo",
    "mcp_servers",
    "output_config",
    "output_format",
    "safeguards",
    "service_tier",
    "speed",
];

/// Decode a request body.
///
/// # Errors
/// [`TurnError::BadRequest`] naming the field. What is not known is never an error: to a 400
/// Claude Code answers with six larger requests.
pub fn decode(body: &[u8]) -> Result<Turn, TurnError> {
    let mut fields = Fields::default();
    for (name, value) in json::body(body)?.0 {
        fields.take(name, value)?;
    }
    fields.finish()
}

#[derive(Default)]
struct Fields<'a> {
    model: Option<String>,
    system: Option<&'a RawValue>,
    messages: Option<&'a RawValue>,
    tools: Option<&'a RawValue>,
    tool_choice: Option<&'a RawValue>,
    thinking: Option<Thinking>,
    stream: bool,
    stop: Vec<String>,
    max_tokens: Option<u64>,
    metadata: Option<&'a RawValue>,
    extra: Extra,
}

#[derive(Deserialize)]
struct Thinking {
    r#type: Option<String>,
    budget_tokens: Option<u64>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: Cow<'a, str>, value: &'a RawValue) -> Result<(), TurnError> {
        if value.get() == "null" {
            return Ok(());
        }
        match name.as_ref() {
            "model" => self.model = Some(field(&name, value)?),
            "system" => self.system = Some(value),
            "messages" => self.messages = Some(value),
            "tools" => self.tools = Some(value),
            "tool_choice" => self.tool_choice = Some(value),
            "thinking" => self.thinking = Some(field(&name, value)?),
            "stream" => self.stream = field(&name, value)?,
            "stop_sequences" => self.stop = field::<StopSequences>(&name, value)?.0,
            "max_tokens" => self.max_tokens = Some(json::positive(&name, value)?),
            "metadata" => self.metadata = Some(value),
            name if ANTHROPIC_ONLY.contains(&name) => {}
            name => llama::forward(&mut self.extra, name, value)?,
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Turn, TurnError> {
        let raw = self
            .messages
            .ok_or_else(|| TurnError::bad_field("messages", "messages: Field required"))?;
        let mut messages = Vec::new();
        if let Some(system) = self.system {
            messages.extend(content::system(system)?);
        }
        messages.extend(content::messages(raw)?);
        let tools = self
            .tools
            .map(tools::decode)
            .transpose()?
            .unwrap_or_default();
        let choice = self
            .tool_choice
            .map(|choice| tools::decode_choice(choice, &tools))
            .transpose()?
            .unwrap_or_default();
        self.switch("parallel_tool_calls", choice.parallel);
        self.think();
        self.continue_prefill(&messages);
        Ok(Turn {
            model: self.model.unwrap_or_default(),
            messages,
            tools: tools.offered.into(),
            tool_choice: choice.choice,
            stream: self.stream,
            include_usage: true,
            stop: self.stop,
            max_tokens: self.max_tokens,
            choices: 1,
            metadata: self.metadata.map(RawValue::to_owned),
            extra: self.extra,
            allowed: None,
            answer: Arc::default(),
        })
    }

    /// Thinking is a switch of the chat template here, with a budget llama-server enforces;
    /// `adaptive` leaves both to the template. A client that sets the switch itself keeps it.
    fn think(&mut self) {
        let Some(thinking) = self.thinking.take() else {
            return;
        };
        let on = match thinking.r#type.as_deref() {
            Some("enabled") => true,
            Some("disabled") => false,
            _ => return,
        };
        if !self.has("chat_template_kwargs") {
            #[derive(serde::Serialize)]
            struct Switch {
                enable_thinking: bool,
            }
            let switch = json::raw(&Switch {
                enable_thinking: on,
            });
            self.extra.push(("chat_template_kwargs".into(), switch));
        }
        if let Some(budget) = thinking.budget_tokens.filter(|_| on) {
            self.extra
                .push(("thinking_budget_tokens".into(), json::raw(&budget)));
        }
    }

    /// An assistant message at the end is the beginning of the answer: it is continued, not
    /// repeated (llama-server repeats it unless told).
    fn continue_prefill(&mut self, messages: &[Message]) {
        let is_prefill = messages.last().is_some_and(|last| {
            last.role() == Role::Assistant
                && last
                    .parts()
                    .iter()
                    .all(|part| matches!(part, Part::Text(_)))
        });
        self.switch("continue_final_message", is_prefill.then_some(true));
        // llama-server refuses both.
        self.switch("add_generation_prompt", is_prefill.then_some(false));
    }

    fn switch(&mut self, name: &str, value: Option<bool>) {
        if let Some(value) = value.filter(|_| !self.has(name)) {
            self.extra.push((name.to_owned(), json::raw(&value)));
        }
    }

    fn has(&self, name: &str) -> bool {
        self.extra.iter().any(|(key, _)| key == name)
    }
}
