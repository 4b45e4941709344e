//! The older OpenAI paths, relayed: `POST /v1/completions` and `POST /v1/embeddings`.
//!
//! They get the exchange's deadlines, failover and accounting, but no tool guards: nothing in them
//! is a turn of an agent.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::{self, ObjectWriter, field};
use super::llama::{self, Fault, SPEC_N_MAX, Target, stream_fault};
use super::openai::{StreamOptions, join_logprobs};
use crate::turn::{Extra, TurnError, Usage};

/// Which of the paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text completion; always streamed from the backend.
    Completion,
    /// Embeddings; one plain answer.
    Embedding,
}

/// A relayed request.
#[derive(Debug)]
pub struct Relay {
    /// Which path.
    pub kind: Kind,
    /// Model name as the client asked for it.
    pub model: String,
    /// Whether the client wants a stream.
    pub stream: bool,
    /// Whether a streaming client asked for a usage report.
    pub include_usage: bool,
    fields: Extra,
}

impl Relay {
    /// Decode a request body; everything that may be forwarded is kept as it came.
    ///
    /// # Errors
    /// [`TurnError::BadRequest`] when the body is no JSON object, or a field is not what it has to be.
    pub fn decode(kind: Kind, body: &[u8]) -> Result<Self, TurnError> {
        let mut relay = Self {
            kind,
            model: String::new(),
            stream: false,
            include_usage: false,
            fields: Vec::new(),
        };
        for (name, value) in json::body(body)?.0 {
            match name.as_ref() {
                "model" => relay.model = field(&name, value)?,
                "stream" => {
                    let stream: Option<bool> = field(&name, value)?;
                    relay.stream = stream.unwrap_or(false) && kind == Kind::Completion;
                }
                "stream_options" => {
                    relay.include_usage = StreamOptions::include_usage(&name, value)?;
                }
                name => llama::forward(&mut relay.fields, name, value)?,
            }
        }
        Ok(relay)
    }

    /// What is handed on, as it came.
    pub fn fields(&self) -> &Extra {
        &self.fields
    }

    /// Path on the backend.
    pub fn path(&self) -> &'static str {
        match self.kind {
            Kind::Completion => "/v1/completions",
            Kind::Embedding => "/v1/embeddings",
        }
    }

    /// Body for the backend of `target`.
    pub fn body(&self, target: Target<'_>) -> BytesMut {
        let mut out = BytesMut::with_capacity(1024);
        let mut body = ObjectWriter::new(&mut out);
        body.member("model", target.model.unwrap_or(&self.model));
        for (name, value) in &self.fields {
            if !(target.spec_off && name == SPEC_N_MAX) {
                body.raw(name, value);
            }
        }
        if target.spec_off {
            body.member(SPEC_N_MAX, &0);
        }
        if self.kind == Kind::Completion {
            body.member("stream", &true);
            body.key("stream_options")
                .extend_from_slice(br#"{"include_usage":true}"#);
        }
        body.end();
        out
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default)]
    id: String,
    #[serde(default)]
    created: u64,
    #[serde(default)]
    model: String,
    #[serde(default, borrow)]
    choices: Vec<Piece<'a>>,
    usage: Option<WireUsage>,
    #[serde(borrow)]
    timings: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(default)]
    index: usize,
    #[serde(default)]
    text: String,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    finish_reason: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
struct WireUsage {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    total_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Details,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
struct Details {
    #[serde(default)]
    cached_tokens: u64,
}

/// A text completion put together from its stream.
#[derive(Default)]
pub struct Completion {
    id: String,
    created: u64,
    model: String,
    choices: Vec<WholeChoice>,
    usage: Option<WireUsage>,
    timings: Option<Box<RawValue>>,
}

#[derive(Default, Serialize)]
struct WholeChoice {
    text: String,
    index: usize,
    logprobs: Option<Box<RawValue>>,
    finish_reason: Option<String>,
}

/// What a chunk of a text completion was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A piece of the answer.
    Piece,
    /// The usage report, which only some clients asked for.
    Usage,
}

