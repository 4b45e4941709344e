//! From a decision to a record that has no place in the chain yet.

use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::record::Record;
use crate::policy::{Decision, Evidence, Kept, secret};

/// Whose turn a decision was made in.
#[derive(Clone, Debug, Default)]
pub struct Whose {
    /// The request: `x-request-id`.
    pub request_id: String,
    /// The session's public name.
    pub session: String,
    /// Name of the API key; empty without.
    pub principal: String,
    /// Profiles in force, separated by commas.
    pub profile: String,
}

/// A record to be, and what it was decided on.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) record: Record,
    /// A JSON document, whose hash the record has.
    pub(super) evidence: Option<String>,
}

impl Draft {
    /// Of a decision of `whose` turn, made at `at`; its texts take at most `max` bytes each.
    pub(super) fn new(
        whose: &Whose,
        decision: &Decision,
        evidence: Option<&Evidence>,
        at: SystemTime,
        max: usize,
    ) -> Self {
        let evidence = evidence.and_then(|evidence| serde_json::to_string(evidence).ok());
        // A secret in it is inside a text, and what takes its place needs no escape.
        let evidence = evidence.map(|text| secret::redact(&text));
        let hash = evidence.as_deref().map(evidence_hash);
        let shown = |text: &Option<Kept>| text.as_ref().map(|text| shown(text, max));
        Self {
            record: Record {
                ts: time(at),
                seq: 0,
                request_id: whose.request_id.clone(),
                session: whose.session.clone(),
                principal: whose.principal.clone(),
                profile: whose.profile.clone(),
                rule: decision.rule.to_string(),
                version: decision.version.to_string(),
                stage: decision.stage.to_owned(),
                level: decision.level.to_owned(),
                mode: decision.mode.to_owned(),
                tool: secret::redact(&decision.tool),
                decision: decision.decision.to_owned(),
                reason: secret::redact(&decision.reason),
                old: shown(&decision.old),
                new: shown(&decision.new),
                evidence_hash: hash.unwrap_or_default(),
                latency_us: decision.latency_us,
                prev_hash: String::new(),
                hash: String::new(),
            },
            evidence,
        }
    }

    /// Of something that befell the log itself.
    pub(super) fn note(decision: &str, reason: String) -> Self {
        Self {
            record: Record {
                ts: time(SystemTime::now()),
                seq: 0,
                request_id: String::new(),
                session: String::new(),
                principal: String::new(),
                profile: String::new(),
                rule: "-".to_owned(),
                version: "-".to_owned(),
                stage: "audit".to_owned(),
                level: "required".to_owned(),
                mode: "enforce".to_owned(),
                tool: String::new(),
                decision: decision.to_owned(),
                reason,
                old: None,
                new: None,
                evidence_hash: String::new(),
                latency_us: 0,
                prev_hash: String::new(),
                hash: String::new(),
            },
            evidence: None,
        }
    }
}

/// What stands at the end of a text that was cut.
pub const CUT: &str = " bytes left out]";

fn shown(text: &Kept, max: usize) -> String {
    let (mut text, cut) = text.redacted(max);
    if cut > 0 {
        text.push_str(&format!(" [{cut}{CUT}"));
    }
    text
}

/// Hash of a document of evidence.
pub(super) fn evidence_hash(document: &str) -> String {
    hex::encode(Sha256::digest(document.as_bytes()))
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
