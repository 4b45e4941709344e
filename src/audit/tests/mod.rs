//! The log as a whole, on real files.

mod chain;
mod damage;
mod disk;

use std::path::Path;
use std::time::Duration;

use super::draft::{Draft, Whose};
use super::error::JournalError;
use super::journal::{Journal, Rotation};
use super::record::Chain;
use super::report::Report;
use super::verify::verify;
use crate::policy::{Actor, Engine, Evidence, Kept, Source, TurnPolicy};

pub(super) const ALL: Rotation = Rotation {
    size: u64::MAX,
    every: Duration::from_secs(1_000_000),
    keep: None,
};

pub(super) fn rotated(size: u64) -> Rotation {
    Rotation { size, ..ALL }
}

/// A policy whose `plan` lets nobody write, for a session in `/r`.
pub(super) fn policy(session: &str) -> TurnPolicy {
    let source: Source =
        serde_json::from_str(r#"{"profiles":{"plan":["tools.read_only"]}}"#).unwrap();
    let engine = Engine::new(&source).unwrap();
    let active = engine.active(["plan"]).unwrap();
    let actor = Actor {
        root: Some(format!("/r/{session}")),
        session: session.to_owned(),
        ..Actor::default()
    };
    TurnPolicy::new(engine.into(), active, actor, Default::default(), &[])
}

/// Records of calls, numbered from `from`; every tenth is blocked.
pub(super) fn drafts(from: usize, count: usize) -> Vec<Draft> {
    let policies = [policy("a"), policy("b")];
    let evidence: Vec<Evidence> = policies.iter().map(|p| p.evidence(None)).collect();
    let judged = ["Write", "Read"].map(|tool| {
        let mut judged = policies[0].tool_call(tool, r#"{"file_path":"/r/x"}"#);
        assert_eq!(judged.decisions.len(), 1);
        judged.decisions.remove(0)
    });
    let one = |n: usize| {
        let mut decision = judged[usize::from(!n.is_multiple_of(10))].clone();
        let arguments = format!(r#"{{"file_path":"/r/{n}","content":"some text of no meaning"}}"#);
        decision.old = Some(Kept::of(&arguments));
        let whose = Whose {
            request_id: format!("request-{n}"),
            session: ["a", "b"][n % 2].to_owned(),
            principal: "dev".to_owned(),
            profile: "plan".to_owned(),
        };
        let at = std::time::SystemTime::now();
        Draft::new(&whose, &decision, Some(&evidence[n % 2]), at, 1000)
    };
    (from..from + count).map(one).collect()
}

/// A log of `count` records in `dir`.
pub(super) fn log(dir: &Path, count: usize, chain: &Chain, rotation: Rotation) -> Journal {
    let mut journal = Journal::new(dir, chain.clone(), rotation);
    for from in (0..count).step_by(1000) {
        journal
            .append(&mut drafts(from, 1000.min(count - from)))
            .unwrap();
    }
    journal
}

pub(super) fn append(journal: &mut Journal, count: usize) -> Result<(), JournalError> {
    journal.append(&mut drafts(0, count)).map(|_| ())
}

/// What `verify` says about a log that is as it was written.
#[track_caller]
pub(super) fn sound(dir: &Path, chain: &Chain, records: u64) -> Report {
    let report = verify(dir, chain).unwrap();
    assert!(report.is_sound(), "{:#?}", report.problems);
    assert_eq!(report.records, records);
    report
}
