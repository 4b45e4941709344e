//! Whatever is done to a log is found, and the record named.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::time::Instant;

use super::*;
use crate::audit::files;
use crate::audit::head::Head;
use crate::audit::record::{Line, Record};
use crate::audit::report::{Problem, What};

/// What somebody does. Shares of 1 choose records and places.
#[derive(Clone, Debug)]
enum Damage {
    /// Change a byte.
    Byte { record: f64, place: f64, xor: u8 },
    /// Take a line away.
    Remove { record: f64 },
    /// Take the end away, in lines.
    End { lines: usize },
    /// Take the end away, in bytes.
    Cut { bytes: usize },
    /// Two lines change places.
    Swap { one: f64, other: f64 },
    /// A line is there twice.
    Twice { record: f64, behind: f64 },
    /// A record is changed and its own hash made to fit.
    Forge { record: f64 },
}

fn damage() -> impl Strategy<Value = Damage> {
    let share = || 0.0..1.0f64;
    prop_oneof![
        4 => (share(), share(), 1..=255u8).prop_map(|(record, place, xor)| Damage::Byte { record, place, xor }),
        2 => share().prop_map(|record| Damage::Remove { record }),
        1 => (1..4usize).prop_map(|lines| Damage::End { lines }),
        1 => (1..300usize).prop_map(|bytes| Damage::Cut { bytes }),
        2 => (share(), share()).prop_map(|(one, other)| Damage::Swap { one, other }),
        1 => (share(), share()).prop_map(|(record, behind)| Damage::Twice { record, behind }),
        2 => share().prop_map(|record| Damage::Forge { record }),
    ]
}

/// The bytes with damage done, and the record that must be named; none where nothing has changed.
fn done(text: &[u8], damage: &Damage) -> Option<(Vec<u8>, u64)> {
    let mut lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
    let at = |share: f64| (share * lines.len() as f64) as usize;
    let seq = |line: &[u8]| Line::of(&line[..line.len() - 1]).unwrap().seq;
    let last = seq(lines.last().unwrap());
    let forged;
    let named = match *damage {
        Damage::Byte { record, place, xor } => {
            let line = lines[at(record)];
            let from = line.as_ptr() as usize - text.as_ptr() as usize;
            let mut text = text.to_vec();
            text[from + (place * line.len() as f64) as usize] ^= xor;
            return Some((text, seq(line)));
        }
        Damage::Cut { bytes } => return Some((text[..text.len() - bytes].to_vec(), last)),
        Damage::Remove { record } => seq(lines.remove(at(record))),
        Damage::End { lines: count } => {
            lines.truncate(lines.len() - count);
            last
        }
        Damage::Swap { one, other } => {
            let (one, other) = (at(one), at(other));
            if one == other {
                return None;
            }
            lines.swap(one, other);
            seq(lines[one.max(other)])
        }
        Damage::Twice { record, behind } => {
            let (record, behind) = (lines[at(record)], at(behind));
            lines.insert(behind + 1, record);
            seq(record)
        }
        Damage::Forge { record } => {
            let at = at(record);
            let mut record: Record = serde_json::from_slice(lines[at]).unwrap();
            record.decision = "allow, of course".to_owned();
            record.hash.clear();
            forged = Chain::new(None).seal(&record).unwrap().0;
            lines[at] = forged.as_bytes();
            record.seq
        }
    };
    Some((lines.concat(), named))
}

fn names(problem: &Problem, seq: u64) -> bool {
    (problem.seq..=problem.to).contains(&seq)
}

/// A log of one file and what it is made of.
struct Whole {
    dir: tempfile::TempDir,
    file: PathBuf,
    text: Vec<u8>,
    chain: Chain,
}

impl Whole {
    fn new(count: usize, chain: Chain) -> Self {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), count, &chain, ALL);
        let name = files::list(dir.path()).unwrap().remove(0);
        let file = files::path(dir.path(), &name);
        let text = fs::read(&file).unwrap();
        Self {
            dir,
            file,
            text,
            chain,
        }
    }

    fn finds(&self, damage: &Damage) -> Result<(), TestCaseError> {
        let Some((changed, named)) = done(&self.text, damage) else {
            return Ok(());
        };
        fs::write(&self.file, changed).unwrap();
        let report = verify(self.dir.path(), &self.chain).unwrap();
        prop_assert!(!report.is_sound(), "{damage:?} was not found");
        let problems = match damage {
            Damage::Twice { .. } => report.problems.as_slice(),
            _ => &report.problems[..1],
        };
        let is_named = problems.iter().any(|problem| names(problem, named));
        prop_assert!(is_named, "{damage:?} of record {named}: {problems:?}");
        Ok(())
    }
}

#[test]
fn any_damage_is_found_and_named() {
    for chain in [Chain::new(None), Chain::new(Some(b"a key of some length"))] {
        let whole = Whole::new(400, chain);
        let mut runner = TestRunner::new(Config::with_cases(400));
        runner
            .run(&damage(), |damage| whole.finds(&damage))
            .unwrap();
        fs::write(&whole.file, &whole.text).unwrap();
        sound(whole.dir.path(), &whole.chain, 400);
    }
}

