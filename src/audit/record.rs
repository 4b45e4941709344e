//! One record: its fields, its canonical form, and its place in the chain.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the first record of all carries as its predecessor's hash.
pub(super) const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What stands between the hashed part of a line and its hash.
const HASH_KEY: &str = r#","hash":""#;

/// A hash in hexadecimal digits.
const DIGITS: usize = 64;

/// Length of a time: RFC 3339, UTC, milliseconds.
const TIME: usize = 24;

/// One decision, as a line of the audit log has it: these fields in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When it was decided (RFC 3339, UTC).
    pub ts: String,
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// The request: `x-request-id`.
    pub request_id: String,
    /// The session: `x-drover-session`.
    pub session: String,
    /// Whose it is: the name of the API key, empty without.
    pub principal: String,
    /// Profiles in force, separated by commas.
    pub profile: String,
    /// The rule; `-` where none had anything to say.
    pub rule: String,
    /// Hash of the rule's text.
    pub version: String,
    /// `session_start`, `request`, `tool_call`, `tool_result`, `completion`; `audit` for what befell the log.
    pub stage: String,
    /// `required`, `recommended`, `optional`.
    pub level: String,
    /// `enforce` or `dry_run`.
    pub mode: String,
    /// The tool, where it is about a call or a result.
    pub tool: String,
    /// What was decided.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// A call's arguments, without secrets.
    pub old: Option<String>,
    /// What they became.
    pub new: Option<String>,
    /// SHA-256 of the evidence, which stands in the file beside; empty without.
    pub evidence_hash: String,
    /// How long the rules took, in microseconds.
    pub latency_us: u64,
    /// Hash of the record before.
    pub prev_hash: String,
    /// Hash of this one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// The hash that makes the chain: SHA-256 (FIPS 180-4), or with a key HMAC-SHA-256 (RFC 2104), which
/// nobody can make who has only the files.
#[derive(Clone)]
pub struct Chain(Option<Hmac<Sha256>>);

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "keyed" } else { "plain" })
    }
}

impl Chain {
    /// With a key, or without.
    pub fn new(key: Option<&[u8]>) -> Self {
        // A key may have any length; the library's error is for other functions.
        Self(key.and_then(|key| Hmac::new_from_slice(key).ok()))
    }

    /// Whether there is a key.
    pub fn is_keyed(&self) -> bool {
        self.0.is_some()
    }

    /// Hash of `body`, in hexadecimal digits.
    pub(super) fn hash(&self, body: &[u8]) -> String {
        match &self.0 {
            None => hex::encode(Sha256::digest(body)),
            Some(mac) => {
                let mut mac = mac.clone();
                mac.update(body);
                hex::encode(mac.finalize().into_bytes())
            }
        }
    }

    /// The line of `record`, which has no hash yet, and its hash. The canonical form, which is hashed, is the
    /// line itself up to `,"hash":"`: no byte of a line is without effect.
    ///
    /// # Errors
    /// When it cannot be written as JSON: never.
    pub(super) fn seal(&self, record: &Record) -> Result<(String, String), serde_json::Error> {
        let mut line = serde_json::to_string(record)?;
        line.truncate(line.len() - 1);
        let hash = self.hash(line.as_bytes());
        line.push_str(HASH_KEY);
        line.push_str(&hash);
        line.push_str("\"}\n");
        Ok((line, hash))
    }
}

/// A line taken apart without being read: its form is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// What is hashed.
    pub(super) body: &'a [u8],
    pub(super) seq: u64,
    pub(super) ts: &'a str,
    pub(super) prev_hash: &'a str,
    pub(super) hash: &'a str,
}

