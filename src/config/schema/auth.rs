//! Who may use the gateway.

use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::guard::Preset;
use super::queue::Priority;
use crate::config::{Secret, units};

/// Clients and what they may reach.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Networks of reverse proxies whose `x-forwarded-for` is believed. Empty: the peer's own address
    /// is the client's.
    #[schemars(schema_with = "units::networks_schema")]
    pub trusted_proxies: Vec<IpNet>,
    /// API keys. Empty: everybody may use the gateway, which is allowed on loopback addresses only.
    pub keys: Vec<ApiKey>,
}

/// One API key. Clients send it as `Authorization: Bearer …` or `x-api-key: …`; exactly one of `key`,
/// `key_sha256`, `key_env` and `key_file` says what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ApiKeyTable", into = "ApiKeyTable")]
#[schemars(with = "ApiKeyTable")]
pub struct ApiKey {
    /// Name in logs and metrics, unique.
    pub name: String,
    /// Where the secret comes from.
    pub source: KeySource,
    /// Pools the key may use, exact names or globs.
    pub pools: Vec<String>,
    /// Guard preset of this key's turns; null: that of the pool.
    pub guard: Option<Preset>,
    /// Who goes first when requests have to wait.
    pub priority: Priority,
    /// Policy profile of this key's turns, besides those of its pool and of `x-drover-profile`.
    pub policy: Option<String>,
    /// What requests with this key may choose for themselves.
    pub may_select: MaySelect,
    digest: Option<[u8; 32]>,
}

/// Where the secret of an [`ApiKey`] comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Written into the configuration.
    Plain(Secret),
    /// Only its SHA-256 is written, in hexadecimal.
    Sha256(Secret),
    /// In this environment variable.
    Env(String),
    /// In this file, surrounding white space ignored.
    File(PathBuf),
}

impl ApiKey {
    /// SHA-256 of the secret, which is all the gateway keeps of it. Present in every configuration
    /// that [`crate::config::load`] returned.
    pub fn digest(&self) -> Option<&[u8; 32]> {
        self.digest.as_ref()
    }

    /// The digest under which a secret sent by a client is looked up.
    pub fn digest_of(secret: &[u8]) -> [u8; 32] {
        Sha256::digest(secret).into()
    }

    pub(in crate::config) fn set_digest(&mut self, digest: [u8; 32]) {
        self.digest = Some(digest);
    }
}

/// [`ApiKey`] as it is written.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApiKeyTable {
    /// Name in logs and metrics, unique.
    name: String,
    /// The secret itself. Prefer one of the other three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Secret>,
    /// SHA-256 of the secret, 64 hexadecimal digits (`printf %s "$KEY" | sha256sum`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_sha256: Option<Secret>,
    /// Environment variable that holds the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_env: Option<String>,
    /// File that holds the secret; surrounding white space is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_file: Option<PathBuf>,
    /// Pools the key may use, exact names or globs.
    #[serde(default = "every_pool")]
    pools: Vec<String>,
    /// Guard preset of this key's turns; null: that of the pool.
    #[serde(default)]
    guard: Option<Preset>,
    /// Whether its requests wait with the `interactive` ones or behind them (`batch`).
    #[serde(default)]
    priority: Priority,
    /// Policy profile of this key's turns, besides those of its pool and of `x-drover-profile`.
    #[serde(default)]
    policy: Option<String>,
    /// What requests with this key may choose for themselves.
    #[serde(default)]
    may_select: MaySelect,
}

/// What a request may choose for itself, by header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaySelect {
    /// Guard presets that `x-drover-guard` may name.
    pub guard: Vec<Preset>,
    /// Classes that `x-drover-priority` may name. `batch` may always be named.
    pub priority: Vec<Priority>,
}

fn every_pool() -> Vec<String> {
    vec!["*".to_owned()]
}

impl TryFrom<ApiKeyTable> for ApiKey {
    type Error = String;

    fn try_from(table: ApiKeyTable) -> Result<Self, String> {
        let sources: Vec<KeySource> = [
            table.key.map(KeySource::Plain),
            table.key_sha256.map(KeySource::Sha256),
            table.key_env.map(KeySource::Env),
            table.key_file.map(KeySource::File),
        ]
        .into_iter()
        .flatten()
        .collect();
        let found = sources.len();
        let Ok([source]) = <[KeySource; 1]>::try_from(sources) else {
            return Err(format!(
                "exactly one of `key`, `key_sha256`, `key_env` and `key_file` is needed, found {found}"
            ));
        };
        Ok(Self {
            name: table.name,
            source,
            pools: table.pools,
            guard: table.guard,
            priority: table.priority,
            policy: table.policy,
            may_select: table.may_select,
            digest: None,
        })
    }
}

impl From<ApiKey> for ApiKeyTable {
    fn from(key: ApiKey) -> Self {
        let mut table = Self {
            name: key.name,
            key: None,
            key_sha256: None,
            key_env: None,
            key_file: None,
            pools: key.pools,
            guard: key.guard,
            priority: key.priority,
            policy: key.policy,
            may_select: key.may_select,
        };
        match key.source {
            KeySource::Plain(secret) => table.key = Some(secret),
            KeySource::Sha256(digest) => table.key_sha256 = Some(digest),
            KeySource::Env(variable) => table.key_env = Some(variable),
            KeySource::File(path) => table.key_file = Some(path),
        }
        table
    }
}
