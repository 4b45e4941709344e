//! Where what outlives a request is kept.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where leases, rollouts and the durable part of sessions are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Store {
    /// In memory: gone when the process ends.
    #[default]
    Memory,
    /// In an SQLite file, which survives a crash and may be used by an old process and its successor at once.
    File {
        /// The file, made when it is missing; its directory must be there and belong to the user Drover runs as.
        path: PathBuf,
    },
}
