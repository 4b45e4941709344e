//! Where a pool's backends are found, besides those that are listed.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fleet::{Backend, KvLayout, SlotCount};
use crate::config::{EnvSecret, NameGlob, units};

/// One source of backends: exactly one of `file`, `dns`, `srv`, `kubernetes` and `router` (docs/backends.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Discovery {
    /// A file that lists them.
    pub file: Option<FileSource>,
    /// Every address of a hostname.
    pub dns: Option<DnsSource>,
    /// Every target of a SRV record.
    pub srv: Option<SrvSource>,
    /// Every pod behind a Kubernetes service.
    pub kubernetes: Option<KubernetesSource>,
    /// Every model of a llama-server in router mode.
    pub router: Option<RouterSource>,
    /// What all of them are like, but for those of a file, which says it itself.
    pub backend: Template,
}

/// A YAML or JSON file: a list, each item as in `fleet.pools[].backends`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// The file. It is read again when it is another one and stays the same for two looks.
    pub path: PathBuf,
    /// Time between two looks.
    #[serde(with = "units::duration", default = "file_every")]
    #[schemars(schema_with = "units::duration_schema")]
    pub every: Duration,
}

fn file_every() -> Duration {
    Duration::from_secs(2)
}

/// The A and AAAA records of a name: one backend for each address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsSource {
    /// The hostname. One that ends in a dot is not looked for in the search domains.
    pub name: String,
    /// Port of all of them.
    pub port: NonZeroU16,
    /// Address of the DNS server, with port; null: those of the system.
    #[serde(default)]
    pub server: Option<SocketAddr>,
    /// Longest time until the name is looked up again; sooner when the answer is good for less, but not
    /// within a second.
    #[serde(with = "units::duration", default = "refresh")]
    #[schemars(schema_with = "units::duration_schema")]
    pub refresh: Duration,
}

/// The SRV records of a name: one backend for each target of the best priority, with its port and weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SrvSource {
    /// The name, such as `_llama._tcp.example.com.`.
    pub name: String,
    /// Address of the DNS server, with port; null: those of the system.
    #[serde(default)]
    pub server: Option<SocketAddr>,
    /// Longest time until the name is looked up again; sooner when the answer is good for less, but not
    /// within a second.
    #[serde(with = "units::duration", default = "refresh")]
    #[schemars(schema_with = "units::duration_schema")]
    pub refresh: Duration,
}

fn refresh() -> Duration {
    Duration::from_secs(30)
}

/// The EndpointSlices of a service, listed and watched. In a pod only `service` is needed, and a role that may
/// `list` and `watch` `endpointslices` of `discovery.k8s.io`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSource {
    /// Name of the service.
    pub service: String,
    /// Its namespace; null: that of the pod.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Name of the port, where the service has several; null: the only one, or the one without a name.
    #[serde(default)]
    pub port: Option<String>,
    /// Address of the API server, `https://host:port`, or `http://` on loopback (`kubectl proxy`); null: as
    /// the environment of a pod says.
    #[serde(default)]
    pub server: Option<String>,
    /// File of the token, read at every request because it changes; null: that of the pod. Not used with
    /// `http://`.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// PEM file of the authority that vouches for the API server; null: that of the pod.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// The models that a llama-server in router mode lists: one backend for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterSource {
    /// Its address, as `url` of a backend.
    pub url: String,
    /// Names of the models that are meant, exact or globs. Empty: all.
    #[serde(default)]
    pub models: Vec<NameGlob>,
    /// Time between two looks.
    #[serde(with = "units::duration", default = "router_every")]
    #[schemars(schema_with = "units::duration_schema")]
    pub every: Duration,
}

fn router_every() -> Duration {
    Duration::from_secs(10)
}

/// Keys of the backends that are found. They mean what they mean in `fleet.pools[].backends`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Template {
    /// Model name sent to them; null: the client's.
    pub model: Option<String>,
    /// Speculative profile they were started with.
    pub profile: Option<String>,
    /// Environment variable that holds their `--api-key`.
    pub api_key_env: Option<EnvSecret>,
    /// Parallel sequences of each: a number, or `auto` to ask them.
    pub slots: SlotCount,
    /// Context window of one slot in tokens; null: as they say.
    pub n_ctx: Option<NonZeroU64>,
    /// KV cache of the slots.
    pub kv: KvLayout,
    /// Tokens of the KV cache that slots share; null: the window of a slot.
    pub kv_tokens: Option<NonZeroU64>,
    /// Share of the load of each; a SRV record has its own.
    pub weight: NonZeroU32,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            model: None,
            profile: None,
            api_key_env: None,
            slots: SlotCount::Auto,
            n_ctx: None,
            kv: KvLayout::Auto,
            kv_tokens: None,
            weight: NonZeroU32::MIN,
        }
    }
}

impl Template {
    /// One of them.
    pub fn at(&self, name: String, url: String) -> Backend {
        Backend {
            name: Some(name),
            url,
            model: self.model.clone(),
            profile: self.profile.clone(),
            log_file: None,
            api_key_env: self.api_key_env.clone(),
            slots: self.slots,
            n_ctx: self.n_ctx,
            kv: self.kv,
            kv_tokens: self.kv_tokens,
            weight: self.weight,
        }
    }
}
