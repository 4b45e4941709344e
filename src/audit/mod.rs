//! The audit log: every decision of policy, in a chain of hashes, on a disk.
//!
//! [`Audit`] takes decisions from requests; a thread of its own writes them in batches. [`verify`] finds what
//! was changed, [`query`] finds records.

mod draft;
mod error;
mod evidence;
mod files;
mod head;
mod journal;
mod query;
mod record;
mod report;
mod tail;
mod verify;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::config;
use crate::policy::{Decision, Evidence, Request, TurnPolicy};
use crate::telemetry::Metrics;

use draft::Draft;
use journal::{Journal, Rotation};
use writer::{Entry, Queue, Writer};

pub use draft::{CUT, Whose};
pub use error::JournalError;
pub use evidence::{Documents, NoEvidence};
pub use query::{Filter, Follow, last, read};
pub use record::{Chain, Record};
pub use report::{Problem, Report, What};
pub use verify::verify;

#[cfg(test)]
mod tests;

/// Longest wait for the last records when the process ends.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// `audit.path` cannot be written.
    #[error("audit.path: {0}")]
    Path(#[from] JournalError),
    /// `audit.key_file` cannot be read.
    #[error("audit.key_file: {}: {source}", path.display())]
    Key {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No thread to write with.
    #[error("audit: no thread: {0}")]
    Thread(std::io::Error),
}

/// The audit log of a process. Dropping it writes what waits.
#[derive(Debug)]
pub struct Audit {
    queue: Arc<Queue>,
    allows: bool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// Opens the log that `config` names, and begins one where there is none.
    ///
    /// A disk that is full or broken does not keep the gateway from starting: the log is tried again until it
    /// works, and calls that required rules are about are blocked meanwhile.
    ///
    /// # Errors
    /// What only a human can mend: the path may not be written, or holds what another key has signed.
    pub fn open(config: &config::Audit) -> Result<Arc<Self>, OpenError> {
        let chain = chain(config.key_file.as_deref())?;
        let rotation = Rotation {
            size: config.rotate.size.as_u64(),
            every: config.rotate.every,
            keep: config.rotate.keep,
        };
        let mut journal = Journal::new(&config.path, chain, rotation);
        let tried = error::is_writable(&config.path).and_then(|()| journal.append(&mut []));
        let queue = Arc::new(Queue::new(config.queue));
        let first = match tried {
            Ok(_) => None,
            Err(error) if error.may_pass() => {
                queue.begin_closed(&error);
                Some(Draft::note("began_closed", error.to_string()))
            }
            Err(error) => return Err(error.into()),
        };
        let writer = Writer {
            first,
            journal,
            every: config.flush_every,
            max_text: usize::try_from(config.max_text.as_u64()).unwrap_or(usize::MAX),
        };
        let own = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let thread = thread.spawn(move || writer.run(&own));
        let thread = thread.map_err(OpenError::Thread)?;
        Ok(Arc::new(Self {
            queue,
            allows: config.allows,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Whether decisions are recorded at the moment.
    pub fn is_open(&self) -> bool {
        self.queue.is_open()
    }

    /// Why they are not.
    pub fn trouble(&self) -> Option<String> {
        self.queue.trouble()
    }

    /// Decisions that are not on the disk yet.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Waits for the disk, some seconds at most: the process is about to end.
    pub fn flush(&self) {
        if !self.queue.flush(LAST_WAIT) {
            tracing::error!(
                records = self.waiting(),
                "AUDIT: the last decisions were not recorded"
            );
        }
    }

    /// Its part for one turn.
    pub fn turn(self: &Arc<Self>, whose: Whose) -> TurnAudit {
        TurnAudit {
            audit: Arc::clone(self),
            whose: Arc::new(whose),
            evidence: None,
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.lock().take() {
            // It has no result; that it has ended is what matters.
            let _ = thread.join();
        }
    }
}

/// The chain's hash, with the key in `key_file` if there is one.
///
/// # Errors
/// The file cannot be read.
pub fn chain(key_file: Option<&Path>) -> Result<Chain, OpenError> {
    let Some(path) = key_file else {
        return Ok(Chain::new(None));
    };
    let key = std::fs::read(path).map_err(|source| OpenError::Key {
        path: path.to_owned(),
        source,
    })?;
    Ok(Chain::new(Some(key.trim_ascii())))
}

/// Records the decisions of one turn.
#[derive(Clone, Debug)]
pub struct TurnAudit {
    audit: Arc<Audit>,
    whose: Arc<Whose>,
    /// The same for the whole turn.
    evidence: Option<Arc<Evidence>>,
}

impl TurnAudit {
    /// With what the turn's rules decide on.
    #[must_use]
    pub fn of(self, policy: &TurnPolicy) -> Self {
        Self {
            evidence: Some(Arc::new(policy.evidence(None))),
            ..self
        }
    }

    /// Whether decisions are recorded at the moment.
    pub fn is_open(&self) -> bool {
        self.audit.is_open()
    }

    /// Record `decisions`.
    pub fn record(&self, decisions: &[Decision]) {
        self.push(decisions, self.evidence.as_ref());
    }

    /// Record `decisions` about a request as a whole.
    pub fn record_request(&self, policy: &TurnPolicy, request: &Request, decisions: &[Decision]) {
        if !decisions.is_empty() {
            self.push(decisions, Some(&Arc::new(policy.evidence(Some(request)))));
        }
    }

    fn push(&self, decisions: &[Decision], evidence: Option<&Arc<Evidence>>) {
        let at = SystemTime::now();
        for decision in decisions {
            if !self.audit.allows && decision.is_plain_allow() {
                continue;
            }
            self.audit.queue.push(Entry {
                whose: Arc::clone(&self.whose),
                decision: decision.clone(),
                evidence: evidence.cloned(),
                at,
            });
        }
    }
}

/// What the gauges of the metrics ask for.
pub fn watch(audit: &Arc<Audit>) {
    let watched = Arc::clone(audit);
    Metrics::global().watch_audit(move || (watched.waiting(), watched.is_open()));
}
