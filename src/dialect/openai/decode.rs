//! `POST /v1/chat/completions` as a [`Turn`].

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::shared::StreamOptions;
use super::{messages, tools};
use crate::dialect::json::{self, field, given};
use crate::dialect::llama;
use crate::dialect::stop::StopSequences;
use crate::turn::{Extra, Turn, TurnError};

/// Most choices one request may ask for; llama-server's own bound is its slot count.
const MAX_CHOICES: u32 = 128;

/// Decode a request body.
///
/// # Errors
/// [`TurnError::BadRequest`] naming the field. Fields that are not known here are never an error:
/// agents send many, and a 400 makes some of them retry with larger requests.
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
    messages: Option<&'a RawValue>,
    tools: Option<&'a RawValue>,
    tool_choice: Option<&'a RawValue>,
    stream: bool,
    include_usage: bool,
    stop: Vec<String>,
    max_tokens: Limit,
    choices: Option<u32>,
    extra: Extra,
}

/// The token limit under its names; the newest name wins.
#[derive(Default)]
struct Limit {
    max_completion_tokens: Option<f64>,
    max_tokens: Option<f64>,
    n_predict: Option<f64>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: Cow<'a, str>, value: &'a RawValue) -> Result<(), TurnError> {
        match name.as_ref() {
            "model" => self.model = field(&name, value)?,
            "messages" => self.messages = Some(value),
            "tools" => self.tools = given(value),
            "tool_choice" => self.tool_choice = given(value),
            "stream" => self.stream = field::<Option<bool>>(&name, value)?.unwrap_or(false),
            "stream_options" => {
                self.include_usage = StreamOptions::include_usage(&name, value)?;
            }
            "stop" => self.stop = field::<StopSequences>(&name, value)?.0,
            "max_completion_tokens" => self.max_tokens.max_completion_tokens = field(&name, value)?,
            "max_tokens" => self.max_tokens.max_tokens = field(&name, value)?,
            "n_predict" => self.max_tokens.n_predict = field(&name, value)?,
            "n" => self.choices = field(&name, value)?,
            name => llama::forward(&mut self.extra, name, value)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<Turn, TurnError> {
        let messages = self
            .messages
            .ok_or_else(|| TurnError::bad_field("messages", "`messages` is required"))?;
        let messages = messages::decode(messages)?;
        let tools = self
            .tools
            .map(tools::decode)
            .transpose()?
            .unwrap_or_default();
        let tool_choice = self
            .tool_choice
            .map(|choice| tools::decode_choice(choice, &tools))
            .transpose()?
            .unwrap_or_default();
        let choices = self.choices.unwrap_or(1);
        if !(1..=MAX_CHOICES).contains(&choices) {
            return Err(TurnError::bad_field(
                "n",
                format!("`n` must be 1 to {MAX_CHOICES}"),
            ));
        }
        Ok(Turn {
            model: self.model.unwrap_or_default(),
            messages,
            tools: tools.into(),
            tool_choice,
            stream: self.stream,
            include_usage: self.include_usage,
            stop: self.stop,
            max_tokens: self.max_tokens.resolve()?,
            choices,
            metadata: None,
            extra: self.extra,
            allowed: None,
            answer: Arc::default(),
        })
    }
}

impl Limit {
    /// Negative means no limit, as in llama.cpp.
    fn resolve(&self) -> Result<Option<u64>, TurnError> {
        let (name, limit) = match (self.max_completion_tokens, self.max_tokens, self.n_predict) {
            (Some(limit), _, _) => ("max_completion_tokens", limit),
            (None, Some(limit), _) => ("max_tokens", limit),
            (None, None, Some(limit)) => ("n_predict", limit),
            (None, None, None) => return Ok(None),
        };
        if limit < 0.0 {
            return Ok(None);
        }
        if limit < 1.0 {
            return Err(TurnError::bad_field(
                name,
                format!("`{name}` must be at least 1"),
            ));
        }
        Ok(Some(limit as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::ToolChoice;

    fn bad(body: &str) -> (String, Option<String>) {
        match decode(body.as_bytes()) {
            Err(TurnError::BadRequest { message, param }) => (message, param),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn known_fields_are_typed_and_the_rest_is_kept_in_order() {
        let turn = decode(
            br#"{"temperature":0.70,"model":"m","messages":[{"role":"user","content":"hi"}],
                "stream":true,"stream_options":{"include_usage":true,"x":1},"stop":["a",""],
                "max_tokens":5,"max_completion_tokens":128000,"n":2,"future":{"b":1,"a":[2]},
                "id_slot":3,"speculative.n_max":9,"tools":null,"tool_choice":null,"user":"u"}"#,
        )
        .unwrap();
        assert_eq!(
            (turn.model.as_str(), turn.stream, turn.include_usage),
            ("m", true, true)
        );
        assert_eq!((turn.max_tokens, turn.choices), (Some(128_000), 2));
        assert_eq!(turn.stop, ["a"]);
        let extra: Vec<_> = turn
            .extra
            .iter()
            .map(|(k, v)| (k.as_str(), v.get()))
            .collect();
        let expected = [
            ("temperature", "0.70"),
            ("future", r#"{"b":1,"a":[2]}"#),
            ("user", "\"u\""),
        ];
        assert_eq!(extra, expected);
        assert_eq!(turn.tool_choice, ToolChoice::Auto);
    }

    #[test]
    fn errors_name_their_field() {
        assert_eq!(bad("{}").1.as_deref(), Some("messages"));
        assert_eq!(
            bad(r#"{"messages":[],"stream":"yes"}"#).1.as_deref(),
            Some("stream")
        );
        assert_eq!(
            bad(r#"{"messages":[{"role":"user","content":"a"}],"n":0}"#)
                .1
                .as_deref(),
            Some("n")
        );
        assert_eq!(
            bad(r#"{"messages":[{"role":"user","content":"a"}],"max_tokens":0}"#)
                .1
                .as_deref(),
            Some("max_tokens")
        );
        assert!(bad("[1]").0.contains("no JSON object"));
        assert!(bad("").0.contains("no JSON object"));
        assert!(
            bad(&format!(r#"{{"messages":{}}}"#, "[".repeat(5000)))
                .0
                .contains("deeply")
        );
    }

    #[test]
    fn a_negative_limit_is_none() {
        let turn = decode(br#"{"messages":[{"role":"user","content":"a"}],"max_tokens":-1}"#);
        assert_eq!(turn.unwrap().max_tokens, None);
    }
}
