//! A client's request that generates.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{AnswerForm, Message};

/// Fields this gateway does not interpret, in the client's order and bytes.
pub type Extra = Vec<(String, Box<RawValue>)>;

/// One client request that generates an answer.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Model name as the client asked for it.
    pub model: String,
    /// The conversation so far, leading instructions included.
    pub messages: Vec<Message>,
    /// Tools on offer, in the client's order; shared, since a client's definitions may take 100 KB.
    pub tools: Arc<[Tool]>,
    /// What the client allows the model to do with them.
    pub tool_choice: ToolChoice,
    /// Whether the client wants the answer as a stream.
    pub stream: bool,
    /// Whether a streaming client asked for a usage report at the end.
    pub include_usage: bool,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Upper bound of generated tokens.
    pub max_tokens: Option<u64>,
    /// How many independent answers are wanted; at least 1.
    pub choices: u32,
    /// What the client says about the request, where its dialect keeps that from the model
    /// (Anthropic's `metadata`). It is never handed on.
    pub metadata: Option<Box<RawValue>>,
    /// Everything else that is safe to hand on (temperature, seed, response_format, …).
    pub extra: Extra,
    /// Names of the tools that may be called, where the client allows fewer than it lists. All of
    /// them go to the backend: another list would cost the prompt's cache.
    pub allowed: Option<Vec<String>>,
    /// What the answer has to look like, where the dialect leaves a choice.
    pub answer: Arc<AnswerForm>,
}

impl Turn {
    /// A *tool turn* offers tools and lets the model call them.
    pub fn is_tool_turn(&self) -> bool {
        !self.tools.is_empty() && self.tool_choice != ToolChoice::None
    }

    /// The tools that may be called.
    pub fn callable_tools(&self) -> Arc<[Tool]> {
        let Some(allowed) = &self.allowed else {
            return Arc::clone(&self.tools);
        };
        let tools = self.tools.iter();
        tools
            .filter(|tool| allowed.contains(&tool.name))
            .cloned()
            .collect()
    }

    /// An uninterpreted field by name.
    pub fn extra(&self, name: &str) -> Option<&RawValue> {
        self.extra
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
    }
}

/// A tool on offer.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Name the model calls it by.
    pub name: String,
    /// JSON Schema of its arguments, where the client gave one.
    pub parameters: Option<Box<RawValue>>,
    /// The whole definition as llama-server takes it.
    pub upstream: Box<RawValue>,
}

/// What the client allows the model to do with the tools.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No call.
    None,
    /// At least one call.
    Required,
    /// A call of this tool.
    Named(String),
}