impl<'a> Line<'a> {
    /// Takes apart a line without its end; none when it has not the form of a record.
    pub(super) fn of(line: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let (rest, hash) = split_digits(text.strip_suffix("\"}")?)?;
        let body = rest.strip_suffix(HASH_KEY)?;
        let (rest, prev_hash) = split_digits(body.strip_suffix('"')?)?;
        rest.strip_suffix(r#""prev_hash":""#)?;
        let rest = body.strip_prefix(r#"{"ts":""#)?;
        let (ts, rest) = rest.split_at_checked(TIME)?;
        let rest = rest.strip_prefix(r#"","seq":"#)?;
        let seq = &rest[..rest.find(',')?];
        Some(Self {
            body: body.as_bytes(),
            seq: seq.parse().ok().filter(|_| is_plain(seq))?,
            ts,
            prev_hash,
            hash,
        })
    }
}

/// As numbers are written, without signs and zeros in front.
fn is_plain(number: &str) -> bool {
    number.bytes().all(|b| b.is_ascii_digit()) && (number == "0" || !number.starts_with('0'))
}

fn split_digits(text: &str) -> Option<(&str, &str)> {
    let (rest, digits) = text.split_at_checked(text.len().checked_sub(DIGITS)?)?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    digits.bytes().all(hex).then_some((rest, digits))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn record(seq: u64, prev_hash: &str) -> Record {
        Record {
            ts: "2026-01-02T03:04:05.678Z".into(),
            seq,
            request_id: format!("request-{seq}"),
            session: "s".into(),
            principal: "key:a".into(),
            profile: "build".into(),
            rule: "commit.no_secrets".into(),
            version: "0123abcd".into(),
            stage: "tool_call".into(),
            level: "required".into(),
            mode: "enforce".into(),
            tool: "Bash".into(),
            decision: "block".into(),
            reason: "secret".into(),
            old: Some(r#"{"command":"git commit -m \"é\""}"#.into()),
            new: None,
            evidence_hash: String::new(),
            latency_us: 7,
            prev_hash: prev_hash.into(),
            hash: String::new(),
        }
    }

    #[test]
    fn a_line_is_its_own_canonical_form() {
        for chain in [Chain::new(None), Chain::new(Some(b"k"))] {
            let (line, hash) = chain.seal(&record(7, NO_HASH)).unwrap();
            let parts = Line::of(line.trim_end().as_bytes()).unwrap();
            assert_eq!(
                (parts.seq, parts.hash, parts.prev_hash),
                (7, &*hash, NO_HASH)
            );
            assert_eq!(chain.hash(parts.body), hash);
            let read: Record = serde_json::from_str(&line).unwrap();
            assert_eq!(
                read,
                Record {
                    hash,
                    ..record(7, NO_HASH)
                }
            );
        }
    }

    #[test]
    fn fields_are_those_of_the_design_in_their_order() {
        let (line, _) = Chain::new(None).seal(&record(1, NO_HASH)).unwrap();
        let mut at = 0;
        for name in [
            "ts",
            "seq",
            "request_id",
            "session",
            "principal",
            "profile",
            "rule",
            "version",
            "stage",
            "level",
            "mode",
            "tool",
            "decision",
            "reason",
            "old",
            "new",
            "evidence_hash",
            "latency_us",
            "prev_hash",
            "hash",
        ] {
            at += line[at..].find(&format!("\"{name}\":")).unwrap() + 1;
        }
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&line).unwrap();
        assert_eq!(fields.len(), 20);
    }

    #[test]
    fn a_keyed_chain_needs_its_key() {
        let body = b"{";
        let hashes: Vec<String> = [None, Some(&b"a"[..]), Some(b"b")]
            .map(|key| Chain::new(key).hash(body))
            .to_vec();
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
        // RFC 4231, test case 2.
        assert_eq!(
            Chain::new(Some(b"Jefe")).hash(b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn what_has_another_form_is_no_record() {
        let (line, _) = Chain::new(None).seal(&record(1, NO_HASH)).unwrap();
        let line = line.trim_end();
        for bad in [
            "",
            "{}",
            &line[1..],
            &line[..line.len() - 1],
            &line.replace("\"seq\":1", "\"seq\":01"),
            &line.replace("\"seq\":1", "\"seq\":+1"),
            &line.replace("prev_hash", "prev-hash"),
        ] {
            assert_eq!(Line::of(bad.as_bytes()), None, "{bad}");
        }
    }
}
