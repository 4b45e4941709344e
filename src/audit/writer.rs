//! The thread that writes: a batch at a time, so that no request waits for a disk.
//!
//! Requests leave their decisions in a bounded queue. Its upper half is for decisions that are being made while
//! it fills: [`Queue::is_open`] is false from half on, and what required rules are about stops then.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use super::draft::{Draft, Whose};
use super::error::JournalError;
use super::journal::Journal;
use crate::policy::{Decision, Evidence, Kept};
use crate::telemetry::Metrics;

/// Most records of a batch.
const MAX_BATCH: usize = 1024;

/// Most memory of what waits, in bytes; as with their number, the upper half is a reserve.
const MAX_BYTES: usize = 64 << 20;

/// Pause after a failure.
const AGAIN: Duration = Duration::from_millis(500);

/// A batch that takes longer is one that fails.
const STALLED: Duration = Duration::from_secs(5);

/// A decision with what stands around it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) whose: Arc<Whose>,
    pub(super) decision: Decision,
    pub(super) evidence: Option<Arc<Evidence>>,
    pub(super) at: SystemTime,
}

impl Entry {
    fn bytes(&self) -> usize {
        let texts = [&self.decision.old, &self.decision.new];
        let texts = texts.into_iter().flatten().map(Kept::size);
        size_of::<Self>() + texts.sum::<usize>()
    }
}

/// Between requests and the thread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// There is something to do.
    wake: Condvar,
    /// Something was done.
    done: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: Vec<Entry>,
    /// Taken out of `waiting`, and not on the disk.
    writing: usize,
    /// Memory of `waiting`.
    bytes: usize,
    /// Since when.
    since: Option<Instant>,
    /// Had no room.
    lost: u64,
    trouble: Option<String>,
    /// Somebody waits for all to be written.
    hurry: bool,
    closed: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Nothing could be written when the process began.
    pub(super) fn begin_closed(&self, error: &JournalError) {
        tell(&mut self.inner.lock(), error);
    }

    /// Whether decisions are recorded at the moment.
    pub(super) fn is_open(&self) -> bool {
        let inner = self.inner.lock();
        inner.trouble.is_none() && !self.is_filling(&inner) && !inner.is_stalled()
    }

    /// Why not.
    pub(super) fn trouble(&self) -> Option<String> {
        let inner = self.inner.lock();
        let full = || {
            self.is_filling(&inner)
                .then(|| "the queue is full".to_owned())
        };
        let stalled = || {
            inner
                .is_stalled()
                .then(|| "writing takes too long".to_owned())
        };
        inner.trouble.clone().or_else(stalled).or_else(full)
    }

    /// Whether half of it is in use.
    fn is_filling(&self, inner: &Inner) -> bool {
        inner.pending() >= self.limit.div_ceil(2) || inner.bytes >= MAX_BYTES / 2
    }

    /// Decisions that are not on the disk.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().pending()
    }

    /// Takes a decision. What has no room is counted, and the count recorded.
    pub(super) fn push(&self, entry: Entry) {
        let mut inner = self.inner.lock();
        let bytes = entry.bytes();
        if inner.closed || inner.pending() >= self.limit || inner.bytes + bytes > MAX_BYTES {
            inner.lost += 1;
            Metrics::global().audit_lost(1);
            return;
        }
        inner.bytes += bytes;
        inner.waiting.push(entry);
        drop(inner);
        self.wake.notify_one();
    }

    /// Waits until all is written, at most `limit`. Whether it is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut inner = self.inner.lock();
        inner.hurry = true;
        self.wake.notify_one();
        while inner.pending() > 0 || inner.lost > 0 {
            if self
                .done
                .wait_until(&mut inner, until.into_std())
                .timed_out()
            {
                return inner.pending() == 0;
            }
        }
        true
    }

    /// The thread ends once nothing waits, or cannot be written.
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
        self.wake.notify_one();
    }
}

impl Inner {
    fn pending(&self) -> usize {
        self.waiting.len() + self.writing
    }

