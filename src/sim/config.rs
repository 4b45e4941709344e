//! What a simulated server is: its size, speed, model and speculative-decoding profile.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::script::Rule;

/// The settings of one simulated llama-server.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Name of this backend in scripts (`"on"`) and in `/sim/state`.
    pub name: String,
    /// Model alias: `model` of every answer and the id in `/v1/models`.
    pub alias: String,
    /// Speculative decoding.
    pub speculation: Speculation,
    /// Parallel sequences.
    pub total_slots: usize,
    /// Context of one slot, in tokens (with [`Self::kv_unified`] shared by all slots).
    pub n_ctx: usize,
    /// Prompt tokens evaluated in one batch; progress moves by batches.
    pub n_batch: usize,
    /// Prompt tokens per second; 0 = no wait.
    pub prefill_tps: f64,
    /// Decode steps per second of one slot without speculation; 0 = no wait.
    pub decode_tps: f64,
    /// Relative slowdown of a decode step for each other busy slot.
    pub contention: f64,
    /// How long the server answers 503 `Loading model` after its start.
    pub load_time: Duration,
    /// Varies everything that is made up.
    pub seed: u64,
    /// `build_info` and `system_fingerprint`.
    pub build_info: String,
    /// Required key, if any.
    pub api_key: Option<String>,
    /// `--metrics`.
    pub metrics: bool,
    /// `--slots` (the default), `--no-slots` when false.
    pub slots_endpoint: bool,
    /// `--embeddings`.
    pub embeddings: bool,
    /// One KV cache for all slots: its overflow fails every running request.
    pub kv_unified: bool,
    /// Tokens of idle conversations kept aside (`--cache-ram`); 0 = none.
    pub cache_ram_tokens: usize,
    /// The chat template knows tools.
    pub tools: bool,
    /// The chat template refuses system messages after the first message.
    pub strict_system: bool,
    /// Silence after which a stream gets a comment ping (`--sse-ping-interval`).
    pub ping_interval: Duration,
    /// Scripted answers, first match wins.
    pub rules: Vec<Rule>,
    /// Serve `/sim/...` to loopback peers.
    pub control: bool,
    /// Router mode: the models behind its address. Each is like this server, but for what it says itself; loading one
    /// takes [`Self::load_time`].
    pub presets: Vec<ModelPreset>,
    /// Models in memory at a time (`--models-max`); 0 = no limit.
    pub models_max: usize,
    /// A request loads its model (`--models-autoload`, the default).
    pub models_autoload: bool,
}

/// A model of a server in router mode.
#[derive(Clone, Debug)]
pub struct ModelPreset {
    /// The name requests use.
    pub name: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// Speculative decoding.
    pub speculation: Speculation,
    /// It cannot be loaded.
    pub broken: bool,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            name: "sim".into(),
            alias: "sim-model".into(),
            speculation: Speculation::none(),
            total_slots: 4,
            n_ctx: 32_768,
            n_batch: 2048,
            prefill_tps: 0.0,
            decode_tps: 0.0,
            contention: 0.0,
            load_time: Duration::ZERO,
            seed: 1,
            build_info: "b11434-sim".into(),
            api_key: None,
            metrics: true,
            slots_endpoint: true,
            embeddings: false,
            kv_unified: false,
            cache_ram_tokens: 0,
            tools: true,
            strict_system: false,
            ping_interval: Duration::from_secs(30),
            rules: Vec::new(),
            control: true,
            presets: Vec::new(),
            models_max: 4,
            models_autoload: true,
        }
    }
}

/// A speculative-decoding profile and how well it works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speculation {
    /// The value of `--spec-type`: one of [`SPEC_TYPES`], or several joined by commas.
    pub types: String,
    /// Tokens of a full draft.
    pub n_max: u32,
    /// On ordinary text.
    pub plain: Acceptance,
    /// When the user asks to repeat or transform given text.
    pub repetitive: Acceptance,
    /// Extra time of a verification step for each drafted token, relative to a plain step.
    pub verify_cost: f64,
}

/// How often a decode step drafts, and how long drafts hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Probability that a decode step verifies a draft.
    pub draft_rate: f64,
    /// Probability that a drafted token is accepted when all before it were.
    pub accept_rate: f64,
}

/// The speculative-decoding types of llama-server b11434 (`common/speculative.cpp`).
pub const SPEC_TYPES: [&str; 11] = [
    "none",
    "draft-simple",
    "draft-eagle3",
    "draft-mtp",
    "draft-dflash",
    "draft-dspark",
    "ngram-simple",
    "ngram-map-k",
    "ngram-map-k4v",
    "ngram-mod",
    "ngram-cache",
];

impl Speculation {
    /// No speculation.
    #[must_use]
    pub fn none() -> Self {
        Self::with("none", 0, (0.0, 0.0), (0.0, 0.0), 0.0)
    }

    /// True when at least one type drafts; `none` anywhere in the list turns all of it off.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.types.split(',').any(|name| name.trim() == "none") && self.n_max > 0
    }

    fn with(types: &str, n_max: u32, plain: (f64, f64), repetitive: (f64, f64), cost: f64) -> Self {
        let acceptance = |(draft_rate, accept_rate)| Acceptance {
            draft_rate,
            accept_rate,
        };
        Self {
            types: types.into(),
            n_max,
            plain: acceptance(plain),
            repetitive: acceptance(repetitive),
            verify_cost: cost,
        }
    }
}

impl FromStr for Speculation {
    type Err = String;

    /// A profile by type, with draft sizes of b11434 and acceptance like that measured on it:
    /// n-gram types draft rarely on prose and well on repetitive text, draft models always.
    fn from_str(types: &str) -> Result<Self, String> {
        let names: Vec<&str> = types.split(',').map(str::trim).collect();
        if let Some(unknown) = names.iter().find(|name| !SPEC_TYPES.contains(name)) {
            return Err(format!(
                "unknown speculative type: {unknown} (one of {}, or several joined by commas)",
                SPEC_TYPES.join(", ")
            ));
        }
        if names.contains(&"none") {
            return Ok(Self {
                types: types.into(),
                ..Self::none()
            });
        }
        Ok(match names[0] {
            "ngram-simple" => Self::with(types, 48, (0.005, 0.6), (0.07, 0.975), 0.01),
            "ngram-map-k" => Self::with(types, 48, (0.004, 0.6), (0.06, 0.985), 0.01),
            "ngram-map-k4v" => Self::with(types, 8, (0.004, 0.6), (0.25, 0.99), 0.01),
            "ngram-mod" => Self::with(types, 64, (0.01, 0.7), (0.08, 0.98), 0.008),
            "ngram-cache" => Self::with(types, 8, (0.02, 0.4), (0.15, 0.9), 0.01),
            "draft-mtp" | "draft-eagle3" => Self::with(types, 3, (1.0, 0.72), (1.0, 0.85), 0.06),
            _ => Self::with(types, 3, (1.0, 0.6), (1.0, 0.8), 0.1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_by_name() {
        for name in SPEC_TYPES {
            let profile: Speculation = name.parse().unwrap();
            assert_eq!(profile.types, name);
            assert_eq!(profile.is_active(), name != "none", "{name}");
        }
        assert!(
            "ngram-mod,ngram-cache"
                .parse::<Speculation>()
                .unwrap()
                .is_active()
        );
        assert!(!"ngram-mod,none".parse::<Speculation>().unwrap().is_active());
        assert!(
            "draft"
                .parse::<Speculation>()
                .unwrap_err()
                .contains("unknown speculative type: draft")
        );
    }
}
