//! Disks that are full, away and back.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use tokio::time::Instant;

use super::*;
use crate::audit::{Audit, OpenError};
use crate::config;

/// A file system of its own, in memory; gone when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None where the machine does not allow it.
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted.is_ok_and(|done| done.status.success()) {
            true => Some(Self(dir)),
            false => {
                println!("skipped: no file system may be mounted here");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn audit(path: &Path, queue: usize) -> config::Audit {
    config::Audit {
        path: path.to_owned(),
        flush_every: Duration::from_millis(1),
        queue,
        ..config::Audit::default()
    }
}

fn decide(audit: &Arc<Audit>, count: usize) {
    let policy = policy("s");
    let turn = audit.turn(Whose::default()).of(&policy);
    for n in 0..count {
        let arguments = format!(
            r#"{{"file_path":"/r/{n}","content":"{}"}}"#,
            "x".repeat(200)
        );
        turn.record(&policy.tool_call("Write", &arguments).decisions);
    }
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let Some(disk) = Disk::new("64k") else { return };
    let chain = Chain::new(None);
    let mut journal = log(disk.path(), 10, &chain, ALL);
    assert!(append(&mut journal, 500).is_err(), "it does not fit");
    sound(disk.path(), &chain, 10);
    append(&mut journal, 5).unwrap();
    sound(disk.path(), &chain, 15);
    // A process that starts on a full disk finds its place too.
    let ballast = disk.path().join("ballast");
    let _ = fs::write(&ballast, vec![0; 8 << 20]);
    let mut journal = Journal::new(disk.path(), chain.clone(), ALL);
    assert!(append(&mut journal, 50).is_err());
    fs::remove_file(ballast).unwrap();
    append(&mut journal, 5).unwrap();
    let report = sound(disk.path(), &chain, 20);
    assert!(report.notices.is_empty(), "{:?}", report.notices);
}

#[test]
fn a_full_disk_closes_the_log_and_it_opens_by_itself() {
    let Some(disk) = Disk::new("2m") else {
        return;
    };
    let ballast = disk.path().join("ballast");
    let path = disk.path().join("log");
    let audit = Audit::open(&audit(&path, 256)).unwrap();
    decide(&audit, 20);
    audit.flush();
    assert!(audit.is_open());
    let _ = fs::write(&ballast, vec![0; 8 << 20]);
    decide(&audit, 100);
    until("closed", || !audit.is_open());
    let trouble = audit.trouble().unwrap();
    assert!(trouble.contains("No space left"), "{trouble}");
    // More than the queue holds.
    decide(&audit, 300);
    assert!(audit.waiting() <= 256);
    fs::remove_file(&ballast).unwrap();
    until("open", || audit.is_open());
    audit.flush();
    assert_eq!(audit.trouble(), None);
    // Each is on record, or counted there. How many had no room depends on when the disk was found full.
    let report = verify(&path, &Chain::new(None)).unwrap();
    assert!(report.is_sound(), "{:#?}", report.problems);
    let count = |notice: &String| {
        notice
            .split("lost: ")
            .nth(1)?
            .split(' ')
            .next()?
            .parse()
            .ok()
    };
    let lost: Vec<u64> = report.notices.iter().filter_map(count).collect();
    assert!(lost.iter().sum::<u64>() > 0, "{:?}", report.notices);
    let recorded = report.records - lost.len() as u64;
    assert_eq!(recorded + lost.iter().sum::<u64>(), 20 + 100 + 300);
}

#[test]
fn a_process_starts_on_a_full_disk() {
    let Some(disk) = Disk::new("64k") else { return };
    let _ = fs::write(disk.path().join("ballast"), vec![0; 8 << 20]);
    let audit = Audit::open(&audit(&disk.path().join("log"), 256)).unwrap();
    decide(&audit, 1);
    assert!(!audit.is_open());
    fs::remove_file(disk.path().join("ballast")).unwrap();
    until("open", || audit.is_open());
    audit.flush();
    let report = sound(&disk.path().join("log"), &Chain::new(None), 2);
    assert!(
        report.notices[0].contains("began_closed"),
        "{:?}",
        report.notices
    );
}

#[test]
fn a_path_that_nobody_may_write_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below"), "/proc/none".into()] {
        let error = Audit::open(&audit(&path, 256)).unwrap_err();
        assert!(matches!(error, OpenError::Path(_)), "{error}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    // What another key has signed is not gone on with.
    let path = dir.path().join("log");
    drop(Audit::open(&audit(&path, 256)).unwrap());
    decide(&Audit::open(&audit(&path, 256)).unwrap(), 3);
    let key = dir.path().join("key");
    fs::write(&key, "0123456789abcdef\n").unwrap();
    let keyed = config::Audit {
        key_file: Some(key),
        ..audit(&path, 256)
    };
    let error = Audit::open(&keyed).unwrap_err().to_string();
    assert!(error.contains("another key"), "{error}");
    sound(&path, &Chain::new(None), 3);
}

#[test]
fn what_waits_is_written_when_the_log_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let config = config::Audit {
        flush_every: Duration::from_secs(1000),
        allows: false,
        ..audit(dir.path(), 4096)
    };
    let log = Audit::open(&config).unwrap();
    decide(&log, 2000);
    // Nothing is said about it, and nothing recorded.
    let policy = policy("s");
    let turn = log.turn(Whose::default()).of(&policy);
    turn.record(&policy.tool_call("Read", "{}").decisions);
    assert!(!turn.is_open() || log.waiting() < 2048);
    drop(turn);
    drop(log);
    sound(dir.path(), &Chain::new(None), 2000);
}
