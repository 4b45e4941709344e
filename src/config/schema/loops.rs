//! What is done about agents that go round in circles, and what a session may spend.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::pattern::NameGlob;
use crate::config::units;

/// Agents that go round in circles (docs/loops.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Loops {
    /// Whether anything is done about them.
    pub enabled: bool,
    /// Repetitions in a row (same call, same result as in one of the last 4 turns) for a hint.
    pub stagnation_threshold: u32,
    /// Repetitions in a row for a summary instead of tool calls.
    pub finalize_threshold: u32,
    /// The same call with the same result more often than this: its tool is withheld.
    pub loop_repeat_threshold: u32,
    /// Hints for a summary instead of tool calls.
    pub review_cycle_limit: u32,
    /// Barren turns in a row (new call, nothing new came of it) that make one exhaustion.
    pub no_progress_threshold: u32,
    /// Exhaustions in a row for a summary instead of tool calls.
    pub unproductive_exhaustion_limit: u32,
    /// Summaries since a human's last new text; then nothing is generated until there is another.
    pub finalize_session_hard_cap: u32,
    /// Tools that may be asked again and again with the same result; names or globs.
    pub polling_tools: Vec<NameGlob>,
    /// Make the model call tools while it works: `off`, `nudge` reminds it, `required` makes
    /// llama-server hold it to a call, which keeps a finished model from saying so.
    pub force_tools: ForceTools,
    /// Forced turns in a row after which unproductive ones are not forced any more.
    pub forced_threshold: u32,
    /// After a summary, append a call that does nothing, so that the agent goes on.
    pub synthetic_continuation: bool,
    /// Turns in a row with unusable tool calls after which the model sees only the first message and
    /// the last ones; 0 never.
    pub contamination_threshold: u32,
    /// The same for turns without the required call.
    pub contamination_required_miss_threshold: u32,
    /// Messages that are kept then, besides the first.
    pub contamination_keep_last: u32,
    /// How often that is done in one conversation; after that a summary is asked for.
    pub contamination_max_resets: u32,
}

impl Default for Loops {
    fn default() -> Self {
        Self {
            enabled: true,
            stagnation_threshold: 4,
            finalize_threshold: 8,
            loop_repeat_threshold: 4,
            review_cycle_limit: 5,
            no_progress_threshold: 3,
            unproductive_exhaustion_limit: 4,
            finalize_session_hard_cap: 6,
            polling_tools: Vec::new(),
            force_tools: ForceTools::Off,
            forced_threshold: 12,
            synthetic_continuation: false,
            contamination_threshold: 3,
            contamination_required_miss_threshold: 2,
            contamination_keep_last: 8,
            contamination_max_resets: 3,
        }
    }
}

impl Loops {
    /// The thresholds of the earlier system, for every key that has been left at its default.
    #[must_use]
    pub fn as_earlier(mut self) -> Self {
        let standard = Self::default();
        let set = |mine: &mut u32, default: u32, earlier: u32| {
            if *mine == default {
                *mine = earlier;
            }
        };
        set(
            &mut self.stagnation_threshold,
            standard.stagnation_threshold,
            8,
        );
        set(
            &mut self.finalize_threshold,
            standard.finalize_threshold,
            18,
        );
        set(
            &mut self.loop_repeat_threshold,
            standard.loop_repeat_threshold,
            6,
        );
        set(&mut self.review_cycle_limit, standard.review_cycle_limit, 3);
        set(
            &mut self.unproductive_exhaustion_limit,
            standard.unproductive_exhaustion_limit,
            2,
        );
        set(
            &mut self.finalize_session_hard_cap,
            standard.finalize_session_hard_cap,
            3,
        );
        set(&mut self.forced_threshold, standard.forced_threshold, 15);
        self
    }
}

/// Whether the model is made to call tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForceTools {
    /// The client's choice stands.
    #[default]
    Off,
    /// A note reminds it.
    Nudge,
    /// A call is required.
    Required,
}

/// What one session may spend until a human says something; null means without bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// Turns answered.
    pub turns: Option<u32>,
    /// Tokens generated.
    pub generated_tokens: Option<u64>,
    /// Time since its first request.
    #[serde(with = "units::optional_duration")]
    #[schemars(schema_with = "units::optional_duration_schema")]
    pub wall: Option<Duration>,
    /// Tokens generated since something new came.
    pub tokens_without_progress: Option<u64>,
}
