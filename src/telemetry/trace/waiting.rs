//! Turns that wait to be sent, as the bytes that will be.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{TracedTurn, otlp};

/// Turns that wait at most; further ones are dropped.
const MOST: u64 = 4096;
/// Turns of one request.
const BATCH: u64 = 256;

/// What goes into one request.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Its spans, as the protocol has them.
    pub(super) spans: Vec<u8>,
    pub(super) turns: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: Mutex<Queue>,
    /// There is something to send.
    some: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Batch>,
    turns: u64,
}

impl Waiting {
    /// Adds a turn. `false` where too many wait; then it is lost.
    #[must_use]
    pub(super) fn push(&self, turn: &TracedTurn<'_>) -> bool {
        if self.queue.lock().turns >= MOST {
            return false;
        }
        // Outside the lock, for which other requests wait.
        let spans = otlp::spans(turn);
        let mut queue = self.queue.lock();
        if queue.batches.back().is_none_or(|last| last.turns >= BATCH) {
            queue.batches.push_back(Batch::default());
        }
        if let Some(last) = queue.batches.back_mut() {
            last.spans.extend_from_slice(&spans);
            last.turns += 1;
        }
        queue.turns += 1;
        let is_first = queue.turns == 1;
        drop(queue);
        if is_first {
            self.some.notify_one();
        }
        true
    }

    /// Waits until there is something.
    pub(super) async fn some(&self) {
        while self.queue.lock().turns == 0 {
            self.some.notified().await;
        }
    }

    /// Whether there is as much as goes into one request.
    pub(super) fn is_full(&self) -> bool {
        self.queue.lock().turns >= BATCH
    }

    /// Takes what goes into the next request.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut queue = self.queue.lock();
        let batch = queue.batches.pop_front()?;
        queue.turns -= batch.turns;
        Some(batch)
    }
}