    fn is_stalled(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() > STALLED)
    }
}

/// How records are made and written.
pub(super) struct Writer {
    /// To be recorded before all else.
    pub(super) first: Option<Draft>,
    pub(super) journal: Journal,
    pub(super) every: Duration,
    pub(super) max_text: usize,
}

impl Writer {
    /// Until the queue is closed.
    pub(super) fn run(mut self, queue: &Queue) {
        if let Some(first) = self.first.take()
            && !self.write(queue, &mut [first])
        {
            return;
        }
        while let Some((entries, lost)) = self.wait(queue) {
            let mut drafts: Vec<Draft> = entries.iter().map(|entry| self.draft(entry)).collect();
            drop(entries);
            if lost > 0 {
                let reason = format!("{lost} decisions could not be recorded before this one");
                drafts.push(Draft::note("lost", reason));
            }
            if !self.write(queue, &mut drafts) {
                return;
            }
        }
    }

    fn draft(&self, entry: &Entry) -> Draft {
        let Entry {
            whose,
            decision,
            evidence,
            at,
        } = entry;
        Draft::new(whose, decision, evidence.as_deref(), *at, self.max_text)
    }

    /// The next batch, and how many decisions had no room before it. None: it is over.
    fn wait(&self, queue: &Queue) -> Option<(Vec<Entry>, u64)> {
        let mut inner = queue.inner.lock();
        while inner.waiting.is_empty() && inner.lost == 0 {
            if inner.closed {
                return None;
            }
            queue.wake.wait(&mut inner);
        }
        // A moment, so that one look at the disk is enough for what comes together.
        if !inner.hurry && !inner.closed && inner.waiting.len() < MAX_BATCH {
            let until = Instant::now() + self.every;
            while !inner.hurry && !inner.closed && inner.waiting.len() < MAX_BATCH {
                if queue
                    .wake
                    .wait_until(&mut inner, until.into_std())
                    .timed_out()
                {
                    break;
                }
            }
        }
        let count = inner.waiting.len().min(MAX_BATCH);
        let rest = inner.waiting.split_off(count);
        let batch = std::mem::replace(&mut inner.waiting, rest);
        inner.writing = batch.len();
        // Its texts are on their way to other forms; what is written is bounded by a batch.
        inner.bytes -= batch.iter().map(Entry::bytes).sum::<usize>();
        inner.since = Some(Instant::now());
        Some((batch, std::mem::take(&mut inner.lost)))
    }

    /// Until it is written. Whether it could be.
    fn write(&mut self, queue: &Queue, drafts: &mut [Draft]) -> bool {
        loop {
            let begun = Instant::now();
            let result = self.journal.append(drafts);
            let mut inner = queue.inner.lock();
            let error = match result {
                Ok(written) => {
                    Metrics::global().audit_written(
                        written.records,
                        written.bytes,
                        begun.elapsed(),
                    );
                    if inner.trouble.take().is_some() {
                        tracing::info!("AUDIT: decisions are recorded again");
                    }
                    inner.writing = 0;
                    inner.since = None;
                    inner.hurry &= !inner.waiting.is_empty();
                    queue.done.notify_all();
                    return true;
                }
                Err(error) => error,
            };
            Metrics::global().audit_failure();
            tell(&mut inner, &error);
            if inner.closed {
                tracing::error!(
                    records = drafts.len(),
                    "AUDIT: decisions were not recorded: {error}"
                );
                return false;
            }
            let until = Instant::now() + AGAIN;
            while !inner.closed
                && !queue
                    .wake
                    .wait_until(&mut inner, until.into_std())
                    .timed_out()
            {}
        }
    }
}

fn tell(inner: &mut Inner, error: &JournalError) {
    let error = error.to_string();
    if inner.trouble.as_ref() != Some(&error) {
        tracing::error!("AUDIT: decisions cannot be recorded: {error}");
        inner.trouble = Some(error);
    }
}
