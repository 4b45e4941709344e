//! Answers as Anthropic's event stream.
//!
//! The order is strict: `message_start`, then blocks one after the other, each opened once and
//! closed once, then `message_delta` and `message_stop`.

use bytes::BytesMut;
use serde::Serialize;

use super::{WireUsage, stop_reason};
use crate::dialect::Meta;
use crate::dialect::sse;
use crate::turn::{Delta, Event, Stop, Usage};

/// Encoder of one streamed answer.
#[derive(Debug)]
pub struct StreamEncoder {
    id: String,
    model: String,
    started: bool,
    /// Index of the block that is open or comes next.
    index: u32,
    open: Option<Kind>,
    calls: usize,
    stop: Option<Stop>,
}

/// What the open block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Tool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Wire<'a> {
    MessageStart {
        message: MessageStart<'a>,
    },
    ContentBlockStart {
        index: u32,
        content_block: Block<'a>,
    },
    ContentBlockDelta {
        index: u32,
        delta: BlockDelta<'a>,
    },
    ContentBlockStop {
        index: u32,
    },
    MessageDelta {
        delta: MessageDelta<'a>,
        usage: WireUsage,
    },
    MessageStop,
    Ping,
}

impl Wire<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
            Self::Ping => "ping",
        }
    }

    fn write(&self, out: &mut BytesMut) {
        sse::write_event(out, self.name(), self);
    }
}

#[derive(Serialize)]
struct MessageStart<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: [(); 0],
    stop_reason: Option<()>,
    stop_sequence: Option<()>,
    usage: WireUsage,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'static str,
    },
    Thinking {
        thinking: &'static str,
        signature: &'static str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Input,
    },
}

/// The `{}` that SDKs expect before the first piece of arguments.
#[derive(Serialize)]
struct Input {}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the names of the protocol")]
enum BlockDelta<'a> {
    TextDelta { text: &'a str },
    ThinkingDelta { thinking: &'a str },
    SignatureDelta { signature: &'static str },
    InputJsonDelta { partial_json: &'a str },
}

#[derive(Serialize)]
struct MessageDelta<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}

impl StreamEncoder {
    /// An encoder for one answer.
    pub fn new(meta: &Meta) -> Self {
        Self {
            id: format!("msg_{}", meta.id),
            model: meta.model.clone(),
            started: false,
            index: 0,
            open: None,
            calls: 0,
            stop: None,
        }
    }

    /// Append what a client should see of `event`; `usage` tells what is known by now.
    pub fn event(&mut self, event: &Event, usage: impl FnOnce() -> Usage, out: &mut BytesMut) {
        match event {
            Event::Delta { delta, .. } => {
                self.start(usage, out);
                self.delta(delta, out);
            }
            Event::Finish { stop, .. } => self.stop = Some(stop.clone()),
        }
    }

    /// A sign of life: the start of the message, once, then `ping`.
    pub fn ping(&mut self, usage: Usage, out: &mut BytesMut) {
        if !self.start(|| usage, out) {
            Wire::Ping.write(out);
        }
    }

    /// End the answer.
    pub fn finish(&mut self, usage: Usage, out: &mut BytesMut) {
        self.start(|| usage, out);
        self.close(out);
        let stop = self.stop.take().unwrap_or(Stop::End);
        let (stop_reason, stop_sequence) = stop_reason(&stop, self.calls);
        let delta = MessageDelta {
            stop_reason,
            stop_sequence,
        };
        Wire::MessageDelta {
            delta,
            usage: usage.into(),
        }
        .write(out);
        Wire::MessageStop.write(out);
    }

    fn start(&mut self, usage: impl FnOnce() -> Usage, out: &mut BytesMut) -> bool {
        if std::mem::replace(&mut self.started, true) {
            return false;
        }
        let message = MessageStart {
            id: &self.id,
            r#type: "message",
            role: "assistant",
            model: &self.model,
            content: [],
            stop_reason: None,
            stop_sequence: None,
            usage: Usage {
                completion: 0,
                ..usage()
            }
            .into(),
        };
        Wire::MessageStart { message }.write(out);
        true
    }

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        match delta {
            Delta::Text(text) if text.is_empty() => {}
            Delta::Text(text) => {
                self.enter(Kind::Text, Block::Text { text: "" }, out);
                self.piece(BlockDelta::TextDelta { text }, out);
            }
            Delta::Thinking(thinking) => {
                let block = Block::Thinking {
                    thinking: "",
                    signature: "",
                };
                self.enter(Kind::Thinking, block, out);
                self.piece(BlockDelta::ThinkingDelta { thinking }, out);
            }
            Delta::ToolOpen { id, name, .. } => {
                self.close(out);
                self.calls += 1;
                self.enter(
                    Kind::Tool,
                    Block::ToolUse {
                        id,
                        name,
                        input: Input {},
                    },
                    out,
                );
            }
            Delta::ToolArguments { fragment, .. } if self.open == Some(Kind::Tool) => {
                self.piece(
                    BlockDelta::InputJsonDelta {
                        partial_json: fragment,
                    },
                    out,
                );
            }
            // The upstream decoder refuses arguments of a call that is not open.
            Delta::ToolArguments { .. } => {}
        }
    }

    /// Make sure that a block of this kind is open.
    fn enter(&mut self, kind: Kind, content_block: Block<'_>, out: &mut BytesMut) {
        if self.open == Some(kind) {
            return;
        }
        self.close(out);
        self.open = Some(kind);
        Wire::ContentBlockStart {
            index: self.index,
            content_block,
        }
        .write(out);
    }

    fn piece(&self, delta: BlockDelta<'_>, out: &mut BytesMut) {
        Wire::ContentBlockDelta {
            index: self.index,
            delta,
        }
        .write(out);
    }

    fn close(&mut self, out: &mut BytesMut) {
        let Some(kind) = self.open.take() else { return };
        if kind == Kind::Thinking {
            self.piece(BlockDelta::SignatureDelta { signature: "" }, out);
        }
        Wire::ContentBlockStop { index: self.index }.write(out);
        self.index += 1;
    }
}
