//! `/sim/...`: what tests may look at and change while a simulated server runs.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    config::Speculation,
    engine::{Life, Sim},
    step::ErrorStep,
};

/// Changes to a running server; missing fields stay. The body of `POST /sim/state`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patch {
    /// Answer 503 `Loading model` until this is false.
    pub loading: Option<bool>,
    /// Answer 503 `Loading model` for this long, in milliseconds.
    pub load_ms: Option<u64>,
    /// Slots stay busy without progress.
    pub wedged: Option<bool>,
    /// The model is out of memory (`--sleep-idle-seconds`) until the next request.
    pub sleeping: Option<bool>,
    /// Answer nothing but `/sim/...`.
    pub frozen: Option<bool>,
    /// Another build.
    pub build_info: Option<String>,
    /// Another prefill speed in tokens per second; 0 = no wait.
    pub prefill_tps: Option<f64>,
    /// Another decode speed in steps per second; 0 = no wait.
    pub decode_tps: Option<f64>,
    /// Another speculation type, with its usual draft size and acceptance.
    pub spec_type: Option<String>,
    /// Probability that a drafted token is accepted, on any text.
    pub accept_rate: Option<f64>,
    /// Probability that a decode step drafts, on any text.
    pub draft_rate: Option<f64>,
    /// Fail the next generation requests before any byte.
    pub fail: Option<FailNext>,
    /// Abandoned requests keep their slot until they would have ended.
    pub orphans: Option<bool>,
    /// Overflow the KV cache now: every running request fails.
    pub overflow: Option<bool>,
}

/// Errors for the next requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailNext {
    /// How many requests fail; 0 cancels what is left.
    pub times: usize,
    /// The error.
    #[serde(flatten)]
    pub error: ErrorStep,
}

/// Longest loading time.
const LONGEST_LOAD_MS: u64 = 24 * 3600 * 1000;

/// Most failures that can be queued.
const MOST_FAILURES: usize = 100_000;

impl Sim {
    /// Applies changes.
    ///
    /// # Errors
    /// A text when a value makes no sense; then nothing was changed.
    pub(crate) fn patch(&self, patch: Patch) -> Result<(), String> {
        let speculation = patch
            .spec_type
            .as_deref()
            .map(str::parse::<Speculation>)
            .transpose()?;
        for rate in [patch.accept_rate, patch.draft_rate].into_iter().flatten() {
            if !(0.0..=1.0).contains(&rate) {
                return Err(format!("a rate is between 0 and 1, not {rate}"));
            }
        }
        let mut live = self.live.lock();
        set(&mut live.speculation, speculation);
        set(&mut live.speculation.plain.accept_rate, patch.accept_rate);
        set(
            &mut live.speculation.repetitive.accept_rate,
            patch.accept_rate,
        );
        set(&mut live.speculation.plain.draft_rate, patch.draft_rate);
        set(
            &mut live.speculation.repetitive.draft_rate,
            patch.draft_rate,
        );
        set(&mut live.loading, patch.loading);
        set(&mut live.sleeping, patch.sleeping);
        set(&mut live.build_info, patch.build_info);
        set(&mut live.prefill_tps, patch.prefill_tps);
        set(&mut live.decode_tps, patch.decode_tps);
        set(&mut live.orphans, patch.orphans);
        let ready = patch
            .load_ms
            .map(|ms| Instant::now() + Duration::from_millis(ms.min(LONGEST_LOAD_MS)));
        set(&mut live.ready_at, ready);
        if let Some(fail) = patch.fail {
            live.failures = vec![fail.error; fail.times.min(MOST_FAILURES)].into();
        }
        drop(live);
        self.gate.send_if_modified(|gate| {
            let before = *gate;
            set(&mut gate.wedged, patch.wedged);
            set(&mut gate.frozen, patch.frozen);
            gate.faults += u64::from(patch.overflow == Some(true));
            *gate != before
        });
        Ok(())
    }

    /// What `GET /sim/state` shows.
    pub(crate) fn state(&self) -> Value {
        let gate = *self.gate.borrow();
        let live = self.live.lock().clone();
        json!({
            "name": self.config.name,
            "alias": self.config.alias,
            "loading": self.is_loading(),
            "wedged": gate.wedged,
            "frozen": gate.frozen,
            "build_info": live.build_info,
            "prefill_tps": live.prefill_tps,
            "decode_tps": live.decode_tps,
            "speculation": live.speculation,
            "orphans": live.orphans,
            "failures": live.failures.len(),
            "busy": self.busy(),
            "deferred": self.deferred(),
            "requests": self.requests.lock().total,
        })
    }

    /// Kills the server: listener and connections go at once.
    pub(crate) fn die(&self, restart_after: Option<Duration>) {
        self.life.send_if_modified(|life| {
            let alive = *life == Life::Alive;
            if alive {
                *life = Life::Dead { restart_after };
            }
            alive
        });
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// The body of `POST /sim/die`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Die {
    /// Listen again on the same address after this time, with empty caches; never when missing.
    pub(crate) restart_ms: Option<u64>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Method.
    pub method: String,
    /// Path with query.
    pub target: String,
    /// Headers in their order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

impl Recorded {
    /// The value of the first header of this (lower-case) name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// What `GET /sim/requests` shows: a body that is no JSON becomes a string.
    fn shown(&self) -> Value {
        let body = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&self.body)));
        json!({"method": self.method, "target": self.target, "headers": self.headers, "body": body})
    }
}

/// The last POST requests, bounded in number and bytes.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) total: u64,
    last: VecDeque<Recorded>,
    bytes: usize,
}

const MOST_REQUESTS: usize = 256;
const MOST_BYTES: usize = 64 << 20;

impl Requests {
    pub(crate) fn push(&mut self, request: Recorded) {
        self.total += 1;
        self.bytes += request.body.len();
        self.last.push_back(request);
        while self.last.len() > MOST_REQUESTS || (self.bytes > MOST_BYTES && self.last.len() > 1) {
            self.bytes -= self
                .last
                .pop_front()
                .map_or(0, |request| request.body.len());
        }
    }

    pub(crate) fn last(&self) -> Vec<Recorded> {
        self.last.iter().cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self {
            total: self.total,
            ..Self::default()
        };
    }

    pub(crate) fn shown(&self) -> Value {
        json!({"total": self.total, "requests": self.last.iter().map(Recorded::shown).collect::<Vec<_>>()})
    }
}
