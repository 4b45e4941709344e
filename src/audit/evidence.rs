//! Documents of evidence: what records were decided on, found by its hash.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::draft::evidence_hash;
use super::files;

#[derive(Deserialize)]
struct Cited<'a> {
    hash: &'a str,
    #[serde(borrow)]
    evidence: &'a RawValue,
}

/// Those beside the files of a log.
#[derive(Debug, Default)]
pub struct Documents(HashMap<String, Box<str>>);

/// There is no evidence of this hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEvidence;

impl Documents {
    /// Those of the log in `dir`. What does not have the hash it is cited by is left out.
    ///
    /// # Errors
    /// The system's.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut documents = Self::default();
        for name in files::list(dir)? {
            documents.add(&dir.join(name.evidence()))?;
        }
        Ok(documents)
    }

    /// Those of one file, which need not be there.
    pub(super) fn add(&mut self, path: &Path) -> io::Result<()> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for line in bytes.split(|b| *b == b'\n') {
            let Ok(cited) = serde_json::from_slice::<Cited<'_>>(line) else {
                continue;
            };
            let document = cited.evidence.get();
            if evidence_hash(document) == cited.hash {
                self.0.insert(cited.hash.to_owned(), document.into());
            }
        }
        Ok(())
    }

    /// Whether there is one of this hash.
    pub(super) fn has(&self, hash: &str) -> bool {
        self.0.contains_key(hash)
    }

    /// The one of this hash.
    ///
    /// # Errors
    /// There is none, or none that can be read.
    pub fn get(&self, hash: &str) -> Result<crate::policy::Evidence, NoEvidence> {
        let document = self.0.get(hash).ok_or(NoEvidence)?;
        serde_json::from_str(document).map_err(|_| NoEvidence)
    }
}
