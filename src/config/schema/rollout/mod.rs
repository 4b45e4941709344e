//! Rollouts of a speculative profile, a build or a backend.

mod amount;

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::secret::{EnvSecret, Secret};
use crate::config::units;

pub use amount::{Above, Percent, Points, Relative};

/// A rollout: a profile, a build or a backend gets a growing share of the sessions of a pool, and as many
/// go to a control backend; what comes of both is compared after every turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Its name in commands, metrics and events.
    pub name: String,
    /// The pool whose sessions take part.
    pub pool: String,
    /// What the pool runs now, and goes back to: a profile, or `{build: …}`, or `{backend: …}`.
    pub baseline: Subject,
    /// What is tried: a profile, or `{build: …}`, or `{backend: …}`.
    pub candidate: Subject,
    /// The baseline's backend whose sessions are compared with the candidate's. It gets as large a share
    /// of the sessions.
    pub control: String,
    /// Shares of the sessions, one after the other, each larger than the one before; a session stays on its
    /// side. Above 50% what is left is the control's; at 100% the candidate is compared with the control of
    /// the step before.
    #[serde(default = "default_steps")]
    pub steps: Vec<Percent>,
    /// What one step takes.
    #[serde(default)]
    pub step: RolloutStep,
    /// When a step is successful: the candidate is better by this much, for certain.
    #[serde(default)]
    pub promote_when: PromoteWhen,
    /// Differences to the control that are put up with. One that is larger for certain, in any class at any load,
    /// rolls back.
    #[serde(default)]
    pub never_worse: NeverWorse,
    /// What rolls back besides.
    #[serde(default)]
    pub rollback_when: RollbackWhen,
    /// Chance that the rollout of something that is no worse is ever rolled back by a difference, over all its steps,
    /// classes, loads, metrics and looks; and, apart from that, that something no better is ever promoted.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// What becomes of a step that has told nothing when its time is over.
    #[serde(default)]
    pub on_inconclusive: OnInconclusive,
    /// Whether candidate and control run on equal hardware. Unless it is so, or both are presets of one server, or there
    /// is a `crossover`, or `spec.recorded` has both, a difference may be the hardware's: a step is then at most
    /// inconclusive.
    #[serde(default)]
    pub hardware_equal: bool,
    /// Whether the control and one backend of the candidate exchange their profiles half-way of every step, so that
    /// both profiles run on both and the hardware makes no difference: by `hooks.set_profile`, or the step waits
    /// until somebody has done it. Speeds are compared from then on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub crossover: bool,
    /// Commands of the operator.
    #[serde(default)]
    pub hooks: RolloutHooks,
    /// Who is told of every verdict, by a POST of JSON.
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
}

fn default_steps() -> Vec<Percent> {
    [0.05, 0.25, 0.5, 1.0].map(Percent).to_vec()
}

const fn default_alpha() -> f64 {
    0.05
}

/// What runs on a backend, or a backend itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Backends that run this speculative profile.
    Profile(String),
    /// Backends of this llama.cpp build: `b11434`, or with its commit `b11434-5bd8dd5`.
    Build(String),
    /// This backend.
    Backend(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(name) => write!(f, "profile {name}"),
            Self::Build(name) => write!(f, "build {name}"),
            Self::Backend(name) => write!(f, "backend {name}"),
        }
    }
}

