//! `POST /v1/responses` as a [`Turn`].

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::echo::Echo;
use super::{choice, input, tools};
use crate::dialect::json::{self, field};
use crate::dialect::llama;
use crate::dialect::stop::StopSequences;
use crate::turn::{Extra, Message, Role, Turn, TurnError};

/// Fields that mean something to OpenAI's service, or say what the gateway says itself in the
/// upstream's words.
const NOT_FORWARDED: &[&str] = &[
    "client_metadata",
    "context_management",
    "functions",
    "function_call",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "max_tool_calls",
    "messages",
    "moderation",
    "n",
    "n_predict",
    "prompt_cache_options",
    "prompt_cache_retention",
    "response_format",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "truncation",
    "verbosity",
];

/// Fields that refer to what OpenAI's service has stored.
const STORED: &[&str] = &["conversation", "previous_response_id", "prompt"];

/// Decode a request body.
///
/// # Errors
/// [`TurnError::BadRequest`] naming the field. What is not known is never an error, and neither are
/// tools that nobody here can run.
pub fn decode(body: &[u8]) -> Result<Turn, TurnError> {
    let mut fields = Fields::default();
    for (name, value) in json::body(body)?.0 {
        if json::given(value).is_some() {
            fields.take(name, value)?;
        }
    }
    fields.finish()
}

#[derive(Default)]
struct Fields<'a> {
    model: Option<String>,
    input: Option<&'a RawValue>,
    instructions: Option<String>,
    tools: Option<&'a RawValue>,
    tool_choice: Option<&'a RawValue>,
    reasoning: Reasoning,
    text: Text<'a>,
    include: Vec<Cow<'a, str>>,
    top_logprobs: bool,
    stream: bool,
    stop: Vec<String>,
    max_tokens: Option<u64>,
    metadata: Option<&'a RawValue>,
    extra: Extra,
    echo: Echo<'a>,
}

#[derive(Default, Deserialize)]
struct Reasoning {
    effort: Option<String>,
    summary: Option<String>,
    /// Its name before.
    generate_summary: Option<String>,
}

#[derive(Default, Deserialize)]
struct Text<'a> {
    #[serde(borrow)]
    format: Option<Format<'a>>,
}

#[derive(Deserialize)]
struct Format<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(borrow)]
    strict: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: Cow<'a, str>, value: &'a RawValue) -> Result<(), TurnError> {
        self.echo.note(&name, value);
        match name.as_ref() {
            "model" => self.model = Some(field(&name, value)?),
            "input" => self.input = Some(value),
            "instructions" => self.instructions = Some(field(&name, value)?),
            "tools" => self.tools = Some(value),
            "tool_choice" => self.tool_choice = Some(value),
            "reasoning" => self.reasoning = field(&name, value)?,
            "text" => self.text = field(&name, value)?,
            "include" => self.include = field(&name, value)?,
            "stream" => self.stream = field(&name, value)?,
            "stop" => self.stop = field::<StopSequences>(&name, value)?.0,
            "max_output_tokens" => self.max_tokens = Some(json::positive(&name, value)?),
            "metadata" => self.metadata = Some(value),
            "top_logprobs" => {
                self.top_logprobs = field::<f64>(&name, value)? > 0.0;
                llama::forward(&mut self.extra, &name, value)?;
            }
            "background" if field(&name, value)? => return Err(not_stored(&name)),
            "background" => {}
            name if STORED.contains(&name) => return Err(not_stored(name)),
            name if NOT_FORWARDED.contains(&name) => {}
            name => llama::forward(&mut self.extra, name, value)?,
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Turn, TurnError> {
        let tools = self
            .tools
            .map(tools::decode)
            .transpose()?
            .unwrap_or_default();
        let choice = self
            .tool_choice
            .map(|choice| choice::decode(choice, &tools))
            .transpose()?
            .unwrap_or_default();
        let messages = self.messages(&tools)?;
        self.format()?;
        self.think();
        let mut answer = self.echo.finish();
        answer.tools = tools.forms;
        answer.summary = self.reasoning.wants_summary();
        answer.sealed_reasoning = includes(&self.include, "reasoning.encrypted_content");
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
            allowed: choice.allowed,
            answer: Arc::new(answer),
        })
    }

    fn messages(&mut self, tools: &tools::Tools) -> Result<Vec<Message>, TurnError> {
        let input = self
            .input
            .ok_or_else(|| TurnError::bad_field("input", "`input` is required"))?;
        let mut messages = Vec::new();
        let instructions = self.instructions.take();
        if let Some(text) = instructions.filter(|text| !text.is_empty()) {
            messages.push(Message::text(Role::System, text));
        }
        input::decode(input, tools, &mut messages)?;
        if messages.is_empty() {
            return Err(TurnError::bad_field("input", "`input` must not be empty"));
        }
        Ok(messages)
    }

    /// `text.format` in the words of chat completions.
    fn format(&mut self) -> Result<(), TurnError> {
        #[derive(Serialize)]
        struct ResponseFormat<'a> {
            r#type: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            json_schema: Option<JsonSchema<'a>>,
        }
        #[derive(Serialize)]
        struct JsonSchema<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            name: Option<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            strict: Option<&'a RawValue>,
            schema: &'a RawValue,
        }
        let Some(format) = &self.text.format else {
            return Ok(());
        };
        let json_schema = match format.r#type.as_ref() {
            "json_object" => None,
            "json_schema" => {
                let schema = format.schema.ok_or_else(|| {
                    let field = "text.format.schema";
                    TurnError::bad_field(field, format!("`{field}` is required"))
                })?;
                Some(JsonSchema {
                    name: format.name,
                    strict: format.strict,
                    schema,
                })
            }
            // Plain text, which is what comes by itself.
            _ => return Ok(()),
        };
        let format = json::raw(&ResponseFormat {
            r#type: &format.r#type,
            json_schema,
        });
        self.extra.push(("response_format".to_owned(), format));
        Ok(())
    }

    /// The effort goes to the chat template, `none` switches reasoning off (`server-common.cpp`).
    /// llama-server wants to be told that probabilities are wanted besides how many.
    fn think(&mut self) {
        let has = |extra: &Extra, name: &str| extra.iter().any(|(key, _)| key == name);
        if let Some(effort) = &self.reasoning.effort
            && !has(&self.extra, "reasoning_effort")
        {
            self.extra
                .push(("reasoning_effort".to_owned(), json::raw(effort)));
        }
        if self.top_logprobs || includes(&self.include, "message.output_text.logprobs") {
            self.extra.push(("logprobs".to_owned(), json::raw(&true)));
        }
    }
}

impl Reasoning {
    fn wants_summary(&self) -> bool {
        let asked = self.summary.as_ref().or(self.generate_summary.as_ref());
        asked.is_some_and(|summary| summary != "none")
    }
}

fn includes(include: &[Cow<'_, str>], name: &str) -> bool {
    include.iter().any(|asked| asked == name)
}

fn not_stored(name: &str) -> TurnError {
    TurnError::bad_field(
        name,
        format!(
            "`{name}` is not supported: this gateway stores no responses; send the whole conversation as `input`"
        ),
    )
}

#[cfg(test)]
mod tests;
