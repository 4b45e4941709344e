//! A generation request of any kind, checked as llama-server b11434 checks it.

use std::time::Duration;

use serde_json::Value;

use super::{
    config::SimConfig,
    conversation::{Message, Tool, messages, tools},
    errors::{ApiError, KnownFailure},
    fields::{Fields, minify},
    template,
};

/// The endpoint that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completion,
    /// `/completion`
    Native,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    Auto,
    None,
    Required,
}

/// A constraint on the answer's form.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    Text,
    JsonObject,
    JsonSchema(Value),
}

/// A request that generates.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) messages: Vec<Message>,
    pub(crate) prompt: String,
    pub(crate) tools: Vec<Tool>,
    pub(crate) tool_choice: ToolChoice,
    pub(crate) format: Format,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) timings_per_token: bool,
    pub(crate) return_progress: bool,
    /// The last message is the beginning of the answer (`continue_final_message`).
    pub(crate) continues: bool,
    pub(crate) return_tokens: bool,
    pub(crate) cache_prompt: bool,
    pub(crate) ignore_eos: bool,
    /// Most tokens to generate; `None` = until the context is full.
    pub(crate) limit: Option<usize>,
    pub(crate) stop: Vec<String>,
    pub(crate) n: usize,
    /// Number of alternatives to each token, when log probabilities are wanted.
    pub(crate) logprobs: Option<usize>,
    pub(crate) seed: Option<u64>,
    pub(crate) temperature: f64,
    pub(crate) ping: Option<Duration>,
    /// A script from the `x-sim-script` header.
    pub(crate) script: Option<String>,
}

impl Request {
    /// Reads the body of a request to an endpoint of the given kind.
    pub(crate) fn parse(kind: Kind, body: &[u8], config: &SimConfig) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        let mut request = Self::sampling(kind, &fields, config)?;
        if kind == Kind::Chat {
            request.chat(&fields, config)?;
        } else {
            request.prompt = match fields.value("prompt") {
                Some(Value::String(text)) => text,
                Some(Value::Array(parts)) => parts
                    .iter()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .concat(),
                _ => return Err(ApiError::invalid("\"prompt\" is required")),
            };
            request.messages = vec![Message {
                role: "user".into(),
                text: request.prompt.clone(),
                ..Message::default()
            }];
        }
        Ok(request)
    }

    /// The messages part alone, for the endpoints that count or show the prompt.
    pub(crate) fn chat_prompt(body: &[u8], config: &SimConfig) -> Result<String, ApiError> {
        Ok(Self::parse(Kind::Chat, body, config)?.prompt)
    }

    /// True when the conversation ends with a tool's result.
    pub(crate) fn after_tool(&self) -> bool {
        self.messages
            .last()
            .is_some_and(|message| message.role == "tool")
    }

    /// The text of the last message of the user.
    pub(crate) fn last_user_text(&self) -> &str {
        let last = self
            .messages
            .iter()
            .rev()
            .find(|message| message.role == "user");
        last.map(|message| message.text.as_str())
            .unwrap_or_default()
    }

    /// What of the answer is said already.
    pub(crate) fn said(&self) -> &str {
        let last = self
            .messages
            .last()
            .filter(|message| self.continues && message.role == "assistant");
        last.map_or("", |message| &message.text)
    }

    fn sampling(kind: Kind, fields: &Fields<'_>, config: &SimConfig) -> Result<Self, ApiError> {
        let mut limit = None;
        for name in ["n_predict", "max_tokens", "max_completion_tokens"] {
            limit = fields.integer(name, -1, i64::from(i32::MAX))?.or(limit);
        }
        let n = fields.integer("n", 1, config.total_slots as i64)?;
        let n = n.or(fields.integer("n_cmpl", 1, config.total_slots as i64)?);
        let options = fields.value("stream_options");
        let option = |name: &str| options.as_ref().and_then(|o| o.get(name)?.as_bool());
        Ok(Self {
            kind,
            messages: Vec::new(),
            prompt: String::new(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            format: Format::Text,
            stream: fields.flag("stream")?,
            include_usage: option("include_usage").unwrap_or(false),
            timings_per_token: fields.flag("timings_per_token")?,
            return_progress: fields.flag("return_progress")?,
            continues: fields.flag("continue_final_message")?,
            return_tokens: fields.flag("return_tokens")?,
            cache_prompt: fields.raw("cache_prompt").is_none() || fields.flag("cache_prompt")?,
            ignore_eos: fields.flag("ignore_eos")?,
            // The real server generates one token when asked for none.
            limit: limit
                .filter(|limit| *limit >= 0)
                .map(|limit| (limit as usize).max(1)),
            stop: fields
                .strings("stop")
                .into_iter()
                .filter(|stop| !stop.is_empty())
                .collect(),
            n: n.unwrap_or(1) as usize,
            logprobs: logprobs(kind, fields)?,
            seed: fields
                .number("seed")?
                .filter(|seed| *seed >= 0.0)
                .map(|seed| seed as u64),
            temperature: fields.number("temperature")?.unwrap_or(0.8).max(0.0),
            ping: fields.number("sse_ping_interval")?.map(|s| {
                if s < 0.0 {
                    Duration::MAX
                } else {
                    Duration::from_secs_f64(s.clamp(0.01, 1e6))
                }
            }),
            script: None,
        })
    }

    fn chat(&mut self, fields: &Fields<'_>, config: &SimConfig) -> Result<(), ApiError> {
        let tools_json = fields.raw("tools").filter(|raw| *raw != "[]");
        if let Some(raw) = tools_json {
            self.tools = tools(raw)?;
        }
        self.tool_choice = tool_choice(fields)?;
        self.format = format(fields)?;
        if !self.tools.is_empty()
            && (fields
                .raw("grammar")
                .is_some_and(|grammar| grammar != "\"\""))
        {
            return Err(ApiError::invalid(
                "Cannot use custom grammar constraints with tools.",
            ));
        }
        if !self.tools.is_empty() && self.stream && self.logprobs.is_some() {
            return Err(ApiError::invalid(
                "logprobs is not supported with tools + stream",
            ));
        }
        self.messages = messages(fields)?;
        let assistants = self
            .messages
            .iter()
            .rev()
            .take_while(|m| m.role == "assistant")
            .count();
        if assistants > 1 {
            return Err(ApiError::invalid(
                "Cannot have 2 or more assistant messages at the end of the list.",
            ));
        }
        if config.strict_system && self.messages.iter().skip(1).any(|m| m.role == "system") {
            return Err(ApiError::known(KnownFailure::TemplateSystem));
        }
        let shown = tools_json.filter(|_| config.tools).map(minify);
        let generate = fields.value("add_generation_prompt") != Some(Value::Bool(false));
        self.prompt = template::render(&self.messages, shown.as_deref(), generate);
        Ok(())
    }
}

