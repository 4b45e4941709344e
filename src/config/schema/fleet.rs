//! The backends and how they are watched.

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::discovery::Discovery;
use super::guard::Preset;
use super::queue::Queue;
use crate::config::{EnvSecret, Secret, units};

/// The backends, grouped in pools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fleet {
    /// Further llama-server paths that are forwarded as they are. Everything not listed here and not
    /// served by the gateway itself is answered 404.
    pub passthrough: Vec<Passthrough>,
    /// The pools. A client's `model` picks one: exact names win over globs, longer globs over shorter
    /// ones, `*` comes last.
    pub pools: Vec<Pool>,
    /// How backends are checked.
    pub health: Health,
    /// What is done about a backend whose slots get nowhere.
    pub watchdog: Watchdog,
    /// How a request finds its backend.
    pub selection: Selection,
    /// Whether another backend goes on with a streamed answer whose backend has failed in the middle: it is given
    /// what the client has as the beginning of its own message. Not once the client has part of a tool call, nor
    /// where the answer has to follow a grammar, nor on a llama-server older than b11434.
    pub resume: bool,
    /// Whether a turn goes to a backend whose slots share one KV cache (`kv: unified`) only while its prompt and the
    /// answer that is to be expected fit beside what running turns hold there. Without it one turn too many fails
    /// all of them.
    pub reserve: bool,
    /// Whether a second backend is asked when the first one stays silent for longer than its prompt takes.
    pub hedge: Hedge,
    /// How often hostnames of backends are resolved again.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub dns_refresh: Duration,
}

impl Default for Fleet {
    /// One pool with one llama-server beside the gateway.
    fn default() -> Self {
        Self {
            passthrough: Vec::new(),
            pools: vec![Pool {
                name: "default".to_owned(),
                models: vec!["*".to_owned()],
                guard: None,
                policy: None,
                model_profile: None,
                queue: Queue::default(),
                backends: vec![Backend::at("http://127.0.0.1:8081")],
                discovery: None,
            }],
            health: Health::default(),
            watchdog: Watchdog::default(),
            selection: Selection::default(),
            resume: true,
            reserve: true,
            hedge: Hedge::default(),
            dns_refresh: Duration::from_secs(30),
        }
    }
}

/// A llama-server path clients may use although the gateway does not understand it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Passthrough {
    /// The path, exact (`/tokenize`) or a glob: `*` stays within one segment, `**` crosses them.
    pub path: String,
    /// Name of the pool that answers it.
    pub pool: String,
}

/// Backends that serve the same model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Name in logs, metrics and `auth.keys[].pools`, unique.
    pub name: String,
    /// Model names clients may ask for, exact or globs (`qwen3-*`). The matched pattern is the model
    /// label of metrics.
    pub models: Vec<String>,
    /// Guard preset of this pool; null: `guard.preset`.
    #[serde(default)]
    pub guard: Option<Preset>,
    /// Policy profile of this pool's turns, besides those of their key and of `x-drover-profile`.
    #[serde(default)]
    pub policy: Option<String>,
    /// Sampling profile of this pool, one of `guard.sampling.profiles`; null: the first that fits the
    /// model.
    #[serde(default)]
    pub model_profile: Option<String>,
    /// Requests that wait for a free slot.
    #[serde(default)]
    pub queue: Queue,
    /// The backends, at least one unless they are discovered.
    #[serde(default)]
    pub backends: Vec<Backend>,
    /// Where further backends are found; null: nowhere.
    #[serde(default)]
    pub discovery: Option<Discovery>,
}

/// One llama-server, or one preset of a llama-server in router mode. Only `url` is required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Name in logs, metrics and response headers, unique in the fleet. Null: `host:port` of the url, or
    /// the file name of the socket.
    #[serde(default)]
    pub name: Option<String>,
    /// `http://host:port`, `https://…`, with a path when llama-server runs with `--api-prefix`; or
    /// `unix:/path` where it runs with `--host /path.sock`, without `--api-prefix`.
    pub url: String,
    /// Model name sent to this backend, for presets in router mode. Null: the client's name is sent.
    #[serde(default)]
    pub model: Option<String>,
    /// Speculative profile this server was started with (`none`, `ngram-mod`, …), shown by
    /// the admin API. Null: unknown.
    #[serde(default)]
    pub profile: Option<String>,
    /// File that the server writes its log to (`--log-file`), where the gateway can read it: lines that tell of
    /// trouble become findings (docs/speculative.md). Null: none.
    #[serde(default)]
    pub log_file: Option<PathBuf>,
    /// Environment variable that holds the server's `--api-key`; null when it has none.
    #[serde(default)]
    pub api_key_env: Option<EnvSecret>,
    /// Parallel sequences of the server (`--parallel`): a number, or `auto` to ask the server.
    #[serde(default)]
    pub slots: SlotCount,
    /// Context window of one slot, in tokens, where the server does not tell or is not to be filled
    /// up. What it says itself never replaces it. Null: as it says in `/props` and `/slots`.
    #[serde(default)]
    pub n_ctx: Option<NonZeroU64>,
    /// Whether slots share one KV cache (`unified`: `--kv-unified`, and every server without `--parallel`) or own a
    /// part each (`split`). llama-server does not tell: `auto` finds out when it overflows for the first time.
    #[serde(default)]
    pub kv: KvLayout,
    /// Tokens of the one KV cache (`--ctx-size`), where that is more than the window of a slot: with
    /// `--kv-unified-per-slot`, or a model that was trained with less. Null: the window of a slot.
    #[serde(default)]
    pub kv_tokens: Option<NonZeroU64>,
    /// Share of the load relative to the other backends of the pool, at least 1.
    #[serde(default = "one")]
    pub weight: NonZeroU32,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

