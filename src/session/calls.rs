//! What agents have called lately and what came of it, as hashes: enough to see that something is done again with the same
//! result, and nothing of what was said.

use std::hash::Hasher as _;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::registry::Sessions;
use super::ring::Kept;
use super::visit::Visit;
use crate::guard::loops::Called;
use crate::turn::floor;

/// Memory for all of it, in bytes.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// Most calls kept of one answer.
const MAX_CALLS: usize = 32;

/// Longest tool name, in bytes.
const MAX_NAME: usize = 64;

/// A call in the view of its session. Fields are only ever added.
#[derive(Clone, Debug, Serialize)]
pub struct CallView {
    /// When its result came (RFC 3339, UTC).
    #[serde(serialize_with = "time")]
    at: SystemTime,
    /// The request that brought its result: `x-request-id`.
    request_id: Box<str>,
    /// The tool.
    tool: Box<str>,
    /// Hash of tool and arguments, whatever the order of their members.
    #[serde(serialize_with = "hex")]
    call: u64,
    /// Hash of what came of it, times and other volatile parts left out; null without a result.
    #[serde(serialize_with = "maybe_hex")]
    result: Option<u64>,
    /// The tool has reported a failure.
    failed: bool,
}

impl Kept for CallView {
    fn texts(&self) -> usize {
        self.request_id.len() + self.tool.len()
    }
}

impl Sessions {
    /// A turn of so many messages has brought results of `calls`. One that is sent again, since it has failed, brings
    /// nothing new; the ids of calls alone do not tell: some servers count anew in each answer.
    pub fn called(&self, visit: &Visit, request: &str, messages: usize, calls: &[Called<'_>]) {
        if calls.is_empty() {
            return;
        }
        let mut step = Xxh3::new();
        step.write_usize(messages);
        calls.iter().for_each(|call| step.write(call.id.as_bytes()));
        // Half of it is enough within a session, of which there are many.
        let step = step.finish() as u32;
        if visit.session.last_step.swap(step, Ordering::Relaxed) == step {
            return;
        }
        let at = SystemTime::now();
        let mut ring = self.calls.lock();
        for call in calls.iter().take(MAX_CALLS) {
            let entry = CallView {
                at,
                request_id: request.into(),
                tool: call.tool[..floor(call.tool, MAX_NAME)].into(),
                call: call.call,
                result: call.result,
                failed: call.failed,
            };
            ring.push(visit.session(), entry);
        }
    }
}

fn time<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*at))
}

fn hex<S: serde::Serializer>(hash: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{hash:016x}"))
}

fn maybe_hex<S: serde::Serializer>(hash: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match hash {
        Some(hash) => hex(hash, serializer),
        None => serializer.serialize_none(),
    }
}
