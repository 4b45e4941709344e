//! The store on SQLite: in memory, or in a file that several processes may use at once.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{Entry, MAX_KEY, MAX_VALUE, Store, StoreError, Swap};

/// Time since the Unix epoch. Expiry has to mean the same after a restart, so that this is no monotonic clock.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The system's time.
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    })
}

/// What the file says its form is.
const FORM: i64 = 1;

/// How long a process waits for another that writes.
const BUSY: Duration = Duration::from_secs(5);

/// Of what has expired, so much is removed with every write.
const SWEEP: u32 = 64;

/// `revision` is the version given last: a key that was removed and written again must not look unchanged.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS entries (
        key TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL, expires INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;
    CREATE TABLE IF NOT EXISTS revision (last INTEGER NOT NULL);
    INSERT INTO revision SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM revision);
";

const LIVE: &str = "(expires IS NULL OR expires > ?2)";

/// See the module's documentation.
pub struct Sqlite {
    connection: Arc<Mutex<Connection>>,
    clock: Clock,
}

impl Sqlite {
    /// One that ends with the process.
    ///
    /// # Errors
    /// [`StoreError::Database`] when there is no memory for it.
    pub fn memory(clock: Clock) -> Result<Self, StoreError> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self::on(connection, clock))
    }

    /// One in the file `path`, which only its owner may read: it tells of sessions.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the file cannot be used.
    pub fn file(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let failed = |why: &dyn Display| StoreError::Open {
            path: path.to_owned(),
            why: why.to_string(),
        };
        let mut owned = OpenOptions::new();
        owned.create(true).append(true).mode(0o600);
        owned.open(path).map_err(|error| failed(&error))?;
        let connection = Connection::open(path).map_err(|error| failed(&error))?;
        prepare(&connection).map_err(|error| failed(&error))?;
        let form = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
        match form.map_err(|error| failed(&error))? {
            FORM => Ok(Self::on(connection, clock)),
            other => Err(failed(&format!("its form is {other}, of another version"))),
        }
    }

    fn on(connection: Connection, clock: Clock) -> Self {
        Self {
            connection: Arc::new(Mutex::new(connection)),
            clock,
        }
    }

    /// Does `work` where it may wait for a disk.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, i64) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let now = millis((self.clock)());
        let done = tokio::task::spawn_blocking(move || work(&mut connection.lock(), now));
        done.await.map_err(|_| StoreError::Closed)?
    }
}

/// A crash of the process or of the machine loses nothing that was said to be written: write-ahead log, synced.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let form: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if form != 0 {
        return Ok(());
    }
    // Two processes may come at the same time: nothing here minds being done twice.
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {FORM}; COMMIT;"
    ))
}

#[async_trait]
impl Store for Sqlite {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = checked(key, None)?;
        self.run(move |connection, now| Ok(read(connection, &key, now)?))
            .await
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<&[u8]>,
        expires_in: Option<Duration>,
    ) -> Result<Swap, StoreError> {
        let key = checked(key, value)?;
        let value = value.map(<[u8]>::to_vec);
        self.run(move |connection, now| {
            // Taking the lock for writing first makes reading and writing one step between processes.
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let found = read(&transaction, &key, now)?;
            if found.as_ref().map(|entry| entry.version) != expected {
                return Ok(Swap::Conflict(found));
            }
            let expires = expires_in.map(|time| now.saturating_add(millis(time)));
            let version = write(&transaction, &key, value.as_deref(), expires)?;
            sweep(&transaction, now)?;
            transaction.commit()?;
            Ok(Swap::Done(version))
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, StoreError> {
        let from = prefix.to_owned();
        self.run(move |connection, now| {
            // Nothing sorts behind this character, and no key has it.
            let below = format!("{from}{}", char::MAX);
            let mut found = connection.prepare_cached(&format!(
                "SELECT key, value, version FROM entries WHERE key >= ?1 AND key < ?3 AND {LIVE} ORDER BY key"
            ))?;
            let rows = found.query_map(params![from, now, below], |row| {
                let (value, version) = (row.get(1)?, row.get::<_, i64>(2)?.cast_unsigned());
                Ok((row.get(0)?, Entry { value, version }))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}

fn checked(key: &str, value: Option<&[u8]>) -> Result<String, StoreError> {
    let fits = (1..=MAX_KEY).contains(&key.len())
        && !key.contains(char::MAX)
        && value.is_none_or(|value| value.len() <= MAX_VALUE);
    fits.then(|| key.to_owned()).ok_or(StoreError::Bounds)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn read(connection: &Connection, key: &str, now: i64) -> rusqlite::Result<Option<Entry>> {
    let mut found = connection.prepare_cached(&format!(
        "SELECT value, version FROM entries WHERE key = ?1 AND {LIVE}"
    ))?;
    let entry = found.query_row(params![key, now], |row| {
        let (value, version) = (row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned());
        Ok(Entry { value, version })
    });
    entry.optional()
}

fn write(
    transaction: &Transaction<'_>,
    key: &str,
    value: Option<&[u8]>,
    expires: Option<i64>,
) -> rusqlite::Result<u64> {
    let Some(value) = value else {
        transaction
            .prepare_cached("DELETE FROM entries WHERE key = ?1")?
            .execute([key])?;
        return Ok(0);
    };
    let version: i64 = transaction
        .prepare_cached("UPDATE revision SET last = last + 1 RETURNING last")?
        .query_row([], |row| row.get(0))?;
    transaction
        .prepare_cached("INSERT OR REPLACE INTO entries VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![key, value, version, expires])?;
    Ok(version.cast_unsigned())
}

fn sweep(transaction: &Transaction<'_>, now: i64) -> rusqlite::Result<()> {
    let mut old = transaction.prepare_cached(
        "DELETE FROM entries WHERE key IN (SELECT key FROM entries WHERE expires <= ?1 LIMIT ?2)",
    )?;
    old.execute(params![now, SWEEP])?;
    Ok(())
}
