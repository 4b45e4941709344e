//! The access log: one line a request, a stable schema.
//!
//! As JSON a line is exactly a serialised [`Record`], as text the same fields in the order that reads
//! best. Fields are only ever added. There is no field for prompts, generated text, header values other
//! than the client's name, or credentials.
//!
//! Lines do not go through `tracing`, whose events would be formatted by the thread that serves the client,
//! and written by it one by one. Filter directives rule them all the same, by the target [`TARGET`].

mod record;
mod text;

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Metrics;
pub use super::client_text::ClientText;
use super::lines::Lines;
use crate::config::LogFormat;

pub use record::{Record, Speculation};

/// What access lines are called in filter directives.
pub const TARGET: &str = "access";

/// The process's access log, once its logger is set up.
static LOG: once_cell::sync::OnceCell<AccessLog> = once_cell::sync::OnceCell::new();

/// Where lines go, in which form, and whether there are any.
pub(super) struct AccessLog {
    pub(super) format: LogFormat,
    pub(super) enabled: Arc<AtomicBool>,
    pub(super) lines: Lines,
}

impl AccessLog {
    /// Makes it the log of the process; the first stays.
    pub(super) fn install(self) {
        let _ = LOG.set(self);
    }

    pub(super) fn write(&self, line: &Line<'_>) {
        if !self.enabled.load(Ordering::Relaxed) {
            return;
        }
        let is_kept = match self.format {
            LogFormat::Json => self.lines.push(line.json().as_bytes()),
            LogFormat::Text => self.lines.push(line.record.text().as_bytes()),
        };
        if !is_kept {
            Metrics::global().access_line_lost();
        }
    }
}

/// Waits for the last lines to be written, at most for `patience`.
pub(super) fn flush(patience: Duration) {
    if let Some(log) = LOG.get() {
        log.lines.flush(patience);
    }
}

/// The line of a record. JSON is made at most once, for all who want it.
pub struct Line<'a> {
    record: &'a Record,
    json: OnceCell<Arc<str>>,
}

impl<'a> Line<'a> {
    /// The line of `record`.
    #[must_use]
    pub fn of(record: &'a Record) -> Self {
        let json = OnceCell::new();
        Self { record, json }
    }

    /// One line of JSON.
    pub fn json(&self) -> &Arc<str> {
        self.json.get_or_init(|| self.record.json().into())
    }

    /// Writes it to the access log.
    pub fn log(&self) {
        if let Some(log) = LOG.get() {
            log.write(self);
        }
    }
}
