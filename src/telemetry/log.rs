//! Setting up `tracing`: diagnostics to standard error, access lines to standard output.
//!
//! Both are written by threads of their own: a reader that hangs costs lines, which are counted, and never holds up
//! those who are served.
//!
//! Pingora speaks through the `log` crate; a bridge brings its lines in, never below level INFO:
//! at DEBUG it prints whole request headers and body chunks, which hold credentials and prompts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use once_cell::sync::OnceCell;
use serde::Serialize;
use thiserror::Error;
use tracing::{Metadata, Subscriber};
use tracing_log::{LogTracer, log};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Format, JsonFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};

use super::Metrics;
use super::access_log::{self, AccessLog};
use super::level::Level;
use super::lines::Lines;
use crate::config::LogFormat;

/// Environment variable that replaces `telemetry.level` with filter directives, for example
/// `info,drover::fleet=debug`
/// (<https://docs.rs/tracing-subscriber/0.3/tracing_subscriber/filter/struct.EnvFilter.html>).
pub const ENV: &str = "DROVER_LOG";

/// Room for nearly every line, in bytes.
const LINE: usize = 512;

/// Longest wait for the last lines of a log to be written when the process ends.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The process's diagnostics, once its logger is set up.
static DIAGNOSTICS: OnceCell<(LogFormat, Diagnostics)> = OnceCell::new();

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The level or the directives do not parse.
    #[error("log level {directives:?}: {reason}")]
    Level {
        /// What was given.
        directives: String,
        /// What the parser said.
        reason: String,
    },
    /// Another logger is installed already.
    #[error("another logger is installed already")]
    Installed,
    /// A log has no thread to write it.
    #[error("the log cannot be written: {0}")]
    Thread(#[from] io::Error),
}

/// Installs the process's logger. `level` is a level (`info`) for Drover's own lines, with
/// libraries at WARN, or a list of directives; [`ENV`] takes its place when set.
///
/// # Errors
/// When the level does not parse, or when called twice.
pub fn init(format: LogFormat, level: &str) -> Result<(), LogError> {
    let directives = match std::env::var(ENV) {
        Ok(value) if !value.trim().is_empty() => value,
        _ => level.to_owned(),
    };
    let (level, filter) = Level::new(directives)?;
    LogTracer::builder()
        .with_max_level(log::LevelFilter::Info)
        .init()
        .map_err(|_| LogError::Installed)?;
    let diagnostics = Lines::to("log", io::stderr())?;
    let diagnostics = Diagnostics(diagnostics);
    let subscriber = subscriber(format, filter, diagnostics.clone());
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Installed)?;
    let access = AccessLog {
        format,
        enabled: Arc::clone(level.access()),
        lines: Lines::to("access-log", io::stdout())?,
    };
    access.install();
    level.install();
    let _ = DIAGNOSTICS.set((format, diagnostics));
    Ok(())
}

/// Waits for the last lines to be written; the process ends.
pub fn flush() {
    access_log::flush(LAST_LINES);
    if let Some((_, diagnostics)) = DIAGNOSTICS.get() {
        diagnostics.0.flush(LAST_LINES);
    }
}

/// Writes the line that every turn has, at INFO, as `tracing` would write it, for a third of what an event of `tracing`
/// costs. Whether it is wanted is for the caller to ask. `false` where there is no logger of the process.
#[must_use]
pub fn info(target: &str, message: fmt::Arguments<'_>) -> bool {
    let Some((format, diagnostics)) = DIAGNOSTICS.get() else {
        return false;
    };
    let line = line(*format, SystemTime::now(), target, &message.to_string());
    diagnostics.push(&line);
    true
}

fn line(format: LogFormat, at: SystemTime, target: &str, message: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Event<'a> {
        timestamp: &'a str,
        level: &'a str,
        message: &'a str,
        target: &'a str,
    }
    let timestamp = &humantime::format_rfc3339_micros(at).to_string();
    match format {
        LogFormat::Json => {
            let event = Event {
                timestamp,
                level: "INFO",
                message,
                target,
            };
            let mut line = Vec::with_capacity(LINE);
            // Texts serialise.
            let _ = serde_json::to_writer(&mut line, &event);
            line
        }
        LogFormat::Text => format!("{timestamp}  INFO {target}: {message}").into_bytes(),
    }
}

/// Takes a whole line with each writing, which is how `tracing` writes.
#[derive(Clone)]
struct Diagnostics(Lines);

impl Diagnostics {
    fn push(&self, line: &[u8]) {
        if !self.0.push(line) {
            Metrics::global().log_line_lost();
        }
    }
}

impl io::Write for Diagnostics {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.strip_suffix(b"\n").unwrap_or(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Diagnostics {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

fn subscriber<F, W>(format: LogFormat, filter: F, writer: W) -> impl Subscriber + Send + Sync
where
    F: Layer<Registry> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = match format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(Format::default().json().flatten_event(true))
            .with_writer(writer)
            .boxed(),
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .event_format(Format::default().compact())
            .with_ansi(false)
            .with_writer(writer)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines.with_filter(filter_fn(keeps_secrets)))
}

/// Libraries that speak `tracing` and print headers below INFO, whatever the directives say.
fn keeps_secrets(metadata: &Metadata<'_>) -> bool {
    let wire = ["h2", "rustls", "tokio"];
    let root = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= tracing::Level::INFO || !wire.contains(&root)
}

#[cfg(test)]
mod tests;
