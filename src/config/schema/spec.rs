//! Speculative decoding: profiles, and which turns get which.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rollout::Rollout;
use crate::config::units;

/// Speculative decoding. A profile is what a backend was started with (`fleet.pools[].backends[].profile`);
/// a turn gets one by being sent to such a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// Named profiles, besides the built-in ones: every speculation type of llama-server is a profile
    /// of its name with the server's own settings.
    pub profiles: BTreeMap<String, SpecProfile>,
    /// Whether turns that offer tools run without speculation: the request says so
    /// (`speculative.n_max: 0`, which builds up to 2025 and some forks honour), and it goes to a backend
    /// that does not speculate, if one has room.
    pub disable_on_tool_turns: bool,
    /// Which turns get which profile, unless `x-drover-spec` says: the first rule that fits counts.
    pub rules: Vec<SpecRule>,
    /// Longest time that reading a prompt anew may take for the sake of `disable_on_tool_turns` or of a
    /// rule; a conversation whose cached prompt would take longer stays where it is. A client that names
    /// a profile itself is not held back by it.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub reprefill_max: Duration,
    /// Prompt tokens a backend reads in a second, where its own speed is not known yet.
    pub reprefill_rate: u32,
    /// Whether a backend that speculates is tried out when it starts and when its build changes: while it is idle it
    /// gets a short prompt twice, once with `speculative.n_max: 0`. Without it the answers of turns tell, later.
    pub probe: bool,
    /// Artifacts of `drover bench spec`, by the name of the backend that they were measured on, one at a time. Rollouts
    /// take from the difference of two backends what they differ by there (both were given the same prompts,
    /// and the baseline's profile is among those measured); a class of requests that a backend has no past in is
    /// compared with what was recorded for its profile.
    pub recorded: BTreeMap<String, PathBuf>,
    /// Rollouts of a profile, a build or a backend (docs/speculative.md). None begins by itself.
    pub rollouts: Vec<Rollout>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            profiles: BTreeMap::new(),
            disable_on_tool_turns: false,
            rules: Vec::new(),
            reprefill_max: Duration::from_secs(10),
            reprefill_rate: 1000,
            probe: false,
            recorded: BTreeMap::new(),
            rollouts: Vec::new(),
        }
    }
}

/// A named profile: how its backends were started. What is left out is llama-server's own setting. Drover
/// never starts a server by it; it is what is compared, reported and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpecProfile {
    /// How drafts are made (`--spec-type`).
    #[serde(rename = "type")]
    pub kind: SpecType,
    /// N-gram types: tokens that have to be the same before a draft (`--spec-ngram-mod-n-match`, or
    /// `--spec-ngram-*-size-n` of the other types).
    #[serde(default)]
    pub n_match: Option<u32>,
    /// Fewest tokens of a draft.
    #[serde(default)]
    pub n_min: Option<u32>,
    /// Most tokens of a draft.
    #[serde(default)]
    pub n_max: Option<u32>,
    /// Draft models: least probability of a token of a draft, from 0 to 1 (`--spec-draft-p-min`).
    #[serde(default)]
    pub p_min: Option<f64>,
    /// Draft models: file of the model (`--spec-draft-model`).
    #[serde(default)]
    pub draft_model: Option<String>,
}

/// How drafts are made: the types of llama-server b11434 (`common/speculative.cpp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpecType {
    /// Not at all.
    None,
    /// By a smaller model.
    DraftSimple,
    /// By an EAGLE-3 head.
    DraftEagle3,
    /// By the model's own multi-token prediction.
    DraftMtp,
    /// By a DFlash head.
    DraftDflash,
    /// By a DSpark head.
    DraftDspark,
    /// By the last place in the context that was the same.
    NgramSimple,
    /// By a map of such places, of one continuation each.
    NgramMapK,
    /// By a map of such places, of four continuations each.
    NgramMapK4v,
    /// By a hash pool that all slots share.
    NgramMod,
    /// By n-gram statistics.
    NgramCache,
}

