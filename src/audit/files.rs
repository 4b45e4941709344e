//! The files of an audit log: their names, their order, the lock between processes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const LOCK: &str = "audit.lock";

/// A file of records, named by the first one it has: `audit-000000000001.jsonl`. Where a file of that name was
/// damaged and is kept, the next has a number behind it: `audit-000000000001.2.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) first: u64,
    turn: u32,
}

impl Name {
    pub(super) fn of(first: u64) -> Self {
        Self { first, turn: 1 }
    }

    /// Another one for the same first record.
    pub(super) fn again(&self) -> Self {
        Self {
            first: self.first,
            turn: self.turn + 1,
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
        let (first, turn) = stem.split_once('.').unwrap_or((stem, "1"));
        let parsed = Self {
            first: first.parse().ok()?,
            turn: turn.parse().ok()?,
        };
        (parsed.to_string() == name).then_some(parsed)
    }

    /// Where the evidence of its records is.
    pub(super) fn evidence(&self) -> String {
        let name = self.to_string();
        let stem = name.strip_suffix(".jsonl").unwrap_or(&name);
        format!("{stem}.evidence")
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.turn {
            1 => write!(f, "audit-{:012}.jsonl", self.first),
            turn => write!(f, "audit-{:012}.{turn}.jsonl", self.first),
        }
    }
}

/// The files of records in `dir`, in the order of their records.
///
/// # Errors
/// The system's.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().to_str().and_then(Name::parse));
    }
    names.sort();
    Ok(names)
}

/// Makes the directory, for its owner alone.
///
/// # Errors
/// The system's.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// A file of records or evidence, to be appended to. `true`: it was made now.
///
/// # Errors
/// The system's.
pub(super) fn append_to(path: &Path) -> io::Result<(File, bool)> {
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    options.append(true).create(true).read(true).mode(0o600);
    Ok((options.open(path)?, is_new))
}

/// Makes what was created in `dir` last.
///
/// # Errors
/// The system's.
pub(super) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Nobody else writes while it lives. It goes with the process, however that ends (flock(2)).
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held")] File);

impl Lock {
    /// For writing, waiting for whoever writes.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn to_write(dir: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(dir.join(LOCK))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }

    /// For reading. None where there is no lock, as in a copy.
    pub(super) fn to_read(dir: &Path) -> Option<Self> {
        let file = File::open(dir.join(LOCK)).ok()?;
        flock(&file, FlockOperation::LockShared).ok()?;
        Some(Self(file))
    }
}

/// The whole path of a file in `dir`.
pub(super) fn path(dir: &Path, name: &Name) -> PathBuf {
    dir.join(name.to_string())
}

/// The last `window` bytes of the first `len` of a file, and where they begin.
///
/// # Errors
/// The system's.
pub(super) fn end(file: &mut File, len: u64, window: u64) -> io::Result<(u64, Vec<u8>)> {
    let from = len.saturating_sub(window);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(len - from).read_to_end(&mut bytes)?;
    Ok((from, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_their_records_do() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            Name::of(2),
            Name::of(2).again(),
            Name::of(10),
            Name::of(1_000_000_000_000_000),
        ];
        for name in names.iter().rev() {
            fs::write(path(dir.path(), name), "").unwrap();
            fs::write(dir.path().join(name.evidence()), "").unwrap();
        }
        for other in [
            "audit.head",
            "audit.lock",
            "audit-1.jsonl",
            "audit-000000000003.jsonl.gz",
        ] {
            fs::write(dir.path().join(other), "").unwrap();
        }
        assert_eq!(list(dir.path()).unwrap(), names);
        assert_eq!(names[1].to_string(), "audit-000000000002.2.jsonl");
    }
}
