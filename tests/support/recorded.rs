//! What a scripted backend has seen.

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::http::Headers;
use super::wait::patiently;

/// A POST as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// Which connection, counted from 0 in order of acceptance.
    pub(crate) connection: usize,
    /// `POST /v1/… HTTP/1.1`.
    pub(crate) line: String,
    pub(crate) headers: Headers,
    /// Empty when the script answers early.
    pub(crate) body: Bytes,
    /// When the peer closed the connection while this was being answered.
    pub(crate) cancelled: Option<Instant>,
    /// Whether the script has run to its end.
    pub(crate) answered: bool,
}

impl Recorded {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the forwarded body is JSON")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the forwarded body is UTF-8")
    }
}

/// The record of one backend.
#[derive(Debug, Default)]
pub(crate) struct Record {
    requests: Mutex<Vec<Recorded>>,
    changed: Notify,
}

impl Record {
    pub(crate) fn add(&self, request: Recorded) -> usize {
        let mut requests = self.requests.lock();
        requests.push(request);
        self.changed.notify_waiters();
        requests.len() - 1
    }

    pub(crate) fn update(&self, index: usize, change: impl FnOnce(&mut Recorded)) {
        change(&mut self.requests.lock()[index]);
        self.changed.notify_waiters();
    }

    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.requests.lock().clone()
    }

    /// Wait until `ask` finds what it looks for.
    pub(crate) async fn when<T>(&self, what: &str, ask: impl Fn(&[Recorded]) -> Option<T>) -> T {
        patiently(what, async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = ask(&self.requests.lock()) {
                    return found;
                }
                changed.await;
            }
        })
        .await
    }
}
