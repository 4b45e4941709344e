//! How a chain goes on: after a crash, beside another process, into the next file.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use super::*;
use crate::audit::files;
use crate::audit::query::{Filter, Follow, last, read};
use crate::audit::report::What;

fn only_file(dir: &Path) -> PathBuf {
    let names = files::list(dir).unwrap();
    assert_eq!(names.len(), 1);
    files::path(dir, &names[0])
}

fn break_off(file: &Path, text: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(file).unwrap();
    file.write_all(text).unwrap();
}

#[test]
fn a_record_that_broke_off_is_told_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(None);
    log(dir.path(), 5, &chain, ALL);
    break_off(&only_file(dir.path()), br#"{"ts":"2026-01-02T03:0"#);
    let report = sound(dir.path(), &chain, 5);
    assert!(
        report.notices[0].contains("broke off after 22 bytes"),
        "{:?}",
        report.notices
    );
    let mut journal = Journal::new(dir.path(), chain.clone(), ALL);
    append(&mut journal, 3).unwrap();
    let report = sound(dir.path(), &chain, 9);
    assert!(report.notices[0].contains("record 6") && report.notices[0].contains("torn: 22 bytes"));
}

#[test]
fn records_behind_the_head_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(None);
    let mut journal = log(dir.path(), 5, &chain, ALL);
    let head = dir.path().join("audit.head");
    let before = fs::read(&head).unwrap();
    append(&mut journal, 2).unwrap();
    // As when the process ends after the records and before the head.
    fs::write(&head, before).unwrap();
    let report = sound(dir.path(), &chain, 7);
    assert!(
        report.notices[0].contains("2 records after 5"),
        "{:?}",
        report.notices
    );
    append(&mut Journal::new(dir.path(), chain.clone(), ALL), 1).unwrap();
    assert!(sound(dir.path(), &chain, 8).notices.is_empty());
}

#[test]
fn a_restart_does_not_heal_what_was_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(None);
    log(dir.path(), 5, &chain, ALL);
    let file = only_file(dir.path());
    let text = fs::read_to_string(&file).unwrap();
    let kept: Vec<&str> = text.lines().take(3).collect();
    fs::write(&file, kept.join("\n") + "\n").unwrap();
    append(&mut Journal::new(dir.path(), chain.clone(), ALL), 2).unwrap();
    let report = verify(dir.path(), &chain).unwrap();
    let problem = &report.problems[0];
    assert_eq!(
        (problem.what, problem.seq, problem.to),
        (What::Missing, 4, 5)
    );
    assert!(report.notices[0].contains("record 6") && report.notices[0].contains("damaged"));
    assert_eq!(report.last, 8);
}

#[test]
fn a_lost_head_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(None);
    log(dir.path(), 25, &chain, rotated(10_000));
    fs::remove_file(dir.path().join("audit.head")).unwrap();
    let report = verify(dir.path(), &chain).unwrap();
    assert_eq!(report.problems[0].what, What::HeadMissing);
    append(&mut Journal::new(dir.path(), chain.clone(), ALL), 1).unwrap();
    let report = sound(dir.path(), &chain, 27);
    assert!(
        report.notices[0].contains("head_lost"),
        "{:?}",
        report.notices
    );
}

#[test]
fn files_are_rotated_by_size_and_age_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(Some(b"a key of some length"));
    let mut journal = Journal::new(dir.path(), chain.clone(), rotated(4000));
    for _ in 0..8 {
        append(&mut journal, 5).unwrap();
    }
    let count = files::list(dir.path()).unwrap().len();
    assert!(count >= 4, "{count}");
    sound(dir.path(), &chain, 40);
    let rotation = Rotation {
        every: Duration::ZERO,
        keep: Some(2),
        ..ALL
    };
    let mut journal = Journal::new(dir.path(), chain.clone(), rotation);
    append(&mut journal, 5).unwrap();
    append(&mut journal, 5).unwrap();
    let names = files::list(dir.path()).unwrap();
    assert_eq!(names.len(), 3);
    let report = sound(dir.path(), &chain, 50 + 1 - names[0].first);
    assert_eq!((report.first, report.last), (names[0].first, 50));
    // What is kept is known: the next oldest is missed.
    fs::remove_file(files::path(dir.path(), &names[0])).unwrap();
    let report = verify(dir.path(), &chain).unwrap();
    assert_eq!(
        (report.problems[0].what, report.problems[0].seq),
        (What::Missing, names[0].first)
    );
}

