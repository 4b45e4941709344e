//! llama-server's chat completion stream as [`Event`]s.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault::{Fault, WireError, event_fault, stream_fault};
use crate::turn::{Delta, Event, Stop, Timings, Usage};

/// What one `data:` line of the stream says.
#[derive(Debug)]
pub enum Upstream {
    /// More of the answer.
    Event(Event),
    /// The prompt is being processed.
    Progress,
    /// `data: [DONE]`.
    Done,
}

/// Decoder of one attempt's stream.
#[derive(Debug)]
pub struct ChunkDecoder {
    /// Choices that have not finished.
    open: Vec<OpenChoice>,
    usage: Option<Usage>,
    prompt: Option<WireProgress>,
    timings: Option<Box<RawValue>>,
    drafted: Drafted,
    call_ids: CallIds,
    /// Chunks that brought part of an answer.
    pieces: u64,
}

/// Draft tokens so far.
#[derive(Debug, Default)]
struct Drafted {
    count: u64,
    steps: u64,
}

impl Drafted {
    fn note(&mut self, timings: &RawValue) {
        #[derive(Deserialize)]
        struct Count {
            draft_n: Option<u64>,
        }
        let told = serde_json::from_str::<Count>(timings.get()).ok();
        let count = told.and_then(|told| told.draft_n).unwrap_or(0);
        if count > self.count {
            self.count = count;
            self.steps += 1;
        }
    }
}

#[derive(Debug, Default)]
struct OpenChoice {
    calls: u32,
    /// Nothing was said since the last call began: it may still grow.
    calling: bool,
    finished: bool,
}

/// Some templates yield calls without identifiers, which a client could never answer.
#[derive(Debug)]
struct CallIds {
    seed: String,
}

impl CallIds {
    fn or_own(&self, id: String, choice: u32, index: u32) -> String {
        if id.is_empty() {
            format!("call_{}_{choice}_{index}", self.seed)
        } else {
            id
        }
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default)]
    choices: Vec<WireChoice>,
    usage: Option<WireUsage>,
    #[serde(borrow)]
    timings: Option<&'a RawValue>,
    prompt_progress: Option<WireProgress>,
    error: Option<WireError>,
}

/// Sent while the prompt is processed, the first time when it begins.
#[derive(Clone, Copy, Debug, Deserialize)]
struct WireProgress {
    total: u64,
    #[serde(default)]
    cache: u64,
}

#[derive(Deserialize)]
struct WireChoice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: WireDelta,
    finish_reason: Option<String>,
    logprobs: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireDelta {
    content: Option<String>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
}

#[derive(Deserialize)]
struct WireCall {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: WireFunction,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireFunction {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<WireDetails>,
}

#[derive(Deserialize)]
struct WireDetails {
    #[serde(default)]
    cached_tokens: u64,
}

impl ChunkDecoder {
    /// A decoder for an answer of `choices` choices; `seed` makes identifiers where none come.
    pub fn new(choices: u32, seed: &str) -> Self {
        let open = (0..choices.max(1)).map(|_| OpenChoice::default()).collect();
        Self {
            open,
            usage: None,
            prompt: None,
            timings: None,
            drafted: Drafted::default(),
            pieces: 0,
            call_ids: CallIds {
                seed: seed.to_owned(),
            },
        }
    }

    /// Decode one event's data, appending to `out`.
    ///
    /// # Errors
    /// [`Fault`] for an error event, for text that is not the protocol's, and for an impossible
    /// order (arguments of a call that never began, an index out of range).
    pub fn decode(&mut self, data: &[u8], out: &mut Vec<Upstream>) -> Result<(), Fault> {
        if data == b"[DONE]" {
            out.push(Upstream::Done);
            return Ok(());
        }
        let chunk: Chunk<'_> = serde_json::from_slice(data)
            .map_err(|_| stream_fault("the backend sent an unreadable event"))?;
        if let Some(error) = &chunk.error {
            return Err(event_fault(error));
        }
        if let Some(usage) = chunk.usage {
            self.add_usage(&usage);
        }
        if let Some(timings) = chunk.timings {
            self.drafted.note(timings);
            self.timings = Some(timings.to_owned());
        }
        if let Some(progress) = chunk.prompt_progress {
            self.prompt = Some(progress);
            out.push(Upstream::Progress);
        }
        self.pieces += chunk.choices.len() as u64;
        chunk
            .choices
            .into_iter()
            .try_for_each(|choice| self.choice(choice, out))
    }

