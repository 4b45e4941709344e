//! One line of the log: whether it is the record that stood there.

use super::{At, Walk};
use crate::audit::record::{Line, Record};
use crate::audit::report::What;

impl Walk<'_> {
    pub(super) fn line(&mut self, at: &At<'_>, bytes: &[u8]) {
        let Some(line) = Line::of(bytes) else {
            return self.not_a_record(at, "the line has not the form of a record");
        };
        if at.line == 1 && line.seq != at.file.first {
            let message = format!(
                "the file should begin with record {} and begins with {}: files were swapped or renamed",
                at.file.first, line.seq
            );
            self.at(at, What::WrongFile, (at.file.first, at.file.first), message);
        }
        let hash = self.chain.hash(line.body);
        let is_sound = hash == line.hash;
        let expected = self.expected.unwrap_or(line.seq);
        if !is_sound {
            // Not the number it has now, which may be what was changed.
            let message = "its hash does not fit its content".to_owned();
            self.at(at, What::Changed, (expected, expected), message);
            self.report.records += 1;
            self.goes_on(expected, vec![hash, line.hash.to_owned()]);
            return;
        }
        if line.seq < expected {
            let message =
                format!("it stands where record {expected} should: out of order, or twice");
            self.at(at, What::OutOfOrder, (line.seq, expected), message);
        } else {
            self.gap(at, expected, line.seq);
            let follows = line.seq == expected && !self.before.is_empty();
            if follows && !self.before.iter().any(|hash| hash == line.prev_hash) {
                let before = line.seq.saturating_sub(1);
                let message =
                    "the record before is not the one that was there when this was written";
                self.at(
                    at,
                    What::Replaced,
                    (before.max(1), line.seq),
                    message.to_owned(),
                );
            }
        }
        self.content(at, bytes, line.seq);
        self.report.records += 1;
        self.goes_on(line.seq, vec![hash]);
    }

    fn goes_on(&mut self, seq: u64, before: Vec<String>) {
        if self.report.first == 0 {
            self.report.first = seq;
        }
        self.report.last = self.report.last.max(seq);
        if let Some(hash) = before.first() {
            self.report.hash.clone_from(hash);
        }
        self.expected = Some(seq + 1);
        self.before = before;
    }

    fn gap(&mut self, at: &At<'_>, expected: u64, found: u64) {
        if found > expected {
            let message = match at.line {
                1 => format!(
                    "they should stand before {}: a file is missing, or its end",
                    at.file
                ),
                _ => format!("record {found} stands in their place"),
            };
            self.at(at, What::Missing, (expected, found - 1), message);
        }
    }

    pub(super) fn not_a_record(&mut self, at: &At<'_>, message: &str) {
        let seq = self.expected.unwrap_or(at.file.first);
        self.at(at, What::NotARecord, (seq, seq), message.to_owned());
        self.expected = Some(seq + 1);
        self.before.clear();
    }

    /// What a record that is part of the chain says.
    fn content(&mut self, at: &At<'_>, bytes: &[u8], seq: u64) {
        let record: Record = match serde_json::from_slice(bytes) {
            Ok(record) => record,
            Err(error) => {
                return self.at(
                    at,
                    What::NotARecord,
                    (seq, seq),
                    format!("it cannot be read: {error}"),
                );
            }
        };
        if record.stage == "audit" {
            let Record {
                decision,
                reason,
                ts,
                ..
            } = &record;
            self.report
                .notices
                .push(format!("record {seq}, {ts}: {decision}: {reason}"));
        }
        if !record.evidence_hash.is_empty() && !self.documents.has(&record.evidence_hash) {
            let message = format!(
                "what it was decided on is not in {} any more",
                at.file.evidence()
            );
            self.at(at, What::Evidence, (seq, seq), message);
        }
    }
}