impl Backend {
    /// A backend with nothing but an address.
    pub fn at(url: &str) -> Self {
        Self {
            name: None,
            url: url.to_owned(),
            model: None,
            profile: None,
            log_file: None,
            api_key_env: None,
            slots: SlotCount::Auto,
            n_ctx: None,
            kv: KvLayout::Auto,
            kv_tokens: None,
            weight: one(),
        }
    }

    /// The key the server asks for, if it asks for one.
    pub fn api_key(&self) -> Option<&Secret> {
        self.api_key_env.as_ref()?.value()
    }
}

/// How many slots a backend has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotCount {
    /// `total_slots` of its `/props`.
    #[default]
    Auto,
    /// This many.
    Fixed(NonZeroU32),
}

impl Serialize for SlotCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Fixed(count) => count.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SlotCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = SlotCount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a number of slots, at least 1")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SlotCount, E> {
                match text {
                    "auto" => Ok(SlotCount::Auto),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<SlotCount, E> {
                u32::try_from(count)
                    .ok()
                    .and_then(NonZeroU32::new)
                    .map(SlotCount::Fixed)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(count), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for SlotCount {
    fn schema_name() -> Cow<'static, str> {
        "SlotCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1 }] })
    }
}

/// How the slots of a backend hold their KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KvLayout {
    /// Not known: unified from the first overflow of its cache until the server is started anew.
    #[default]
    Auto,
    /// `--kv-unified`: one cache, shared by all slots.
    Unified,
    /// Each slot has its own part.
    Split,
}

/// When a second backend is asked for an answer of which the first has told nothing (docs/fleet.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hedge {
    /// Most of a pool's turns for which that is done, from 0 to 1. 0: none.
    pub share: f64,
    /// Multiple of the predicted time to the first token after which it is done.
    pub factor: f64,
    /// But not before this time, and not while the backend has told of progress within it.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub after: Duration,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            share: 0.0,
            factor: 3.0,
            after: Duration::from_secs(3),
        }
    }
}

/// How a request finds its backend (docs/fleet.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Shortest stable beginning of a prompt (system text and tools) for which new conversations are
    /// brought together on one backend. Shorter ones go to the least busy backend.
    #[serde(with = "units::size")]
    #[schemars(schema_with = "units::size_schema")]
    pub min_prefix: ByteSize,
    /// How long after its last turn a conversation counts as one that its backend's slots hold. New
    /// conversations avoid backends whose slots are all held.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub warm_for: Duration,
    /// Time in which a backend that was away comes back to its full share of the load, from a tenth of
    /// it; 0s: at once.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub slow_start: Duration,
    /// Requests whose selection `/api/explain/{request_id}` remembers, at least 1. Each takes about
    /// 100 bytes for every backend of its pool.
    pub explain_last: NonZeroUsize,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            min_prefix: ByteSize::kib(2),
            warm_for: Duration::from_secs(600),
            slow_start: Duration::from_secs(10),
            explain_last: NonZeroUsize::MIN.saturating_add(999),
        }
    }
}

/// How backends are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// Time between two checks of a backend.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub interval: Duration,
    /// Longest wait for the answer to a check.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub timeout: Duration,
    /// Failed checks in a row after which a backend is down, at least 1.
    pub unhealthy_after: NonZeroU32,
    /// Good checks in a row after which a backend that was down is used again, at least 1.
    pub healthy_after: NonZeroU32,
    /// Failed requests in a row after which a backend is ejected although its checks are good, at least 1.
    /// At most half of a pool is: where it would be more, all are used.
    pub eject_after: NonZeroU32,
    /// Length of a first ejection; each further one in a row takes twice as long. Up to half of it is taken
    /// off at random. After it a single request tries whether the backend works.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub eject_for: Duration,
    /// Longest ejection.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub eject_for_max: Duration,
    /// Time between two reads of a backend's `/slots`. At least 1500ms: llama-server does not notice
    /// that a client has gone while it is polled faster.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub slots_every: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            unhealthy_after: NonZeroU32::MIN.saturating_add(1),
            healthy_after: NonZeroU32::MIN,
            eject_after: NonZeroU32::MIN.saturating_add(2),
            eject_for: Duration::from_secs(2),
            eject_for_max: Duration::from_secs(60),
            slots_every: Duration::from_secs(2),
        }
    }
}

/// What is done about a backend whose slots work without getting anywhere (docs/fleet.md). It passes its checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Watchdog {
    /// Time without any progress after which a busy slot counts as stuck, and a request that no slot begins
    /// although one is idle. At least as long as the server takes for one batch of a prompt. Then those of our
    /// requests that were silent as long are closed, and go on elsewhere where that is possible.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub stuck_after: Duration,
    /// Time after which a closed request that is still worked on is told.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub orphan_after: Duration,
    /// Time for the closing to help; then the backend gets no new requests: it is `wedged`.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub close_for: Duration,
    /// Time for the requests it still serves; then the hook runs.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub drain_for: Duration,
    /// Command that brings a wedged backend back, such as `["systemctl", "restart", "llama@gpu0"]`: program and
    /// arguments, no shell. It is told `DROVER_BACKEND`, `DROVER_ADDRESS` and `DROVER_FINDING` in its environment, which
    /// has `PATH` besides and nothing else. Empty: none.
    pub hook: Vec<String>,
    /// Longest time the hook may take.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub hook_timeout: Duration,
    /// Time between two runs of the hook for one backend.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub hook_every: Duration,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self {
            stuck_after: Duration::from_secs(120),
            orphan_after: Duration::from_secs(30),
            close_for: Duration::from_secs(10),
            drain_for: Duration::from_secs(60),
            hook: Vec::new(),
            hook_timeout: Duration::from_secs(60),
            hook_every: Duration::from_secs(600),
        }
    }
}