/// The long forms of a [`Subject`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    Profile(String),
    Build(String),
    Backend(String),
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.clone() {
            Self::Profile(name) => serializer.serialize_str(&name),
            Self::Build(name) => Named::Build(name).serialize(serializer),
            Self::Backend(name) => Named::Backend(name).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Subject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a profile, {build: …} or {backend: …}")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Subject, E> {
                Ok(Subject::Profile(name.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Subject, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                Ok(match Named::deserialize(map)? {
                    Named::Profile(name) => Subject::Profile(name),
                    Named::Build(name) => Subject::Build(name),
                    Named::Backend(name) => Subject::Backend(name),
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Subject {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Subject".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "object"] })
    }
}

/// What one step of a rollout takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutStep {
    /// Fewest sessions on each side, at most 1000.
    pub min_sessions: u32,
    /// Fewest turns on each side.
    pub min_turns: u64,
    /// Shortest time.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub min_time: Duration,
    /// Longest time; then it is inconclusive.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub max_time: Duration,
}

impl Default for RolloutStep {
    fn default() -> Self {
        Self {
            min_sessions: 20,
            min_turns: 200,
            min_time: Duration::from_secs(10 * 60),
            max_time: Duration::from_secs(24 * 3600),
        }
    }
}

/// When a step is successful.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PromoteWhen {
    /// Decode tokens/s against the control's: `> +5%`. With `> -3%` it need only be hardly slower, for example a
    /// build that is to replace another.
    pub decode_tps: Above,
    /// Whether one class of requests is enough, or all that were seen have to be better.
    pub classes: Classes,
}

impl Default for PromoteWhen {
    fn default() -> Self {
        Self {
            decode_tps: Above(Relative(0.05)),
            classes: Classes::Any,
        }
    }
}

/// How many classes of requests have to be better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Classes {
    /// One.
    #[default]
    Any,
    /// Every one that was seen on both sides.
    All,
}

/// Differences that are put up with. null: any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NeverWorse {
    /// Loss of decode tokens/s: `-3%`.
    pub decode_tps: Option<Relative>,
    /// Longer time to the first token: `+5%`.
    pub ttft: Option<Relative>,
    /// More failed turns, in percentage points: `+0.5pp`.
    pub error_rate: Option<Points>,
    /// More turns with a call that cannot be used.
    pub malformed_rate: Option<Points>,
    /// More turns that loop protection steps into.
    pub loop_rate: Option<Points>,
}

impl Default for NeverWorse {
    fn default() -> Self {
        let points = Some(Points(0.005));
        Self {
            decode_tps: Some(Relative(-0.03)),
            ttft: Some(Relative(0.05)),
            error_rate: points,
            malformed_rate: points,
            loop_rate: points,
        }
    }
}

/// What rolls back besides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackWhen {
    /// Signs of harm (docs/speculative.md).
    pub signatures: Vec<RollbackSignature>,
    /// Rate of failed turns above which the candidate is rolled back whatever the class; or the control's and half a
    /// percentage point, where that is more. null: none.
    pub error_rate: Option<Percent>,
}

impl Default for RollbackWhen {
    fn default() -> Self {
        Self {
            signatures: vec![
                RollbackSignature::AcceptanceCollapse,
                RollbackSignature::GarbledOutput,
            ],
            error_rate: Some(Percent(0.02)),
        }
    }
}

/// Signs of harm that can roll back.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RollbackSignature {
    /// A verified draft of the candidate brings fewer tokens than it did when the rollout began.
    AcceptanceCollapse,
    /// Many more drafted tokens are thrown away than on the control, and few accepted.
    RollbackSpike,
    /// Prompts are read more slowly than on the control.
    PrefillRegression,
    /// Prompts are read anew that should have been in the cache.
    CacheReprefill,
    /// More calls that cannot be used than on the control, with odd acceptance.
    GarbledOutput,
    /// A telling line in the log of a backend of the candidate.
    LogSignature,
    /// A backend of the candidate is configured to speculate, and does not.
    SpecSilentlyOff,
    /// A slot of a backend of the candidate works on and gets nowhere.
    SlotWedged,
}

/// What becomes of a step that has told nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInconclusive {
    /// The shares stay until somebody decides.
    #[default]
    Hold,
    /// The baseline gets all sessions.
    Rollback,
}

/// Commands of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutHooks {
    /// Restarts a drained backend with the candidate's profile, when a step needs more slots than the candidate
    /// has: program and arguments, without a shell. It is told `DROVER_BACKEND`, `DROVER_ADDRESS` and
    /// `DROVER_PROFILE`. The backend gets requests again once its slots and a probe show that it
    /// speculates. Empty: a step waits until there are enough.
    pub set_profile: Vec<String>,
    /// Longest time for the command, and again for the backend to come back.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub timeout: Duration,
}

impl Default for RolloutHooks {
    fn default() -> Self {
        Self {
            set_profile: Vec::new(),
            timeout: Duration::from_secs(5 * 60),
        }
    }
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where to: `http://…` or `https://…`.
    pub url: String,
    /// Environment variable with a bearer token to send.
    #[serde(default)]
    pub token_env: Option<EnvSecret>,
}

impl Webhook {
    /// The bearer token to send, if there is one.
    pub fn token(&self) -> Option<&Secret> {
        self.token_env.as_ref()?.value()
    }
}

#[cfg(test)]
mod tests;
