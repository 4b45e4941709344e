//! How a client wants its answer, in dialects that leave a choice.

use std::collections::HashMap;

use super::Extra;

/// What an answer has to know about its request. Empty for dialects whose answers always look alike.
#[derive(Clone, Debug, Default)]
pub struct AnswerForm {
    /// Settings of the request that the answer repeats, as its own members.
    pub settings: Extra,
    /// The same, where it may be long: instructions and tools.
    pub offer: Extra,
    /// Tools the client knows in another form, by the name the model calls them by.
    pub tools: HashMap<String, ToolForm>,
    /// Tell reasoning as a summary: some clients show no other.
    pub summary: bool,
    /// Put reasoning where the client keeps it to send it back.
    pub sealed_reasoning: bool,
}

/// A tool as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolForm {
    /// What a call of it is.
    pub kind: ToolKind,
    /// The group it is in.
    pub namespace: Option<String>,
    /// Its name there.
    pub name: String,
}

/// Kinds of tools a client carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolKind {
    /// Takes a JSON object.
    Function,
    /// Takes one text of any form.
    Custom,
    /// OpenAI's `local_shell`: takes a command.
    LocalShell,
}
