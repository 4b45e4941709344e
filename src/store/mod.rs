//! What outlives a request, and with `store.kind: file` the process: leases, rollouts, the durable part of sessions.
//!
//! A [`Store`] is a map from short keys to bounded values that changes by compare-and-swap, so that whoever decides
//! from what it has read finds out when somebody else was faster. Two gateways may share a file: while one hands over
//! to its successor (`drover serve --upgrade`) both are at work.

mod sqlite;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use crate::config;

pub use sqlite::{Clock, Sqlite, wall_clock};

/// Longest key, in bytes.
pub const MAX_KEY: usize = 512;

/// Longest value, in bytes.
pub const MAX_VALUE: usize = 1 << 20;

/// A value, and the version it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was written.
    pub value: Vec<u8>,
    /// Changes with every write, and no key ever has one twice.
    pub version: u64,
}

/// What came of a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It took place; the version the key has now, 0 where it was removed.
    Done(u64),
    /// Somebody else was faster; what the key holds instead.
    Conflict(Option<Entry>),
}

/// Why a store does not answer.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Its file cannot be used.
    #[error("cannot open the store {}: {why}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A key or value is not one that a store takes.
    #[error("a store takes keys of 1 to {MAX_KEY} bytes and values of up to {MAX_VALUE} bytes")]
    Bounds,
    /// The database underneath.
    #[error("the store failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The process is ending.
    #[error("the store is closed")]
    Closed,
}

/// See the module's documentation. What has expired is not there.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What `key` holds.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Writes `value`, or removes the key where that is none, if the key has the version `expected`; none expects
    /// it to be absent. Once it has returned the change survives a crash of the process (kind `file`).
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<&[u8]>,
        expires_in: Option<Duration>,
    ) -> Result<Swap, StoreError>;

    /// Every key that begins with `prefix`, in order, with what it holds.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, StoreError>;
}

/// Opens the configured store.
///
/// # Errors
/// [`StoreError::Open`] when its file cannot be used.
pub fn open(config: &config::Store) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(match config {
        config::Store::Memory => Sqlite::memory(wall_clock())?,
        config::Store::File { path } => Sqlite::file(path, wall_clock())?,
    }))
}