#[test]
fn damage_of_a_hundred_thousand_records_is_found_and_named() {
    const COUNT: usize = 100_000;
    let begun = Instant::now();
    let whole = Whole::new(COUNT, Chain::new(None));
    let written = begun.elapsed();
    let begun = Instant::now();
    sound(whole.dir.path(), &whole.chain, COUNT as u64);
    let took = begun.elapsed();
    println!(
        "audit: {COUNT} records, {} MB: written in {written:?}, verified in {took:?}, {:.0} records/s",
        whole.text.len() / 1_000_000,
        COUNT as f64 / took.as_secs_f64()
    );
    let mut runner = TestRunner::new(Config::with_cases(12));
    runner
        .run(&damage(), |damage| whole.finds(&damage))
        .unwrap();
    whole.finds(&Damage::End { lines: 1 }).unwrap();
    whole
        .finds(&Damage::Byte {
            record: 0.999_999,
            place: 0.5,
            xor: 1,
        })
        .unwrap();
}

#[test]
fn a_lost_or_swapped_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(None);
    let mut journal = Journal::new(dir.path(), chain.clone(), rotated(1));
    for _ in 0..4 {
        append(&mut journal, 3).unwrap();
    }
    let names = files::list(dir.path()).unwrap();
    let paths: Vec<PathBuf> = names
        .iter()
        .map(|name| files::path(dir.path(), name))
        .collect();
    for (lost, path) in paths.iter().enumerate() {
        let text = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let report = verify(dir.path(), &chain).unwrap();
        let problem = &report.problems[0];
        let first = 1 + 3 * lost as u64;
        assert_eq!(
            (problem.what, problem.seq, problem.to),
            (What::Missing, first, first + 2)
        );
        fs::write(path, text).unwrap();
    }
    for (one, other) in [(0, 1), (1, 3)] {
        let texts = [&paths[one], &paths[other]].map(|path| fs::read(path).unwrap());
        fs::write(&paths[one], &texts[1]).unwrap();
        fs::write(&paths[other], &texts[0]).unwrap();
        let report = verify(dir.path(), &chain).unwrap();
        let problem = &report.problems[0];
        assert_eq!(
            (problem.what, &problem.file),
            (What::WrongFile, &names[one].to_string())
        );
        fs::write(&paths[one], &texts[0]).unwrap();
        fs::write(&paths[other], &texts[1]).unwrap();
    }
    sound(dir.path(), &chain, 12);
}

/// Everything from a record on is written anew, with all hashes and the head.
fn rewrite(whole: &Whole, from: usize, with: &Chain) {
    let mut text = String::new();
    let mut head = Head::read(whole.dir.path(), &whole.chain).unwrap().unwrap();
    let mut before = String::new();
    for (n, line) in whole
        .text
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .enumerate()
    {
        let mut record: Record = serde_json::from_slice(line).unwrap();
        if n < from {
            text.push_str(std::str::from_utf8(line).unwrap());
            text.push('\n');
            before = record.hash;
            continue;
        }
        record.decision = "allow".to_owned();
        record.hash.clear();
        record.prev_hash = before;
        let (line, hash) = with.seal(&record).unwrap();
        text.push_str(&line);
        before = hash;
    }
    head.hash = before;
    head.write(whole.dir.path(), with).unwrap();
    fs::write(&whole.file, text).unwrap();
}

#[test]
fn a_chain_written_anew_is_found_where_there_is_a_key() {
    let key = Chain::new(Some(b"a key of some length"));
    for with in [Chain::new(None), Chain::new(Some(b"another key, guessed"))] {
        let whole = Whole::new(20, key.clone());
        rewrite(&whole, 10, &with);
        let report = verify(whole.dir.path(), &key).unwrap();
        let whats: Vec<(What, u64)> = report.problems.iter().map(|p| (p.what, p.seq)).collect();
        assert_eq!(whats[..2], [(What::HeadChanged, 0), (What::Changed, 11)]);
        // Nor does the head of before help.
        let whole = Whole::new(20, key.clone());
        let head = dir_head(&whole);
        rewrite(&whole, 10, &with);
        fs::write(whole.dir.path().join("audit.head"), head).unwrap();
        let report = verify(whole.dir.path(), &key).unwrap();
        assert_eq!(
            (report.problems[0].what, report.problems[0].seq),
            (What::Changed, 11)
        );
    }
    // Without one it is not, and the documentation says so.
    let whole = Whole::new(20, Chain::new(None));
    rewrite(&whole, 10, &whole.chain);
    sound(whole.dir.path(), &whole.chain, 20);
}

fn dir_head(whole: &Whole) -> Vec<u8> {
    fs::read(whole.dir.path().join("audit.head")).unwrap()
}

#[test]
fn changed_evidence_is_found() {
    let whole = Whole::new(20, Chain::new(None));
    let evidence = whole.dir.path().join("audit-000000000001.evidence");
    let text = fs::read_to_string(&evidence).unwrap();
    assert_eq!(text.trim().lines().count(), 2, "each once");
    fs::write(&evidence, text.replace("/r/b", "/r/c")).unwrap();
    let report = verify(whole.dir.path(), &whole.chain).unwrap();
    assert_eq!(
        (report.problems[0].what, report.problems[0].seq),
        (What::Evidence, 2)
    );
    assert_eq!(report.problems.len(), 10);
    fs::remove_file(evidence).unwrap();
    assert_eq!(
        verify(whole.dir.path(), &whole.chain)
            .unwrap()
            .problems
            .len(),
        20
    );
}
