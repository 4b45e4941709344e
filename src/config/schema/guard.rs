//! What the guards may do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::context::Context;
use super::sampling::Sampling;
use super::{Budgets, Loops};

/// Guards of a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Guard {
    /// How much the guards do, where no pool, key or header says otherwise.
    pub preset: Preset,
    /// Whether the session view of the admin API shows the beginning (240 bytes) of what a guard
    /// changed; false keeps lengths only.
    pub excerpts: bool,
    /// Whether an answer that repeats itself without end is cut and asked for once more.
    pub repetition: bool,
    /// Whether a model that announces an action and takes none is asked once to take it.
    pub nudge: bool,
    /// Tool calls that arrive malformed.
    pub tool_calls: ToolCalls,
    /// Conversations that outgrow the context window.
    pub context: Context,
    /// Token limits, sampling, and what tools look like upstream.
    pub sampling: Sampling,
    /// Agents that go round in circles.
    pub loops: Loops,
    /// What one session may spend until a human says something.
    pub budgets: Budgets,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            preset: Preset::default(),
            excerpts: true,
            repetition: true,
            nudge: true,
            tool_calls: ToolCalls::default(),
            context: Context::default(),
            sampling: Sampling::default(),
            loops: Loops::default(),
            budgets: Budgets::default(),
        }
    }
}

/// How much the guards do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Nothing: answers are relayed as they come.
    Off,
    /// Decide and record everything, change nothing.
    Observe,
    /// Repair, re-ask and cut while the answer streams.
    #[default]
    Standard,
    /// As `standard`, with the whole answer held until it is known to be good.
    Strict,
    /// As `standard`, with the thresholds of the earlier system.
    UapLegacy,
}

impl Preset {
    /// Whether guards may change what a turn asks and gets.
    pub fn acts(self) -> bool {
        match self {
            Self::Off | Self::Observe => false,
            Self::Standard | Self::Strict | Self::UapLegacy => true,
        }
    }
}

/// Tool calls that arrive malformed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ToolCalls {
    /// How often a turn asks the backend again for a call that cannot be repaired; 0 never. The three
    /// keys are also known by their earlier names, `malformed_tool_retry_max` and so on.
    #[serde(alias = "malformed_tool_retry_max")]
    pub retry_max: u32,
    /// Most tokens such a further attempt may generate; null leaves the client's limit.
    #[serde(alias = "malformed_tool_retry_max_tokens")]
    pub retry_max_tokens: Option<u64>,
    /// Sampling temperature of such an attempt; null leaves the client's.
    #[serde(alias = "malformed_tool_retry_temperature")]
    pub retry_temperature: Option<f64>,
    /// Whether a large text in a call (the content of a file to write) goes to a client that streams
    /// as it is generated, once the rest of the call is known to be good. It cannot be taken back: if
    /// the call then breaks off, the client's stream ends with an error instead of a further attempt.
    pub early_release: bool,
}

impl Default for ToolCalls {
    fn default() -> Self {
        Self {
            retry_max: 2,
            retry_max_tokens: None,
            retry_temperature: Some(0.2),
            early_release: false,
        }
    }
}
