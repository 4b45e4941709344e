//! Writing the chain: whole batches, each under the lock of the directory.
//!
//! Nothing is kept open between two batches, and what is known of the end of the chain is only believed when
//! it is still so. Hence two processes may write one chain in turns, as they do while one takes over from the
//! other, and a disk that was away can come back.

mod end;

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::draft::Draft;
use super::error::JournalError;
use super::files::{self, Lock, Name};
use super::head::{self, Head};
use super::record::{Chain, Line};
use super::tail;

/// Documents of evidence known to be in the file; more are written again.
const MAX_CITED: usize = 4096;

/// When a file is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    pub(super) size: u64,
    pub(super) every: Duration,
    /// Full files kept; none: all.
    pub(super) keep: Option<usize>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    chain: Chain,
    rotation: Rotation,
    /// The end as this process has seen it last; a chain that ends before is another one.
    seen: Option<Head>,
    place: Option<Place>,
    /// What was odd about the end, until it is on record.
    notes: Vec<Draft>,
    /// Evidence that the file is known to have.
    cited: HashSet<String>,
}

/// Where the next record goes.
#[derive(Clone, Debug)]
struct Place {
    name: Name,
    len: u64,
    since: SystemTime,
    head: Head,
}

/// What came of a batch.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Journal {
    pub(super) fn new(dir: &Path, chain: Chain, rotation: Rotation) -> Self {
        Self {
            dir: dir.to_owned(),
            chain,
            rotation,
            seen: None,
            place: None,
            notes: Vec::new(),
            cited: HashSet::new(),
        }
    }

    fn io(&self, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> JournalError {
        let path = self.dir.join(path);
        move |source| JournalError::Io { path, source }
    }

    /// Appends `drafts`, which get their places in the chain. All of them are on the disk then, or none.
    ///
    /// # Errors
    /// See [`JournalError`]. The batch can be tried again.
    pub(super) fn append(&mut self, drafts: &mut [Draft]) -> Result<Written, JournalError> {
        if self.seen.is_none() {
            files::make(&self.dir).map_err(self.io(""))?;
        }
        let _lock = Lock::to_write(&self.dir).map_err(self.io(""))?;
        let mut place = self.find()?;
        let rotated = self.is_full(&place);
        if rotated {
            place = self.begin_file(place.head);
        }
        let mut notes = std::mem::take(&mut self.notes);
        let mut all: Vec<&mut Draft> = notes.iter_mut().chain(drafts).collect();
        let written = self.write(&mut place, &mut all);
        if written.is_err() {
            self.notes = notes;
        }
        let written = written?;
        if rotated {
            self.forget(&mut place.head)?;
        }
        self.seen = Some(place.head.clone());
        self.place = Some(place);
        Ok(written)
    }

    /// A file that has nothing yet.
    fn begin_file(&self, head: Head) -> Place {
        let mut name = Name::of(head.seq + 1);
        while fs::metadata(files::path(&self.dir, &name)).is_ok_and(|file| file.len() > 0) {
            name = name.again();
        }
        Place {
            name,
            len: 0,
            since: SystemTime::now(),
            head,
        }
    }

    fn is_full(&self, place: &Place) -> bool {
        let age = place.since.elapsed().unwrap_or_default();
        place.len > 0 && (place.len >= self.rotation.size || age >= self.rotation.every)
    }

    fn write(
        &mut self,
        place: &mut Place,
        drafts: &mut [&mut Draft],
    ) -> Result<Written, JournalError> {
        if place.len == 0 {
            self.cited.clear();
        }
        let mut head = place.head.clone();
        let (mut lines, mut evidence, mut cited) = (String::new(), String::new(), Vec::new());
        for draft in drafts.iter_mut() {
            let hash = &draft.record.evidence_hash;
            if let Some(document) = &draft.evidence
                && !self.cited.contains(hash)
                && !cited.contains(hash)
            {
                evidence.push_str(&format!(
                    "{{\"hash\":\"{hash}\",\"evidence\":{document}}}\n"
                ));
                cited.push(hash.clone());
            }
            draft.record.seq = head.seq + 1;
            draft.record.prev_hash.clone_from(&head.hash);
            let sealed = self.chain.seal(&draft.record);
            let (line, hash) = sealed.map_err(|error| self.io("")(error.into()))?;
            lines.push_str(&line);
            (head.seq, head.hash) = (head.seq + 1, hash);
        }
        if !evidence.is_empty() {
            let path = self.dir.join(place.name.evidence());
            // The end of another one's line that broke off.
            let start = if self.cited.is_empty() { "\n" } else { "" };
            self.append_file(&path, format!("{start}{evidence}").as_bytes(), None)?;
            if self.cited.len() + cited.len() > MAX_CITED {
                self.cited.clear();
            }
            self.cited.extend(cited);
        }
        let path = files::path(&self.dir, &place.name);
        self.append_file(&path, lines.as_bytes(), Some(place.len))?;
        if let Err(error) = head.write(&self.dir, &self.chain) {
            // Half a batch is none: it will be written again.
            let file = fs::OpenOptions::new().write(true).open(&path);
            let _ = file.and_then(|file| file.set_len(place.len));
            return Err(self.io(head::NAME)(error));
        }
        place.head = head;
        place.len += lines.len() as u64;
        Ok(Written {
            records: drafts.len(),
            bytes: lines.len() + evidence.len(),
        })
    }

    /// Down to the disk, whole or not at all. `len`: what the file has now.
    fn append_file(
        &mut self,
        path: &Path,
        bytes: &[u8],
        len: Option<u64>,
    ) -> Result<(), JournalError> {
        let append = || {
            let (mut file, is_new) = files::append_to(path)?;
            let len = len.map_or_else(|| file.metadata().map(|file| file.len()), Ok)?;
            let done = file.write_all(bytes).and_then(|()| file.sync_data());
            if done.is_err() {
                // If that fails too, whoever comes next cuts off the end, or goes on behind whole records, which
                // are twice there then. None is lost.
                let _ = file.set_len(len);
            }
            done.and_then(|()| {
                if is_new {
                    files::sync(&self.dir)
                } else {
                    Ok(())
                }
            })
        };
        let result = append().map_err(self.io(path));
        if result.is_err() {
            self.cited.clear();
        }
        result
    }

    /// Removes the oldest files beyond those that are kept. The head knows first, so that no end of the process
    /// makes it look like a loss.
    fn forget(&self, head: &mut Head) -> Result<(), JournalError> {
        let Some(keep) = self.rotation.keep else {
            return Ok(());
        };
        let names = files::list(&self.dir).map_err(self.io(""))?;
        let surplus = names.len().saturating_sub(keep + 1);
        let (old, kept) = names.split_at(surplus);
        let Some(first) = kept.first().filter(|_| surplus > 0) else {
            return Ok(());
        };
        let path = files::path(&self.dir, first);
        let first = tail::first_line(&path).map_err(self.io(&path))?;
        let Some(line) = first.as_deref().and_then(Line::of) else {
            return Ok(());
        };
        (head.first_seq, head.first_prev) = (line.seq, line.prev_hash.to_owned());
        head.write(&self.dir, &self.chain)
            .map_err(self.io(head::NAME))?;
        for name in old {
            for path in [files::path(&self.dir, name), self.dir.join(name.evidence())] {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.io(&path)(error));
                    }
                    _ => {}
                }
            }
        }
        files::sync(&self.dir).map_err(self.io(""))
    }
}