impl Completion {
    /// Take in one event's data.
    ///
    /// # Errors
    /// [`Fault`] for an error event or unreadable data.
    pub fn push(&mut self, data: &[u8]) -> Result<Said, Fault> {
        let chunk: Chunk<'_> = serde_json::from_slice(data)
            .map_err(|_| stream_fault("the backend sent an unreadable event"))?;
        if chunk.error.is_some() {
            return Err(llama::http_fault(500, data, None));
        }
        if self.id.is_empty() {
            (self.id, self.created, self.model) = (chunk.id, chunk.created, chunk.model);
        }
        if let Some(usage) = chunk.usage {
            let sum = self.usage.get_or_insert_default();
            let completion_tokens = sum
                .completion_tokens
                .saturating_add(usage.completion_tokens);
            let total_tokens = usage.prompt_tokens.saturating_add(completion_tokens);
            *sum = WireUsage {
                completion_tokens,
                total_tokens,
                ..usage
            };
        }
        if let Some(timings) = chunk.timings {
            self.timings = Some(timings.to_owned());
        }
        let said = if chunk.choices.is_empty() {
            Said::Usage
        } else {
            Said::Piece
        };
        for piece in chunk.choices {
            self.add(piece)?;
        }
        Ok(said)
    }

    fn add(&mut self, piece: Piece<'_>) -> Result<(), Fault> {
        const MOST: usize = 128;
        if piece.index >= MOST {
            return Err(stream_fault(
                "the backend sent a choice that was not asked for",
            ));
        }
        if self.choices.len() <= piece.index {
            self.choices
                .resize_with(piece.index + 1, WholeChoice::default);
        }
        let choice = &mut self.choices[piece.index];
        choice.index = piece.index;
        choice.text.push_str(&piece.text);
        if let Some(more) = piece.logprobs.filter(|raw| raw.get() != "null") {
            let all = choice.logprobs.as_deref().into_iter().chain([more]);
            choice.logprobs = join_logprobs(all).or_else(|| Some(more.to_owned()));
        }
        if piece.finish_reason.is_some() {
            choice.finish_reason = piece.finish_reason;
        }
        Ok(())
    }

    /// Whether every choice has said why it ended.
    pub fn is_complete(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|c| c.finish_reason.is_some())
    }

    /// Tokens, once reported.
    pub fn usage(&self) -> Option<Usage> {
        self.usage.map(|wire| Usage {
            prompt: wire.prompt_tokens,
            cached: wire.prompt_tokens_details.cached_tokens,
            completion: wire.completion_tokens,
        })
    }

    /// The whole answer as one body.
    pub fn render(&self) -> BytesMut {
        #[derive(Serialize)]
        struct Whole<'a> {
            id: &'a str,
            object: &'static str,
            created: u64,
            model: &'a str,
            choices: &'a [WholeChoice],
            usage: Option<WireUsage>,
            #[serde(skip_serializing_if = "Option::is_none")]
            timings: Option<&'a RawValue>,
        }
        let mut out = BytesMut::with_capacity(512);
        let whole = Whole {
            id: &self.id,
            object: "text_completion",
            created: self.created,
            model: &self.model,
            choices: &self.choices,
            usage: self.usage,
            timings: self.timings.as_deref(),
        };
        json::write(&mut out, &whole);
        out
    }
}

/// Tokens of an embeddings answer.
pub fn embedding_usage(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Whole {
        usage: WireUsage,
    }
    let whole: Whole = serde_json::from_slice(body).ok()?;
    Some(Usage {
        prompt: whole.usage.prompt_tokens,
        ..Usage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_fields_are_left_out_and_the_model_is_renamed() {
        let body = br#"{"model":"m","prompt":"p","id_slot":1,"stream":false,"seed":1}"#;
        let relay = Relay::decode(Kind::Completion, body).unwrap();
        assert_eq!(
            std::str::from_utf8(&relay.body(Target {
                model: Some("real"),
                ..Target::default()
            }))
            .unwrap(),
            r#"{"model":"real","prompt":"p","seed":1,"stream":true,"stream_options":{"include_usage":true}}"#
        );
    }

    #[test]
    fn a_completion_is_put_together() {
        let mut whole = Completion::default();
        let chunk = |text: &str, finish: &str| {
            format!(
                r#"{{"id":"c","created":5,"model":"m","choices":[{{"text":"{text}","index":0,"logprobs":null,"finish_reason":{finish}}}]}}"#
            )
        };
        assert_eq!(whole.push(chunk("a", "null").as_bytes()), Ok(Said::Piece));
        assert!(!whole.is_complete());
        whole.push(chunk("b", "\"length\"").as_bytes()).unwrap();
        assert!(whole.is_complete());
        let usage =
            br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
        assert_eq!(whole.push(usage), Ok(Said::Usage));
        let text = String::from_utf8(whole.render().to_vec()).unwrap();
        assert!(text.contains(r#""text":"ab","index":0,"logprobs":null,"finish_reason":"length""#));
        assert!(text.contains(r#""total_tokens":5"#));
        assert!(whole.push(br#"{"error":{"message":"x"}}"#).is_err());
    }
}
