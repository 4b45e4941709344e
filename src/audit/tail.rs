//! The end of a file of records: what of it belongs to the chain.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::time::SystemTime;

use memchr::memmem;
use sha2::{Digest, Sha256};

use super::files::{self, Name};
use super::head::Head;
use super::record::{Chain, Line};

/// First look from the end, in bytes.
const WINDOW: u64 = 1 << 20;

/// Longest line looked for. The longest record is shorter.
const MAX_LINE: u64 = 4 << 20;

/// How a file ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// With a record of the chain.
    Good {
        /// Up to the end of its last whole record.
        len: u64,
        /// With the records that were written after the head was.
        head: Head,
        /// What comes behind.
        torn: Option<Torn>,
    },
    /// With something else.
    Damaged {
        /// With the records before that.
        head: Head,
    },
}

/// A record that was being written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) bytes: usize,
    pub(super) sha256: String,
}

/// The end of the last file of a chain that ends with `head`.
///
/// # Errors
/// The system's.
pub(super) fn find(path: &Path, name: &Name, head: &Head, chain: &Chain) -> io::Result<Tail> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut window = WINDOW;
    loop {
        let (from, bytes) = files::end(&mut file, len, window)?;
        let pattern = format!(",\"hash\":\"{}\"}}\n", head.hash);
        let start = memmem::rfind(&bytes, pattern.as_bytes()).map(|at| at + pattern.len());
        // A file that was begun for the record after.
        let start = start.or((from == 0 && name.first == head.seq + 1).then_some(0));
        if let Some(start) = start {
            return Ok(follow(&bytes, start, from, head.clone(), chain));
        }
        if from == 0 {
            return Ok(Tail::Damaged { head: head.clone() });
        }
        window = window.saturating_mul(8);
    }
}

/// What follows the head's record, which ends at `at`.
fn follow(bytes: &[u8], mut at: usize, from: u64, mut head: Head, chain: &Chain) -> Tail {
    while let Some(end) = memchr::memchr(b'\n', &bytes[at..]) {
        let line = Line::of(&bytes[at..at + end]).filter(|line| {
            line.seq == head.seq + 1
                && line.prev_hash == head.hash
                && chain.hash(line.body) == line.hash
        });
        let Some(line) = line else {
            return Tail::Damaged { head };
        };
        (head.seq, head.hash) = (line.seq, line.hash.to_owned());
        at += end + 1;
    }
    let rest = &bytes[at..];
    Tail::Good {
        len: from + at as u64,
        head,
        torn: (!rest.is_empty()).then(|| Torn {
            bytes: rest.len(),
            sha256: hex::encode(Sha256::digest(rest)),
        }),
    }
}

/// The first line of a file, without its end; none where it has none.
///
/// # Errors
/// The system's.
pub(super) fn first_line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?.take(MAX_LINE)).read_until(b'\n', &mut line)?;
    Ok((line.pop() == Some(b'\n')).then_some(line))
}

/// When the first record of a file was made.
///
/// # Errors
/// The system's.
pub(super) fn begun(path: &Path) -> io::Result<Option<SystemTime>> {
    let line = first_line(path)?;
    let line = line.as_deref().and_then(Line::of);
    Ok(line.and_then(|line| humantime::parse_rfc3339(line.ts).ok()))
}
