//! Whether a log is as it was written: every record is looked at, and what is wrong is named.

mod line;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use super::evidence::Documents;
use super::files::{self, Lock, Name};
use super::head::{self, Head, HeadError};
use super::record::Chain;
use super::report::{Problem, Report, What};

/// More problems are counted and not listed.
const MAX_LISTED: usize = 100;

/// Looks at every record of the log in `dir`. A gateway may be writing it meanwhile.
///
/// # Errors
/// The system's.
pub fn verify(dir: &Path, chain: &Chain) -> io::Result<Report> {
    let snapshot = Snapshot::of(dir, chain)?;
    let mut walk = Walk::new(dir, chain, snapshot.head)?;
    for (n, (name, len)) in snapshot.files.iter().enumerate() {
        walk.file(name, *len, n + 1 == snapshot.files.len())?;
    }
    Ok(walk.finish())
}

/// What there was at one moment.
struct Snapshot {
    files: Vec<(Name, u64)>,
    head: Result<Option<Head>, HeadError>,
}

impl Snapshot {
    fn of(dir: &Path, chain: &Chain) -> io::Result<Self> {
        let _lock = Lock::to_read(dir);
        let mut files = Vec::new();
        for name in files::list(dir)? {
            let len = fs::metadata(files::path(dir, &name))?.len();
            files.push((name, len));
        }
        let head = match Head::read(dir, chain) {
            Err(HeadError::Io(error)) => return Err(error),
            head => head,
        };
        Ok(Self { files, head })
    }
}

struct Walk<'a> {
    dir: &'a Path,
    chain: &'a Chain,
    head: Option<Head>,
    /// Number of the next record; none: any will do.
    expected: Option<u64>,
    /// What the next record may carry as its predecessor's hash; empty: anything.
    before: Vec<String>,
    documents: Documents,
    report: Report,
}

impl<'a> Walk<'a> {
    fn new(
        dir: &'a Path,
        chain: &'a Chain,
        head: Result<Option<Head>, HeadError>,
    ) -> io::Result<Self> {
        let mut walk = Self {
            dir,
            chain,
            head: None,
            expected: None,
            before: Vec::new(),
            documents: Documents::default(),
            report: Report {
                keyed: chain.is_keyed(),
                ..Report::default()
            },
        };
        match head {
            Ok(Some(head)) => {
                walk.expected = Some(head.first_seq);
                walk.before.push(head.first_prev.clone());
                walk.head = Some(head);
            }
            Ok(None) => walk.head_problem(
                What::HeadMissing,
                "is gone: whether records are missing at the \
                                          beginning or the end cannot be told",
            ),
            Err(error) => walk.head_problem(What::HeadChanged, &error.to_string()),
        }
        Ok(walk)
    }

    fn head_problem(&mut self, what: What, message: &str) {
        let message = message.trim_start_matches("audit.head ").to_owned();
        self.problem(Problem {
            what,
            seq: 0,
            to: 0,
            file: head::NAME.to_owned(),
            line: 0,
            message,
        });
    }

    fn problem(&mut self, problem: Problem) {
        match self.report.problems.len() < MAX_LISTED {
            true => self.report.problems.push(problem),
            false => self.report.more_problems += 1,
        }
    }

    fn file(&mut self, name: &Name, len: u64, is_last: bool) -> io::Result<()> {
        if self
            .head
            .as_ref()
            .is_some_and(|head| name.first < head.first_seq)
        {
            let notice = format!("{name} is older than what is kept, and was not looked at");
            self.report.notices.push(notice);
            return Ok(());
        }
        self.documents = Documents::default();
        self.documents.add(&self.dir.join(name.evidence()))?;
        self.report.files += 1;
        self.report.bytes += len;
        let mut lines =
            BufReader::with_capacity(1 << 18, File::open(files::path(self.dir, name))?.take(len));
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let is_whole = line.last() == Some(&b'\n');
            let at = At {
                file: name,
                line: number,
            };
            if is_whole {
                line.pop();
                self.line(&at, &line);
            } else if is_last && self.is_beyond_head() {
                self.report.notices.push(format!(
                    "{name}, line {number}: the last record broke off after {} bytes, as when the process \
                     ends while it writes; it was not acknowledged",
                    line.len()
                ));
            } else {
                self.not_a_record(&at, "the line has no end");
            }
        }
        Ok(())
    }

    /// Whether all records are there that were acknowledged.
    fn is_beyond_head(&self) -> bool {
        match (&self.head, self.expected) {
            (Some(head), Some(expected)) => expected > head.seq,
            _ => true,
        }
    }

    fn at(&mut self, at: &At<'_>, what: What, (seq, to): (u64, u64), message: String) {
        self.problem(Problem {
            what,
            seq,
            to,
            file: at.file.to_string(),
            line: at.line,
            message,
        });
    }

    fn finish(mut self) -> Report {
        let Some(head) = self.head.take() else {
            return self.report;
        };
        let next = self.expected.unwrap_or(head.first_seq);
        let (file, line) = (head::NAME.to_owned(), 0);
        if next <= head.seq {
            self.problem(Problem {
                what: What::Missing,
                seq: next,
                to: head.seq,
                file,
                line,
                message: "the end is missing: they were written and acknowledged".to_owned(),
            });
        } else if next == head.seq + 1
            && !self.before.is_empty()
            && !self.before.contains(&head.hash)
        {
            self.problem(Problem {
                what: What::Replaced,
                seq: head.seq,
                to: head.seq,
                file,
                line,
                message: "the last record is not the one that was written".to_owned(),
            });
        } else if next > head.seq + 1 && head.seq + 1 >= head.first_seq {
            self.report.notices.push(format!(
                "{} records after {} were written and not yet acknowledged, as when the process ends between \
                 the two",
                next - head.seq - 1,
                head.seq
            ));
        }
        self.report
    }
}

/// A place in the log.
struct At<'a> {
    file: &'a Name,
    line: u64,
}
