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
mod tests {
    use super::*;
    use crate::telemetry::access_log::{Line, Record};
    use crate::telemetry::labels::Dialect;
    use crate::telemetry::level::filter;
    use parking_lot::Mutex;
    use std::sync::atomic::Ordering;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'w> MakeWriter<'w> for Buffer {
        type Writer = Self;
        fn make_writer(&'w self) -> Self {
            self.clone()
        }
    }

    fn logged(format: LogFormat, directives: &str, work: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let subscriber = subscriber(format, filter(directives).unwrap(), buffer.clone());
        tracing::subscriber::with_default(subscriber, work);
        let bytes = buffer.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// What the access log gets of one record.
    fn accessed(format: LogFormat, directives: &str) -> String {
        let buffer = Buffer::default();
        let (level, _) = Level::new(directives.to_owned()).unwrap();
        let log = AccessLog {
            format,
            enabled: Arc::clone(level.access()),
            lines: Lines::to("test", buffer.clone()).unwrap(),
        };
        log.write(&Line::of(&record()));
        log.lines.flush(Duration::from_secs(20));
        String::from_utf8(buffer.0.lock().clone()).unwrap()
    }

    fn record() -> Record {
        let mut record = Record::new("id".into(), "GET", "/x", Dialect::Native);
        record.time = std::time::SystemTime::UNIX_EPOCH;
        record
    }

    #[test]
    fn access_lines_are_the_record_alone() {
        let json = accessed(LogFormat::Json, "info");
        assert_eq!(json, format!("{}\n", record().json()));
        let text = accessed(LogFormat::Text, "info");
        assert_eq!(text, format!("{}\n", record().text()));
    }

    #[test]
    fn access_lines_survive_a_quiet_level_but_not_off() {
        assert!(!accessed(LogFormat::Json, "error").is_empty());
        assert!(!accessed(LogFormat::Json, "drover=warn").is_empty());
        assert!(accessed(LogFormat::Json, "off").is_empty());
        assert!(accessed(LogFormat::Json, "info,access=off").is_empty());
    }

    /// Each line once, however it is written.
    #[test]
    fn diagnostics_are_written_by_their_thread() {
        let buffer = Buffer::default();
        let lines = Lines::to("test", buffer.clone()).unwrap();
        let writer = Diagnostics(lines.clone());
        let subscriber = subscriber(LogFormat::Text, filter("info").unwrap(), writer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("first");
            tracing::warn!("second");
        });
        lines.flush(Duration::from_secs(20));
        let text = String::from_utf8(buffer.0.lock().clone()).unwrap();
        let ends = |line: &str, end: &str| line.ends_with(end);
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            ends(lines[0], "first") && ends(lines[1], "second"),
            "{text}"
        );
        assert_eq!(lines[2], "");
    }

    /// Whoever reads the log must not see by which way a line came.
    #[test]
    fn a_line_of_a_turn_is_as_tracing_writes_it() {
        let message = r#"REQ model="a b""#;
        let without_time = |text: &str| {
            let (at, length) = (
                text.find("20").unwrap(),
                "2026-01-01T00:00:00.000000Z".len(),
            );
            format!("{}{}", &text[..at], &text[at + length..])
        };
        for format in [LogFormat::Json, LogFormat::Text] {
            let other = logged(format, "info", || {
                tracing::info!(target: "drover::x", "{message}");
            });
            let own = line(format, SystemTime::now(), "drover::x", message);
            let own = String::from_utf8(own).unwrap();
            assert_eq!(without_time(&own), without_time(other.trim_end()));
        }
    }

    #[test]
    fn diagnostics_are_json_objects() {
        let line = logged(LogFormat::Json, "debug", || {
            tracing::debug!(port = 80, "bound")
        });
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "bound");
        assert_eq!(value["port"], 80);
        assert_eq!(value["level"], "DEBUG");
    }

    #[test]
    fn a_level_is_for_drover_and_libraries_stay_quiet() {
        let lines = logged(LogFormat::Text, "debug", || {
            tracing::debug!(target: "drover::fleet", "own");
            tracing::info!(target: "pingora_core::server", "library");
        });
        assert!(
            lines.contains("own") && !lines.contains("library"),
            "{lines}"
        );
    }

    #[test]
    fn wire_libraries_never_print_headers() {
        let lines = logged(LogFormat::Text, "trace,h2=trace", || {
            tracing::trace!(target: "h2::hpack", "authorization: Bearer x");
        });
        assert_eq!(lines, "");
    }

    #[test]
    fn the_level_changes_while_the_process_runs() {
        let buffer = Buffer::default();
        let (level, filter) = Level::new("info".to_owned()).unwrap();
        let subscriber = subscriber(LogFormat::Text, filter, buffer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let say = |text: &str| tracing::debug!(target: "drover::x", "{text}");
            say("first");
            level.set("debug").unwrap();
            say("second");
            assert!(level.set("loud").is_err());
            assert_eq!(level.now(), "debug");
            say("third");
            level.reset().unwrap();
            say("fourth");
            assert_eq!(level.now(), "info");
            let accessed = || level.access().load(Ordering::Relaxed);
            assert!(accessed(), "access lines go on");
            level.set("info,access=off").unwrap();
            assert!(!accessed());
        });
        let lines = String::from_utf8(buffer.0.lock().clone()).unwrap();
        let said = ["first", "second", "third", "fourth"].map(|text| lines.contains(text));
        assert_eq!(said, [false, true, true, false], "{lines}");
    }
}