impl SpecType {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::None,
        Self::DraftSimple,
        Self::DraftEagle3,
        Self::DraftMtp,
        Self::DraftDflash,
        Self::DraftDspark,
        Self::NgramSimple,
        Self::NgramMapK,
        Self::NgramMapK4v,
        Self::NgramMod,
        Self::NgramCache,
    ];

    /// Its name, as `--spec-type` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::DraftSimple => "draft-simple",
            Self::DraftEagle3 => "draft-eagle3",
            Self::DraftMtp => "draft-mtp",
            Self::DraftDflash => "draft-dflash",
            Self::DraftDspark => "draft-dspark",
            Self::NgramSimple => "ngram-simple",
            Self::NgramMapK => "ngram-map-k",
            Self::NgramMapK4v => "ngram-map-k4v",
            Self::NgramMod => "ngram-mod",
            Self::NgramCache => "ngram-cache",
        }
    }

    /// Whether it asks a model for drafts.
    pub const fn has_draft_model(self) -> bool {
        matches!(
            self,
            Self::DraftSimple
                | Self::DraftEagle3
                | Self::DraftMtp
                | Self::DraftDflash
                | Self::DraftDspark
        )
    }
}

/// Which turns get which profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpecRule {
    /// Names of pools; empty: all.
    #[serde(default)]
    pub pools: Vec<String>,
    /// Kinds of requests (docs/speculative.md); empty: all.
    #[serde(default)]
    pub classes: Vec<RequestClass>,
    /// `off`, `auto` (no wish), or the name of a profile.
    pub profile: String,
}

/// What kind of work a request is, told from the request alone.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RequestClass {
    /// An agent at work: the last message brings the result of a tool.
    ToolLoop,
    /// Code is there to be changed, and tools to change it with.
    Edit,
    /// Code is asked for or asked about.
    Code,
    /// A given text is to be given back changed: much of the answer is in the prompt.
    Repetitive,
    /// Text is asked for.
    Prose,
    /// A chain of thought is asked for: a proof, a calculation, a plan.
    Reasoning,
}

impl RequestClass {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ToolLoop,
        Self::Edit,
        Self::Code,
        Self::Repetitive,
        Self::Prose,
        Self::Reasoning,
    ];

    /// Its name in metrics and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ToolLoop => "tool_loop",
            Self::Edit => "edit",
            Self::Code => "code",
            Self::Repetitive => "repetitive",
            Self::Prose => "prose",
            Self::Reasoning => "reasoning",
        }
    }
}

impl Spec {
    /// Whether `name` is a profile: a named one, a built-in one, or several built-in ones together
    /// (`ngram-mod,ngram-cache`), which llama-server tries in turn. Each at most once: what clients name is kept
    /// while their turn lasts.
    pub fn has_profile(&self, name: &str) -> bool {
        let builtin = |name: &str| SpecType::ALL.iter().position(|kind| kind.as_str() == name);
        let mut seen = [false; SpecType::ALL.len()];
        let is_new =
            |name: &str| builtin(name).is_some_and(|at| !std::mem::replace(&mut seen[at], true));
        self.profiles.contains_key(name) || name.split(',').all(is_new)
    }

    /// Names of the configured profiles that draft in every answer.
    pub fn drafting(&self) -> Vec<Box<str>> {
        let names = self.profiles.keys().filter(|name| self.drafts_always(name));
        names.map(|name| name.as_str().into()).collect()
    }

    /// Whether the profile `name` drafts in every answer, because it asks a model for drafts.
    pub fn drafts_always(&self, name: &str) -> bool {
        let builtin = |name: &str| {
            let mut all = SpecType::ALL.iter();
            all.any(|kind| kind.as_str() == name && kind.has_draft_model())
        };
        match self.profiles.get(name) {
            Some(profile) => profile.kind.has_draft_model(),
            None => name.split(',').any(builtin),
        }
    }

    /// Whether some turn may be asked to run without speculation, or by another profile, though its
    /// client has said nothing.
    pub fn asks(&self) -> bool {
        self.disable_on_tool_turns || !self.rules.is_empty()
    }
}
