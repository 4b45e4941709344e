//! Answers in Chat Completions shape, streamed and whole.

use bytes::BytesMut;
use serde::Serialize;
use serde_json::value::RawValue;

use super::shared::join_logprobs;
use crate::dialect::{Meta, json, sse};
use crate::turn::{Answer, Choice, Delta, Event, Stop, ToolCall, Usage};

#[derive(Serialize)]
struct Envelope<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: C,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<WireUsage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: WireDelta<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a RawValue>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct WireDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallDelta<'a>; 1]>,
}

#[derive(Serialize)]
struct CallDelta<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: FunctionDelta<'a>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: Details,
}

#[derive(Serialize)]
struct Details {
    cached_tokens: u64,
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt,
            completion_tokens: usage.completion,
            total_tokens: usage.prompt.saturating_add(usage.completion),
            prompt_tokens_details: Details {
                cached_tokens: usage.cached,
            },
        }
    }
}

/// The id as OpenAI writes it.
fn answer_meta(meta: &Meta) -> Meta {
    Meta {
        id: format!("chatcmpl-{}", meta.id),
        ..meta.clone()
    }
}

/// `tool_calls` exactly when the choice contains a call and ended by itself.
fn finish_reason(stop: &Stop, calls: usize) -> &'static str {
    match stop {
        Stop::Length => "length",
        Stop::End if calls > 0 => "tool_calls",
        Stop::End | Stop::Sequence(_) => "stop",
    }
}

/// Encoder of one streamed answer.
#[derive(Debug)]
pub struct StreamEncoder {
    meta: Meta,
    include_usage: bool,
    choices: Vec<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    opened: bool,
    calls: usize,
    stop: Option<Stop>,
}

impl StreamEncoder {
    /// An encoder for `choices` choices.
    pub fn new(meta: &Meta, choices: u32, include_usage: bool) -> Self {
        let meta = answer_meta(meta);
        Self {
            meta,
            include_usage,
            choices: vec![State::default(); choices.max(1) as usize],
        }
    }

    /// Append what a client should see of `event`. A finish is only remembered: [`Self::finish`]
    /// says it once the whole answer is known to be complete.
    pub fn event(&mut self, event: &Event, out: &mut BytesMut) {
        match event {
            Event::Delta {
                choice,
                delta,
                logprobs,
            } => {
                self.open(*choice, out);
                if let (Delta::ToolOpen { .. }, Some(state)) =
                    (delta, self.choices.get_mut(*choice as usize))
                {
                    state.calls += 1;
                }
                self.delta(*choice, wire_delta(delta), logprobs.as_deref(), None, out);
            }
            Event::Finish { choice, stop } => {
                if let Some(state) = self.choices.get_mut(*choice as usize) {
                    state.stop = Some(stop.clone());
                }
            }
        }
    }

    /// A real event that says nothing: comments do not keep every client alive.
    pub fn ping(&mut self, out: &mut BytesMut) {
        if !self.open(0, out) {
            let delta = WireDelta {
                content: Some(""),
                ..WireDelta::default()
            };
            self.delta(0, delta, None, None, out);
        }
    }

