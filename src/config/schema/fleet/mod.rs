//! The backends and how they are watched.

mod health;
mod selection;
mod slots;

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::discovery::Discovery;
use super::guard::Preset;
use super::queue::Queue;
use crate::config::{EnvSecret, Secret, units};
pub use health::{Health, Watchdog};
pub use selection::{Hedge, Selection};
pub use slots::{KvLayout, SlotCount};

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
