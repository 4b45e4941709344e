//! The artifact of a benchmark: its form, and the schema that is published under `bench/schema/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{RequestClass, SpecProfile};

/// The version of the form. Fields are only ever added within one.
pub const VERSION: u32 = 1;

/// Identifier of the schema.
pub const SCHEMA_ID: &str = "urn:drover:bench:spec:1";

/// One run of `drover bench spec`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("$id" = SCHEMA_ID))]
pub struct Artifact {
    /// Version of this form.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Name of this artifact: a UUID (version 7, RFC 9562).
    pub id: String,
    /// When it was begun: RFC 3339, UTC.
    pub started: String,
    /// Seconds it took.
    pub took_s: f64,
    /// Where it comes from.
    pub lineage: Lineage,
    /// How it was measured.
    pub protocol: Protocol,
    /// What was measured, in the order of the command line; the first is what the others are compared with.
    pub contestants: Vec<ContestantResult>,
}

/// What would have to be the same for another run to come to the same.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Lineage {
    /// Version of Drover that measured and, unless another gateway was given, served.
    pub drover: String,
    /// `embedded` (started for the benchmark), or the address of the gateway that was given.
    pub gateway: String,
    /// The machine of the benchmark, and of the servers where it started them.
    pub hardware: Hardware,
    /// The artifact this one continues, such as last night's.
    pub parent: Option<Parent>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hardware {
    /// Model of the processor.
    pub cpu: Option<String>,
    /// Hardware threads that may be used.
    pub threads: usize,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Graphics processors with memory and driver, as `nvidia-smi` tells them.
    pub gpus: Vec<String>,
    /// Operating system and architecture.
    pub os: String,
    /// Version of its kernel.
    pub kernel: Option<String>,
    /// Load average of a minute when the benchmark began: what else the machine was doing.
    pub load_1m: Option<f64>,
}

impl Hardware {
    /// Whether speeds of both can be compared; the load does not matter for that.
    pub fn is_like(&self, other: &Self) -> bool {
        let of = |h: &Self| (h.cpu.clone(), h.threads, h.gpus.clone(), h.os.clone());
        of(self) == of(other)
    }
}

/// An earlier artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Parent {
    /// Its `id`.
    pub id: String,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
}

/// How the turns were made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Protocol {
    /// Measured turns of each contestant and workload.
    pub runs: u32,
    /// Turns of each contestant and workload before, which are not measured.
    pub warmup: u32,
    /// Most tokens of an answer.
    pub max_tokens: u32,
    /// Sampling temperature.
    pub temperature: f64,
    /// Seed of the server's sampler and of the order.
    pub seed: u64,
    /// In which order the turns came: `interleaved`, each prompt goes to every contestant before the next one
    /// does, and who begins changes.
    pub order: String,
    /// SHA-256 of all prompts: equal ones were measured with the same texts.
    pub prompts_sha256: String,
}

/// The kinds of prompts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// An agent at work on code, with tools.
    Tool,
    /// A given text is to be given back changed.
    Repetitive,
    /// Code and prose in turns.
    Mixed,
    /// Text that has no model in the prompt.
    Prose,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tool, Self::Repetitive, Self::Mixed, Self::Prose];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Repetitive => "repetitive",
            Self::Mixed => "mixed",
            Self::Prose => "prose",
        }
    }
}

/// One contestant.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ContestantResult {
    /// Its name: of a profile.
    pub name: String,
    /// Its settings; null where a given server runs it, which does not tell them.
    pub profile: Option<SpecProfile>,
    /// Arguments the server was started with, without the address and without paths; empty for a given one.
    pub flags: Vec<String>,
    /// Build of llama.cpp with its commit, as the server reports it.
    pub build: Option<String>,
    /// The model.
    pub model: Option<Model>,
    /// The draft model, where there is one.
    pub draft_model: Option<Model>,
    /// Whether the slots of the server speculate; null where it does not say.
    pub speculates: Option<bool>,
    /// The gateway's count beside the server's own, over everything that was asked, warm-up included.
    pub totals: Totals,
    /// What came of it, by workload.
    pub cells: Vec<Cell>,
}

/// A model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    /// Name of the file.
    pub file: String,
    /// SHA-256 of the file, in hexadecimal; null where the file cannot be read here.
    pub sha256: Option<String>,
    /// Its size in bytes.
    pub bytes: Option<u64>,
}

/// Draft tokens and verified drafts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// Draft tokens proposed.
    pub drafted: u64,
    /// Draft tokens accepted.
    pub accepted: u64,
    /// Drafts verified.
    pub verify_steps: u64,
}