    /// End the answer: every choice's finish reason, the usage if it was asked for, `[DONE]`.
    pub fn finish(&mut self, usage: Usage, timings: Option<&RawValue>, out: &mut BytesMut) {
        for choice in 0..self.choices.len() as u32 {
            self.open(choice, out);
            let state = &self.choices[choice as usize];
            let reason = finish_reason(state.stop.as_ref().unwrap_or(&Stop::End), state.calls);
            let timings = timings.filter(|_| !self.include_usage);
            self.chunk(
                choice,
                WireDelta::default(),
                (None, Some(reason)),
                timings,
                out,
            );
        }
        if self.include_usage {
            let none: [ChunkChoice<'_>; 0] = [];
            let chunk = self.envelope(none, Some(Some(usage.into())), timings);
            sse::write_data(out, &chunk);
        }
        out.extend_from_slice(sse::DONE);
    }

    /// The role comes first and once, even where the backend forgets it (it does when the first
    /// token is an incomplete UTF-8 sequence). Returns whether it was written now.
    fn open(&mut self, choice: u32, out: &mut BytesMut) -> bool {
        let Some(state) = self.choices.get_mut(choice as usize) else {
            return false;
        };
        if std::mem::replace(&mut state.opened, true) {
            return false;
        }
        let delta = WireDelta {
            role: Some("assistant"),
            content: Some(""),
            ..WireDelta::default()
        };
        self.delta(choice, delta, None, None, out);
        true
    }

    fn delta(
        &self,
        choice: u32,
        delta: WireDelta<'_>,
        logprobs: Option<&RawValue>,
        finish: Option<&'static str>,
        out: &mut BytesMut,
    ) {
        self.chunk(choice, delta, (logprobs, finish), None, out);
    }

    fn chunk(
        &self,
        index: u32,
        delta: WireDelta<'_>,
        (logprobs, finish_reason): (Option<&RawValue>, Option<&'static str>),
        timings: Option<&RawValue>,
        out: &mut BytesMut,
    ) {
        let choices = [ChunkChoice {
            index,
            delta,
            logprobs,
            finish_reason,
        }];
        let usage = self.include_usage.then_some(None);
        sse::write_data(out, &self.envelope(choices, usage, timings));
    }

    fn envelope<'a, C>(
        &'a self,
        choices: C,
        usage: Option<Option<WireUsage>>,
        timings: Option<&'a RawValue>,
    ) -> Envelope<'a, C> {
        let Meta { id, created, model } = &self.meta;
        let object = "chat.completion.chunk";
        Envelope {
            id,
            object,
            created: *created,
            model,
            choices,
            usage,
            timings,
        }
    }
}

fn wire_delta(delta: &Delta) -> WireDelta<'_> {
    match delta {
        Delta::Text(text) => WireDelta {
            content: Some(text),
            ..WireDelta::default()
        },
        Delta::Thinking(text) => WireDelta {
            reasoning_content: Some(text),
            ..WireDelta::default()
        },
        Delta::ToolOpen { index, id, name } => {
            call_delta(*index, Some((id.as_str(), name.as_str())), "")
        }
        Delta::ToolArguments { index, fragment } => call_delta(*index, None, fragment),
    }
}

fn call_delta<'a>(
    index: u32,
    opening: Option<(&'a str, &'a str)>,
    arguments: &'a str,
) -> WireDelta<'a> {
    let (id, name) = opening.unzip();
    let function = FunctionDelta { name, arguments };
    let call = CallDelta {
        index,
        id,
        r#type: id.map(|_| "function"),
        function,
    };
    WireDelta {
        tool_calls: Some([call]),
        ..WireDelta::default()
    }
}

#[derive(Serialize)]
struct WholeChoice<'a> {
    index: usize,
    message: WholeMessage<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Box<RawValue>>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct WholeMessage<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WholeCall<'a>>,
}

#[derive(Serialize)]
struct WholeCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: WholeFunction<'a>,
}

#[derive(Serialize)]
struct WholeFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> From<&'a ToolCall> for WholeCall<'a> {
    fn from(call: &'a ToolCall) -> Self {
        let function = WholeFunction {
            name: &call.name,
            arguments: &call.arguments,
        };
        Self {
            id: &call.id,
            r#type: "function",
            function,
        }
    }
}

/// The whole answer as one body.
pub fn render(meta: &Meta, answer: &Answer, usage: Usage, timings: Option<&RawValue>) -> BytesMut {
    let meta = answer_meta(meta);
    let choices: Vec<_> = answer
        .choices
        .iter()
        .enumerate()
        .map(whole_choice)
        .collect();
    let body = Envelope {
        id: &meta.id,
        object: "chat.completion",
        created: meta.created,
        model: &meta.model,
        choices,
        usage: Some(Some(usage.into())),
        timings,
    };
    let mut out = BytesMut::with_capacity(1024);
    json::write(&mut out, &body);
    out
}

fn whole_choice((index, choice): (usize, &Choice)) -> WholeChoice<'_> {
    let silent = choice.text.is_empty() && !choice.calls.is_empty();
    let message = WholeMessage {
        role: "assistant",
        content: (!silent).then_some(choice.text.as_str()),
        reasoning_content: &choice.thinking,
        tool_calls: choice.calls.iter().map(WholeCall::from).collect(),
    };
    let stop = choice.stop.as_ref().unwrap_or(&Stop::End);
    let finish_reason = finish_reason(stop, choice.calls.len());
    WholeChoice {
        index,
        message,
        logprobs: join_logprobs(choice.logprobs.iter().map(|raw| &**raw)),
        finish_reason,
    }
}