fn logprobs(kind: Kind, fields: &Fields<'_>) -> Result<Option<usize>, ApiError> {
    let top = fields.number("top_logprobs")?;
    if kind == Kind::Chat {
        return match (fields.flag("logprobs")?, top) {
            (true, top) => Ok(Some(top.unwrap_or(0.0) as usize)),
            (false, Some(_)) => Err(ApiError::invalid(
                "top_logprobs requires logprobs to be set to true",
            )),
            (false, None) => Ok(None),
        };
    }
    let count = fields.number("logprobs")?.or(fields.number("n_probs")?);
    Ok(count.map(|count| count as usize).filter(|count| *count > 0))
}

fn tool_choice(fields: &Fields<'_>) -> Result<ToolChoice, ApiError> {
    match fields.value("tool_choice") {
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            other => Err(ApiError::invalid(format!("Invalid tool_choice: {other}"))),
        },
        // A named function is not enforced: the real server falls back to "auto".
        _ => Ok(ToolChoice::Auto),
    }
}

fn format(fields: &Fields<'_>) -> Result<Format, ApiError> {
    if let Some(schema) = fields.value("json_schema") {
        return Ok(Format::JsonSchema(schema));
    }
    let Some(wanted) = fields.value("response_format") else {
        return Ok(Format::Text);
    };
    match wanted.get("type").and_then(Value::as_str).unwrap_or("text") {
        "text" => Ok(Format::Text),
        "json_object" => Ok(wanted
            .get("schema")
            .cloned()
            .map_or(Format::JsonObject, Format::JsonSchema)),
        "json_schema" => {
            let schema = wanted.pointer("/json_schema/schema").cloned();
            Ok(schema.map_or(Format::JsonObject, Format::JsonSchema))
        }
        other => Err(ApiError::invalid(format!(
            "response_format type must be one of \"text\" or \"json_object\", but got: {other}"
        ))),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
