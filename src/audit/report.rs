//! What a verification finds.

use std::fmt;

use serde::Serialize;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A record does not have the hash it should have: some byte of it was changed, or it was written by somebody
    /// without the key.
    Changed,
    /// A line is no record.
    NotARecord,
    /// Records are missing.
    Missing,
    /// A record stands where it should not, or for the second time.
    OutOfOrder,
    /// A record is sound, and not the one that was there when the next was written.
    Replaced,
    /// A file does not begin with the record of its name.
    WrongFile,
    /// `audit.head` was changed.
    HeadChanged,
    /// `audit.head` is gone.
    HeadMissing,
    /// What a record was decided on is gone or was changed.
    Evidence,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What.
    pub what: What,
    /// The record, the first where there are several.
    pub seq: u64,
    /// The last of them.
    pub to: u64,
    /// The file.
    pub file: String,
    /// Its line, from 1; 0 for the file as a whole.
    pub line: u64,
    /// In words.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.seq, self.to) {
            (0, _) => write!(f, "{}: {}", self.file, self.message),
            (one, to) if one == to => {
                write!(
                    f,
                    "record {one} ({}, line {}): {}",
                    self.file, self.line, self.message
                )
            }
            (one, to) => {
                write!(
                    f,
                    "records {one} to {to} ({}, line {}): {}",
                    self.file, self.line, self.message
                )
            }
        }
    }
}

/// What came of a verification.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Records that are there.
    pub records: u64,
    /// Number of the first.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
    /// Hash of the last: written down elsewhere, it proves later that nothing was taken away since.
    pub hash: String,
    /// Files of records.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Whether the chain has a key.
    pub keyed: bool,
    /// What is wrong, in the order of the records; at most 100 are listed.
    pub problems: Vec<Problem>,
    /// Problems that are not listed.
    pub more_problems: u64,
    /// What is no fault of anybody: a record that broke off when the process ended, what befell the log.
    pub notices: Vec<String>,
}

impl Report {
    /// Whether everything is as it was written.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}
