//! How conversations are kept inside a backend's context window.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::pattern::Pattern;
use crate::config::units;

/// Keeping conversations inside the context window of the slot that serves them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Context {
    /// Whether a conversation that outgrows the window loses its middle: whole groups of messages
    /// after the task, in rare large steps. False leaves it to the client, who is told with a 400
    /// that the prompt is too long.
    pub prune: bool,
    /// Share of the window from which a conversation is pruned, more than 0 and at most 1.
    pub threshold: f64,
    /// Share of the window a pruned conversation is cut down to, less than `threshold`.
    pub target: f64,
    /// Share of the window from which pruning is harder: to four fifths of `target`, and only the
    /// last 4 messages are certain to stay instead of 8. Between `threshold` and 1.
    pub critical: f64,
    /// Longest wait for a backend to count tokens, which it is asked to only near the window; after
    /// that an estimate has to do.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub count_timeout: Duration,
    /// What clients write anew into their system prompt at every turn, which costs the backend its
    /// prefix cache. Opt-in: the model no longer sees it.
    pub volatile: Volatile,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            prune: true,
            threshold: 0.85,
            target: 0.5,
            critical: 0.9,
            count_timeout: Duration::from_secs(2),
            volatile: Volatile::default(),
        }
    }
}

/// Fragments of system prompts that are made the same at every turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Volatile {
    /// Known ones: `billing_header` (the line `x-anthropic-billing-header: …`), `time_of_day` (times
    /// lose their clock and keep their day), `date` (the day after a word like "today"),
    /// `working_directory` (the path after "working directory" and in `<cwd>`).
    pub builtin: Vec<BuiltinFragment>,
    /// Further ones.
    pub patterns: Vec<VolatilePattern>,
}

impl Volatile {
    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.builtin.is_empty() && self.patterns.is_empty()
    }
}

/// A fragment known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuiltinFragment {
    /// Claude Code's line with the hash of the conversation.
    BillingHeader,
    /// The clock in a time stamp; its day stays.
    TimeOfDay,
    /// The day.
    Date,
    /// The directory the agent works in.
    WorkingDirectory,
}

/// A fragment of one's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolatilePattern {
    /// Regular expression (syntax of Rust's `regex` crate) for what changes.
    pub pattern: Pattern,
    /// What stands there instead; `$1` is the first group.
    #[serde(default)]
    pub replacement: String,
}
