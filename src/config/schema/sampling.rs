//! How answers are sampled, and what tools look like upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::pattern::NameGlob;

/// Limits and sampling options of a turn, and the form in which its tools are sent. Everything but
/// the schema clean-up is opt-in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Fewest tokens a tool turn may ask for; a smaller `max_tokens` is raised, unless the model is
    /// kept from thinking on tool turns. Null: never raised.
    pub max_tokens_floor: Option<u64>,
    /// Most tokens any turn may ask for. Null: what the window has room for.
    pub max_tokens_cap: Option<u64>,
    /// Most tokens a tool turn may ask for. Null: as any turn.
    pub tool_turn_max_tokens: Option<u64>,
    /// Highest temperature of a tool turn, set also where the client names none. Null: the client's.
    pub tool_turn_temperature: Option<f64>,
    /// Whether the model is kept from thinking on tool turns
    /// (`chat_template_kwargs.enable_thinking: false`, where its template has the switch).
    pub thinking_off_on_tool_turns: bool,
    /// Whether keywords are left out of the tools' schemas that llama-server's grammar builder refuses
    /// or gets wrong. Calls are checked against the client's own schemas all the same.
    pub schema_cleanup: bool,
    /// Whether a client with many tools has only those sent upstream that fit what the human asked.
    /// The choice is made once a conversation.
    pub narrowing: bool,
    /// Tools kept by `narrowing`, at least 1; tools already called in the conversation come on top.
    pub narrowing_keep: usize,
    /// Fewest tools at which `narrowing` acts.
    pub narrowing_min_tools: usize,
    /// Named sets of sampling options. A request picks one with `x-drover-model-profile`, else its pool
    /// does (`fleet.pools[].model_profile`), else the first whose `models` fit.
    pub profiles: Vec<ModelProfile>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens_floor: None,
            max_tokens_cap: None,
            tool_turn_max_tokens: None,
            tool_turn_temperature: None,
            thinking_off_on_tool_turns: false,
            schema_cleanup: true,
            narrowing: false,
            narrowing_keep: 8,
            narrowing_min_tools: 12,
            profiles: Vec::new(),
        }
    }
}

/// Sampling options of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelProfile {
    /// Name for `x-drover-model-profile` and `fleet.pools[].model_profile`, unique.
    pub name: String,
    /// Model names, exact or globs, that get this profile where nobody names one.
    #[serde(default)]
    pub models: Vec<NameGlob>,
    /// Whether it replaces what the client says too; false only fills in what it leaves out. A
    /// client's `max_tokens` is lowered, never raised.
    #[serde(default)]
    pub overrides: bool,
    /// Sampling temperature.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    #[serde(default)]
    pub top_p: Option<f64>,
    /// Candidates considered, 0 for all.
    #[serde(default)]
    pub top_k: Option<u32>,
    /// Least probability relative to the likeliest token, 0 to 1.
    #[serde(default)]
    pub min_p: Option<f64>,
    /// Penalty on repeated tokens, 1 for none.
    #[serde(default)]
    pub repeat_penalty: Option<f64>,
    /// Penalty on tokens that occurred, 0 for none.
    #[serde(default)]
    pub presence_penalty: Option<f64>,
    /// Penalty on tokens by how often they occurred, 0 for none.
    #[serde(default)]
    pub frequency_penalty: Option<f64>,
    /// Most tokens generated.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// Whether the model thinks (`chat_template_kwargs.enable_thinking`).
    #[serde(default)]
    pub thinking: Option<bool>,
}
