//! Where the chain ends: by its head, and by its files where those say something else.

use std::fs;
use std::time::SystemTime;

use super::{Journal, Place};
use crate::audit::draft::Draft;
use crate::audit::error::JournalError;
use crate::audit::files;
use crate::audit::head::{self, Head, HeadError};
use crate::audit::record::Line;
use crate::audit::tail::{self, Tail};

impl Journal {
    /// Something that befell the log: it becomes a record too, once.
    fn note(&mut self, what: &str, reason: String) {
        let is_known = |note: &Draft| note.record.decision == what && note.record.reason == reason;
        if !self.notes.iter().any(is_known) {
            tracing::warn!(reason, "AUDIT: {what}");
            self.notes.push(Draft::note(what, reason));
        }
    }

    /// The end of the chain, as it is now.
    pub(super) fn find(&mut self) -> Result<Place, JournalError> {
        let known = self.place.take();
        let head = match Head::read(&self.dir, &self.chain) {
            Ok(Some(head)) => head,
            Ok(None) if self.seen.is_none() => self.head_of_files()?,
            Ok(None) => return Err(self.replaced()),
            Err(HeadError::Io(source)) => return Err(self.io("")(source)),
            Err(error @ HeadError::Changed) => {
                return Err(JournalError::Head {
                    path: self.dir.clone(),
                    reason: error.to_string(),
                });
            }
        };
        let is_older =
            |seen: &Head| head.seq < seen.seq || (head.seq == seen.seq && head.hash != seen.hash);
        if self.seen.as_ref().is_some_and(is_older) {
            return Err(self.replaced());
        }
        let is_same = |known: &Place| {
            let file = fs::metadata(files::path(&self.dir, &known.name));
            known.head == head && file.is_ok_and(|file| file.len() == known.len)
        };
        if let Some(known) = known.filter(is_same) {
            return Ok(known);
        }
        self.cited.clear();
        self.look(head)
    }

    fn replaced(&self) -> JournalError {
        JournalError::Replaced {
            path: self.dir.clone(),
        }
    }

    /// The chain's end, by its files.
    fn look(&mut self, head: Head) -> Result<Place, JournalError> {
        let names = files::list(&self.dir).map_err(self.io(""))?;
        let Some(name) = names.last() else {
            if head.seq > 0 {
                let reason = format!("there is no file any more, and {} records were", head.seq);
                self.note("records_lost", reason);
            }
            return Ok(self.begin_file(head));
        };
        let path = files::path(&self.dir, name);
        let found = tail::find(&path, name, &head, &self.chain);
        match found.map_err(self.io(&path))? {
            Tail::Good { len, head, torn } => {
                if let Some(torn) = torn {
                    let file = fs::OpenOptions::new().write(true).open(&path);
                    let cut = file.and_then(|file| file.set_len(len));
                    cut.map_err(self.io(&path))?;
                    let reason = format!(
                        "{} bytes of a record that was being written when the process ended were cut off \
                         (sha256 {})",
                        torn.bytes, torn.sha256
                    );
                    self.note("torn", reason);
                }
                let since = tail::begun(&path).map_err(self.io(&path))?;
                Ok(Place {
                    name: name.clone(),
                    len,
                    since: since.unwrap_or_else(SystemTime::now),
                    head,
                })
            }
            Tail::Damaged { head } => {
                let reason = format!("{name} does not end as it was written; it stays as it is");
                self.note("damaged", reason);
                Ok(self.begin_file(head))
            }
        }
    }

    /// Where the head is gone: what the files say.
    fn head_of_files(&mut self) -> Result<Head, JournalError> {
        let names = files::list(&self.dir).map_err(self.io(""))?;
        let mut head = Head::new();
        for name in names.iter().rev() {
            let path = files::path(&self.dir, name);
            let bytes = fs::read(&path).map_err(self.io(&path))?;
            let lines = || bytes.split(|b| *b == b'\n').filter_map(Line::of);
            let good = |line: &Line<'_>| self.chain.hash(line.body) == line.hash;
            if head.seq == 0
                && let Some(line) = lines().rfind(good)
            {
                (head.seq, head.hash) = (line.seq, line.hash.to_owned());
            }
            if let Some(line) = lines().next() {
                (head.first_seq, head.first_prev) = (line.seq, line.prev_hash.to_owned());
            }
        }
        if head.seq > 0 {
            let reason = format!("{} was gone; the files end with {}", head::NAME, head.seq);
            self.note("head_lost", reason);
        }
        Ok(head)
    }
}
