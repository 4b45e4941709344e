//! `audit.head`: where the chain begins and ends. Without it nobody could tell that the last records are gone.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::record::{Chain, NO_HASH};

/// Its file.
pub(super) const NAME: &str = "audit.head";

/// Its length. It is written in one piece, which fits into the smallest sector disks have: whoever reads it
/// after a crash finds the one before or the one after.
const LENGTH: usize = 512;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// The first record that is kept.
    pub first_seq: u64,
    /// The hash it carries as its predecessor's.
    pub first_prev: String,
    /// The last record.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checked {
    head: Head,
    check: String,
}

/// What is wrong with a head.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeadError {
    /// The system's word.
    #[error("{NAME}: {0}")]
    Io(#[from] io::Error),
    /// Somebody has written it who is not the audit log.
    #[error("{NAME} was changed, or was written with another key")]
    Changed,
}

impl Head {
    /// Of a chain without records.
    pub(super) fn new() -> Self {
        Self {
            first_seq: 1,
            first_prev: NO_HASH.to_owned(),
            seq: 0,
            hash: NO_HASH.to_owned(),
        }
    }

    /// The one in `dir`, if there is one.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub(super) fn read(dir: &Path, chain: &Chain) -> Result<Option<Self>, HeadError> {
        let bytes = match std::fs::read(dir.join(NAME)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Made, and the process ended before it was written.
        if bytes.is_empty() {
            return Ok(None);
        }
        let checked: Checked = serde_json::from_slice(&bytes).map_err(|_| HeadError::Changed)?;
        let head = checked.head;
        match head.text(chain).as_bytes() == bytes {
            true => Ok(Some(head)),
            false => Err(HeadError::Changed),
        }
    }

    /// Writes it, down to the disk.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn write(&self, dir: &Path, chain: &Chain) -> io::Result<()> {
        let file = open(dir)?;
        file.write_all_at(self.text(chain).as_bytes(), 0)?;
        file.sync_data()
    }

    fn text(&self, chain: &Chain) -> String {
        let body = format!(
            r#"{{"head":{{"first_seq":{},"first_prev":"{}","seq":{},"hash":"{}"}}"#,
            self.first_seq, self.first_prev, self.seq, self.hash
        );
        let check = chain.hash(body.as_bytes());
        let text = format!(r#"{body},"check":"{check}"}}"#);
        format!("{text:<width$}\n", width = LENGTH - 1)
    }
}

fn open(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(dir.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_every_changed_byte_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let chain = Chain::new(None);
        assert_eq!(Head::read(dir.path(), &chain).unwrap(), None);
        let head = Head {
            seq: 123_456,
            ..Head::new()
        };
        head.write(dir.path(), &chain).unwrap();
        assert_eq!(Head::read(dir.path(), &chain).unwrap(), Some(head));
        let path = dir.path().join(NAME);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), LENGTH);
        for at in 0..LENGTH {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert!(Head::read(dir.path(), &chain).is_err(), "byte {at}");
        }
        std::fs::write(&path, &bytes).unwrap();
        assert!(Head::read(dir.path(), &Chain::new(Some(b"other"))).is_err());
    }
}
