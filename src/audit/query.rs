//! Finding records: by what they say, the last ones, and as they come.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::{self, Name};
use super::record::Record;

/// First look from the end of a file, in bytes.
const WINDOW: u64 = 256 << 10;

/// Which records. What is not said does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The session.
    pub session: Option<String>,
    /// The request.
    pub request: Option<String>,
    /// The rule.
    pub rule: Option<String>,
    /// What was decided.
    pub decision: Option<String>,
    /// The tool.
    pub tool: Option<String>,
    /// Name of the API key.
    pub principal: Option<String>,
    /// Not before.
    pub since: Option<SystemTime>,
    /// Before.
    pub until: Option<SystemTime>,
}

impl Filter {
    /// Whether `record` is one of them.
    pub fn takes(&self, record: &Record) -> bool {
        let fields = [
            (&self.session, &record.session),
            (&self.request, &record.request_id),
            (&self.rule, &record.rule),
            (&self.decision, &record.decision),
            (&self.tool, &record.tool),
            (&self.principal, &record.principal),
        ];
        let told = |time: SystemTime| humantime::format_rfc3339_millis(time).to_string();
        fields
            .iter()
            .all(|(wanted, is)| wanted.as_ref().is_none_or(|wanted| wanted == *is))
            // Times of this form sort as texts.
            && self.since.is_none_or(|since| record.ts >= told(since))
            && self.until.is_none_or(|until| record.ts < told(until))
    }
}

fn parse(line: &[u8]) -> Option<Record> {
    serde_json::from_slice(line).ok()
}

/// Gives `each` the records in `dir`, in their order, until it wants no more. Lines that are no records are left
/// out; [`verify`](super::verify()) names them.
///
/// # Errors
/// The system's, and those of `each`.
pub fn read(dir: &Path, mut each: impl FnMut(Record) -> io::Result<bool>) -> io::Result<()> {
    for name in files::list(dir)? {
        let mut lines = BufReader::new(File::open(files::path(dir, &name))?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            if let Some(record) = parse(&line)
                && !each(record)?
            {
                return Ok(());
            }
            line.clear();
        }
    }
    Ok(())
}

/// The last `count` records of the log in `dir` that `filter` takes, of the last file or two, in their order.
///
/// # Errors
/// The system's.
pub fn last(dir: &Path, filter: &Filter, count: usize) -> io::Result<Vec<Record>> {
    let mut found: Vec<Record> = Vec::new();
    for name in files::list(dir)?.iter().rev().take(2) {
        let path = files::path(dir, name);
        let mut own = last_of(&path, filter, count - found.len())?;
        own.append(&mut found);
        found = own;
        if found.len() >= count {
            break;
        }
    }
    Ok(found)
}

fn last_of(path: &Path, filter: &Filter, count: usize) -> io::Result<Vec<Record>> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut window = WINDOW;
    loop {
        let (from, bytes) = files::end(&mut file, len, window)?;
        // The first line of a part may be the end of one.
        let lines = bytes.split(|b| *b == b'\n').skip(usize::from(from > 0));
        let mut found: Vec<Record> = lines
            .filter_map(parse)
            .filter(|r| filter.takes(r))
            .collect();
        if found.len() >= count || from == 0 {
            return Ok(found.split_off(found.len().saturating_sub(count)));
        }
        window = window.saturating_mul(4);
    }
}

/// Records as they come.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    file: Option<(Name, u64)>,
}

impl Follow {
    /// Those of the log in `dir` from now on.
    ///
    /// # Errors
    /// The system's.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let last = files::list(dir)?.pop();
        let file = match last {
            None => None,
            Some(name) => {
                let mut bytes = Vec::new();
                File::open(files::path(dir, &name))?.read_to_end(&mut bytes)?;
                let end = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
                Some((name, end as u64))
            }
        };
        Ok(Self {
            dir: dir.to_owned(),
            file,
        })
    }

    /// Those that have come since.
    ///
    /// # Errors
    /// The system's.
    pub fn news(&mut self) -> io::Result<Vec<Record>> {
        let mut found = Vec::new();
        for name in files::list(&self.dir)? {
            let from = match &self.file {
                Some((known, _)) if name < *known => continue,
                Some((known, at)) if name == *known => *at,
                _ => 0,
            };
            let mut file = File::open(files::path(&self.dir, &name))?;
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            // What has no end yet comes later.
            let end = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
            found.extend(bytes[..end].split(|b| *b == b'\n').filter_map(parse));
            self.file = Some((name, from + end as u64));
        }
        Ok(found)
    }
}
