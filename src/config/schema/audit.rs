//! The record of what policy decided.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units;

/// A log of every decision of policy, in a chain of hashes (docs/policy.md). Only turns with policy in force are
/// recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Directory of its files, made where there is none. Two gateways may share one on the same machine.
    pub path: PathBuf,
    /// File with a secret of at least 16 bytes: the chain is made with it (HMAC-SHA-256), so that nobody without
    /// it can write the chain anew. Null: anybody who may write the files can.
    pub key_file: Option<PathBuf>,
    /// Whether calls are recorded that no rule had anything to say about. Without them nobody can tell what a
    /// changed policy would have blocked.
    pub allows: bool,
    /// Longest text of a call that is recorded, in bytes; longer ones are cut, and cannot be judged again by
    /// another policy.
    #[serde(with = "units::size")]
    #[schemars(schema_with = "units::size_schema")]
    pub max_text: ByteSize,
    /// How long decisions are gathered before they are written together: what a crash may lose, besides what is
    /// being written.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub flush_every: Duration,
    /// Decisions that may wait for the disk, of at most 64 MiB together. From half of it on, and while nothing can
    /// be written, calls that required rules are about are blocked.
    pub queue: usize,
    /// Whether `/readyz` says 503 while nothing can be recorded. Traffic without policy would go elsewhere too.
    pub unready_when_failing: bool,
    /// When a file is full, and what becomes of it.
    pub rotate: Rotate,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./audit"),
            key_file: None,
            allows: true,
            max_text: ByteSize::kib(16),
            flush_every: Duration::from_millis(50),
            queue: 16_384,
            unready_when_failing: false,
            rotate: Rotate::default(),
        }
    }
}

/// When a file of the audit log is full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotate {
    /// Its size.
    #[serde(with = "units::size")]
    #[schemars(schema_with = "units::size_schema")]
    pub size: ByteSize,
    /// Its age.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub every: Duration,
    /// Full files kept, at least 1; older ones are removed. Null: all.
    pub keep: Option<usize>,
}

impl Default for Rotate {
    fn default() -> Self {
        Self {
            size: ByteSize::mib(64),
            every: Duration::from_secs(24 * 3600),
            keep: None,
        }
    }
}