/// What two parties have counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// `drover_spec_*` of the gateway.
    pub gateway: Counters,
    /// `llamacpp:spec_decode_*` of the server; null where it has no `/metrics`.
    pub server: Option<Counters>,
    /// Whether they agree; null where the server does not say. Other traffic on given servers makes them differ.
    pub equal: Option<bool>,
}

/// One contestant on one workload.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// Which workload.
    pub workload: Workload,
    /// What its turns add up to.
    pub summary: Summary,
    /// Every measured turn, in the order of the prompts.
    pub turns: Vec<TurnResult>,
}

/// How an answer ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// By itself.
    End,
    /// At the token limit.
    Length,
    /// At a stop sequence.
    StopSequence,
    /// With a tool call.
    ToolCalls,
    /// It did not: the turn failed.
    Failed,
}

/// One measured turn.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TurnResult {
    /// Which prompt of its workload: the same number is the same text for every contestant.
    pub prompt: u32,
    /// Class the gateway counts it in; null where it failed.
    pub class: Option<RequestClass>,
    /// Milliseconds from the request to the end of the answer, as the client saw it.
    pub latency_ms: f64,
    /// Milliseconds to the first text, reasoning or call, as the client saw it; null where there was none.
    pub ttft_ms: Option<f64>,
    /// Prompt tokens evaluated.
    pub prompt_tokens: u64,
    /// Milliseconds the server took for them.
    pub prompt_ms: f64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Milliseconds the server took for them.
    pub generated_ms: f64,
    /// Draft tokens and verified drafts.
    pub drafts: Counters,
    /// How it ended.
    pub stop: StopReason,
    /// Whether it had a tool call that cannot be used, or remains of one.
    pub malformed: bool,
}

/// A distribution. Quantiles are interpolated (type 8 of Hyndman and Fan, 1996).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// A twentieth is below.
    pub p5: f64,
    /// The median.
    pub p50: f64,
    /// A twentieth is above.
    pub p95: f64,
}

/// What the turns of a cell add up to. Quantities that no turn has are null.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// How many.
    pub turns: u64,
    /// Milliseconds to the end.
    pub latency_ms: Option<Percentiles>,
    /// Milliseconds to the first content.
    pub ttft_ms: Option<Percentiles>,
    /// Generated tokens a second, of turns with 16 or more.
    pub decode_tps: Option<Percentiles>,
    /// Evaluated prompt tokens a second, of turns with 16 or more.
    pub prefill_tps: Option<Percentiles>,
    /// Draft tokens and verified drafts, all together.
    pub drafts: Counters,
    /// Part of the drafted tokens that was accepted.
    pub acceptance: Option<f64>,
    /// Tokens a verified draft brings: accepted / verified + 1.
    pub accept_length: Option<f64>,
    /// Draft tokens that were thrown away.
    pub rolled_back: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Part of the answers with a tool call that cannot be used.
    pub malformed_rate: Option<f64>,
    /// How answers ended.
    pub stops: BTreeMap<StopReason, u64>,
    /// Classes the gateway counted them in.
    pub classes: BTreeMap<RequestClass, u64>,
}

/// Why a file is no artifact that can be used.
#[derive(Debug, Error)]
#[error("{}: {why}", path.display())]
pub struct Unusable {
    /// Which.
    pub path: PathBuf,
    /// In words for people.
    pub why: String,
}

/// The schema of [`Artifact`], as published.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Artifact).to_value()
}

impl Artifact {
    /// Reads one.
    ///
    /// # Errors
    /// The file cannot be read, is no artifact, or of another version.
    pub fn read(path: &Path) -> Result<Self, Unusable> {
        let unusable = |why: String| Unusable {
            path: path.to_owned(),
            why,
        };
        let text = fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => {
                return Err(unusable(format!(
                    "an artifact of version {version}; this drover reads version {VERSION}"
                )));
            }
            None => return Err(unusable("no artifact of `drover bench spec`".to_owned())),
        }
        serde_json::from_value(value).map_err(|error| unusable(error.to_string()))
    }

    /// Writes it, in one step.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let part = path.with_extension("part");
        fs::write(&part, text)?;
        fs::rename(part, path)
    }

    /// The contestant called so.
    pub fn contestant(&self, name: &str) -> Option<&ContestantResult> {
        self.contestants.iter().find(|c| c.name == name)
    }
}

impl ContestantResult {
    /// What came of a workload.
    pub fn cell(&self, workload: Workload) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.workload == workload)
    }
}

#[cfg(test)]
#[path = "artifact_tests.rs"]
mod tests;
