//! Records of an audit log, judged again.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Change, Effect, Outcome, Ruling, active};
use crate::audit::{self, CUT, Documents, Record};
use crate::policy::{AUDIT_UNAVAILABLE, Engine, TurnPolicy, Verdict};

/// Requests whose call may still have records to come.
const MAX_OPEN: usize = 1024;

/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";

/// Records of one call, request or end of a turn.
struct Group {
    first: Record,
    ruling: Ruling,
}

impl Group {
    fn new(record: Record) -> Self {
        let ruling = ruling(&record);
        Self {
            ruling: ruling.unwrap_or_else(Ruling::allowed),
            first: record,
        }
    }

    /// Whether `record` is about the same: another rule's word, or one about what a rewrite has left.
    fn has(&self, record: &Record) -> bool {
        let is_call = |one: &Record| matches!(&*one.stage, "tool_call" | "session_start");
        let same_stage =
            self.first.stage == record.stage || (is_call(&self.first) && is_call(record));
        let plain = |one: &Record| one.rule == "-";
        let follows =
            record.old == self.first.old || (record.old.is_some() && record.old == self.ruling.new);
        same_stage
            && self.first.tool == record.tool
            && !plain(&self.first)
            && !plain(record)
            && self.ruling.effect != Effect::Blocked
            && follows
    }

    fn add(&mut self, record: &Record) {
        if let Some(ruling) = ruling(record) {
            self.ruling = ruling;
        }
    }
}

/// What a record did; none where it changed nothing.
fn ruling(record: &Record) -> Option<Ruling> {
    if record.level != "required" || record.mode != "enforce" {
        return None;
    }
    match &*record.decision {
        "block" => Some(Ruling::blocked(&record.rule, &record.reason)),
        "rewrite" => Some(Ruling {
            effect: Effect::Rewritten,
            rule: record.rule.clone(),
            reason: record.reason.clone(),
            new: record.new.clone(),
        }),
        _ => None,
    }
}

/// What `engine` would have decided about what is on record in `dir`.
///
/// # Errors
/// The system's.
pub fn records(dir: &Path, engine: &Arc<Engine>) -> io::Result<Outcome> {
    let mut replay = Replay {
        engine,
        documents: Documents::read(dir)?,
        outcome: Outcome::default(),
    };
    let mut open: HashMap<String, Group> = HashMap::new();
    audit::read(dir, |record| {
        if record.stage == "audit" {
            return Ok(true);
        }
        match open.get_mut(&record.request_id) {
            Some(group) if group.has(&record) => group.add(&record),
            _ => {
                let id = record.request_id.clone();
                if let Some(done) = open.insert(id, Group::new(record)) {
                    replay.judge(&done);
                }
                if open.len() > MAX_OPEN {
                    drain(&mut open, &mut replay);
                }
            }
        }
        Ok(true)
    })?;
    drain(&mut open, &mut replay);
    replay.outcome.changes.sort_by_key(|change| change.seq);
    Ok(replay.outcome)
}

fn drain(open: &mut HashMap<String, Group>, replay: &mut Replay<'_>) {
    for (_, group) in open.drain() {
        replay.judge(&group);
    }
}

struct Replay<'a> {
    engine: &'a Arc<Engine>,
    documents: Documents,
    outcome: Outcome,
}

impl Replay<'_> {
    fn judge(&mut self, group: &Group) {
        match self.again(group) {
            Err(why) => self.outcome.skip(why),
            Ok(now) if now.does_as(&group.ruling) => self.outcome.replayed += 1,
            Ok(_)
                if group
                    .first
                    .old
                    .as_deref()
                    .is_some_and(|old| old.contains(REDACTED)) =>
            {
                self.outcome
                    .skip("secrets were taken out of the arguments, and rules may be about them");
            }
            Ok(now) => {
                self.outcome.replayed += 1;
                let record = &group.first;
                self.outcome.changes.push(Change {
                    seq: record.seq,
                    call: None,
                    request_id: record.request_id.clone(),
                    session: record.session.clone(),
                    stage: record.stage.clone(),
                    tool: record.tool.clone(),
                    arguments: record.old.clone().unwrap_or_default(),
                    before: group.ruling.clone(),
                    now,
                });
            }
        }
    }

    fn again(&self, group: &Group) -> Result<Ruling, String> {
        let record = &group.first;
        if record.reason == AUDIT_UNAVAILABLE {
            return Err("nothing could be recorded, so that no rule was asked".to_owned());
        }
        let (policy, request) = self.situation(record)?;
        match &*record.stage {
            "tool_call" | "session_start" => {
                let old = record
                    .old
                    .as_deref()
                    .ok_or("the arguments are not on record")?;
                if old.ends_with(CUT) {
                    return Err("the arguments are longer than `audit.max_text`".to_owned());
                }
                let judged = policy.tool_call(&record.tool, old);
                if matches!(judged.verdict, Verdict::NeedsLease(_)) {
                    return Err("a lease decides, by what other sessions do".to_owned());
                }
                Ok(Ruling::of_call(judged))
            }
            "completion" => {
                let blockers = policy.completion(false);
                let names: Vec<&str> = blockers.verdict.iter().map(|b| &*b.name).collect();
                let by = blockers.decisions.iter().find(|one| one.acted);
                Ok(match (names.is_empty(), by) {
                    (false, Some(by)) => Ruling::blocked(&by.rule, &names.join(", ")),
                    _ => Ruling::allowed(),
                })
            }
            "request" => {
                let request = request.ok_or("the request is not on record")?;
                Ok(match policy.request(&request).verdict {
                    Some(blocked) => Ruling::blocked(&blocked.rule, &blocked.reason),
                    None => Ruling::allowed(),
                })
            }
            _ => Err("results of tools are not on record".to_owned()),
        }
    }

    /// The turn as it was, under the rules of now.
    fn situation(
        &self,
        record: &Record,
    ) -> Result<(TurnPolicy, Option<crate::policy::Request>), String> {
        let active = active(self.engine, &record.profile)?;
        let evidence = self.documents.get(&record.evidence_hash);
        let evidence = evidence.map_err(|_| "the evidence is not there")?;
        let request = evidence.request.clone();
        let engine = Arc::clone(self.engine);
        let policy = evidence.under(engine, active, &record.session, &record.principal);
        Ok((policy, request))
    }
}