    /// Whether every choice has finished: a stream that ends before was cut.
    pub fn is_complete(&self) -> bool {
        self.open.iter().all(|choice| choice.finished)
    }

    /// Tokens, as far as the backend has told: its final report, else the timings so far, else
    /// what it said about the prompt when it began and the pieces since.
    pub fn usage(&self) -> Usage {
        let from_timings = || self.timings().map(|timings| timings.usage());
        let from_prompt = || {
            self.prompt.map(|p| Usage {
                prompt: p.total,
                cached: p.cache,
                // Of an answer that broke off: the first piece has only the role.
                completion: self.pieces.saturating_sub(1),
            })
        };
        self.usage
            .or_else(|| from_timings().filter(|usage| usage.prompt > 0))
            .or_else(from_prompt)
            .unwrap_or_default()
    }

    /// Tokens of the prompt, as soon as the backend has told.
    pub fn prompt_tokens(&self) -> Option<u64> {
        self.prompt.map(|prompt| prompt.total)
    }

    /// Pieces of answers so far: about as many as tokens, of which llama-server sends each by itself.
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    /// The newest timings.
    pub fn timings(&self) -> Option<Timings> {
        self.timings
            .as_ref()
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// How often the count of draft tokens has grown: in a stream with timings in every chunk each draft that was
    /// verified is one (tried: equals `drafts_total` of the server's log, b11434).
    pub fn verify_steps(&self) -> u64 {
        self.drafted.steps
    }

    /// The newest timings as llama-server wrote them.
    pub fn raw_timings(&self) -> Option<&RawValue> {
        self.timings.as_deref()
    }

    /// With `n` choices the stream has one usage chunk each: one prompt, several completions.
    fn add_usage(&mut self, wire: &WireUsage) {
        let cached = wire
            .prompt_tokens_details
            .as_ref()
            .map_or(0, |details| details.cached_tokens);
        let sum = self.usage.get_or_insert_default();
        if wire.prompt_tokens >= sum.prompt {
            sum.prompt = wire.prompt_tokens;
            sum.cached = sum.cached.max(cached);
        }
        sum.completion = sum.completion.saturating_add(wire.completion_tokens);
    }

    fn choice(&mut self, wire: WireChoice, out: &mut Vec<Upstream>) -> Result<(), Fault> {
        let choice = wire.index;
        let state = self
            .open
            .get_mut(choice as usize)
            .ok_or_else(|| stream_fault("the backend sent a choice that was not asked for"))?;
        let mut logprobs = wire.logprobs;
        let mut push = |delta| {
            out.push(Upstream::Event(Event::Delta {
                choice,
                delta,
                logprobs: logprobs.take(),
            }));
        };
        if let Some(text) = wire.delta.reasoning_content.filter(|text| !text.is_empty()) {
            state.calling = false;
            push(Delta::Thinking(text));
        }
        if let Some(text) = wire.delta.content.filter(|text| !text.is_empty()) {
            state.calling = false;
            push(Delta::Text(text));
        }
        for call in wire.delta.tool_calls.into_iter().flatten() {
            let index = call.index;
            if let Some(name) = call.function.name.filter(|_| index == state.calls) {
                let id = self
                    .call_ids
                    .or_own(call.id.unwrap_or_default(), choice, index);
                state.calls += 1;
                state.calling = true;
                push(Delta::ToolOpen { index, id, name });
            } else if index.checked_add(1) != Some(state.calls) {
                // Calls come one after the other; a client could not tell when one is whole.
                return Err(stream_fault(
                    "the backend sent arguments of a call that is not open",
                ));
            }
            if let Some(fragment) = call.function.arguments.filter(|text| !text.is_empty()) {
                if !state.calling {
                    return Err(stream_fault(
                        "the backend sent arguments of a call that had ended",
                    ));
                }
                push(Delta::ToolArguments { index, fragment });
            }
        }
        if let Some(reason) = wire.finish_reason {
            state.finished = true;
            let stop = if reason == "length" {
                Stop::Length
            } else {
                Stop::End
            };
            out.push(Upstream::Event(Event::Finish { choice, stop }));
        }
        Ok(())
    }
}