#[test]
fn two_processes_write_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(None);
    let write = |rotation| {
        let mut journal = Journal::new(dir.path(), chain.clone(), rotation);
        for n in 0..40 {
            append(&mut journal, 1 + n % 4).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| write(rotated(20_000)));
        }
    });
    sound(dir.path(), &chain, 3 * 100);
    assert!(files::list(dir.path()).unwrap().len() > 2);
}

#[test]
fn another_chain_in_its_place_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("log");
    let mut journal = log(&at, 5, &Chain::new(None), ALL);
    let away = dir.path().join("away");
    fs::rename(&at, &away).unwrap();
    assert!(matches!(
        append(&mut journal, 1),
        Err(JournalError::Io { .. })
    ));
    log(&at, 3, &Chain::new(None), ALL);
    assert!(matches!(
        append(&mut journal, 1),
        Err(JournalError::Replaced { .. })
    ));
    fs::remove_dir_all(&at).unwrap();
    fs::create_dir(&at).unwrap();
    assert!(matches!(
        append(&mut journal, 1),
        Err(JournalError::Replaced { .. })
    ));
    // It goes on by itself when the disk is back.
    fs::remove_dir_all(&at).unwrap();
    fs::rename(&away, &at).unwrap();
    append(&mut journal, 1).unwrap();
    sound(&at, &Chain::new(None), 6);
}

#[test]
fn records_are_found_by_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 3000, &Chain::new(None), rotated(400_000));
    let filter = |session: &str, rule: &str| Filter {
        session: Some(session.to_owned()),
        rule: Some(rule.to_owned()),
        ..Filter::default()
    };
    let count = |filter: Filter| {
        let mut count = 0;
        let each = |record| {
            count += usize::from(filter.takes(&record));
            Ok(true)
        };
        read(dir.path(), each).unwrap();
        count
    };
    assert_eq!(count(filter("a", "tools.read_only")), 300);
    assert_eq!(count(filter("b", "tools.read_only")), 0);
    assert_eq!(count(filter("b", "-")), 1500);
    let now = SystemTime::now();
    let since = |since, until| Filter {
        since,
        until,
        ..Filter::default()
    };
    assert_eq!(count(since(Some(now), None)), 0);
    assert_eq!(count(since(None, Some(now + Duration::from_secs(1)))), 3000);
    let found = last(dir.path(), &filter("a", "-"), 7).unwrap();
    let numbers: Vec<u64> = found.iter().map(|record| record.seq).collect();
    assert_eq!(numbers, [2985, 2987, 2989, 2993, 2995, 2997, 2999]);
}

#[test]
fn a_follower_sees_each_record_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = log(dir.path(), 5, &Chain::new(None), rotated(3000));
    let mut follow = Follow::new(dir.path()).unwrap();
    assert!(follow.news().unwrap().is_empty());
    let mut seen = Vec::new();
    for _ in 0..5 {
        append(&mut journal, 4).unwrap();
        seen.extend(follow.news().unwrap().iter().map(|record| record.seq));
    }
    assert_eq!(seen, (6..=25).collect::<Vec<u64>>());
}

#[test]
fn secrets_reach_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let policy = policy("s");
    let key = format!("AKIA{}", "ABCDEFGHIJKLMNOP");
    let arguments = format!(
        r#"{{"file_path":"/r/x","content":"key: {key} {}"}}"#,
        "x".repeat(3000)
    );
    let judged = policy.tool_call("Write", &arguments);
    let evidence = policy.evidence(None);
    let at = SystemTime::now();
    let draft = Draft::new(
        &Whose::default(),
        &judged.decisions[0],
        Some(&evidence),
        at,
        500,
    );
    let mut journal = Journal::new(dir.path(), Chain::new(None), ALL);
    journal.append(&mut [draft]).unwrap();
    let text = fs::read_to_string(only_file(dir.path())).unwrap();
    assert!(
        !text.contains(&key) && text.contains("[redacted]"),
        "{text}"
    );
    assert!(text.contains("bytes left out]"), "{text}");
}
