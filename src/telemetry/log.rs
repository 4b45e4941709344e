//! Setting up `tracing`: diagnostics to standard error, access lines to standard output.
//!
//! Pingora speaks through the `log` crate; a bridge brings its lines in, never below level INFO:
//! at DEBUG it prints whole request headers and body chunks, which hold credentials and prompts.

use std::fmt;
use std::io;

use thiserror::Error;
use tracing::{Event, Metadata, Subscriber};
use tracing_log::{LogTracer, log};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::{
    DefaultFields, Format, FormatEvent, FormatFields, JsonFields, Writer,
};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::access_log;
use super::level::Level;
use crate::config::LogFormat;

/// Environment variable that replaces `telemetry.level` with filter directives, for example
/// `info,drover::fleet=debug`
/// (<https://docs.rs/tracing-subscriber/0.3/tracing_subscriber/filter/struct.EnvFilter.html>).
pub const ENV: &str = "DROVER_LOG";

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
    let subscriber = subscriber(format, filter, Split);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Installed)?;
    level.install();
    Ok(())
}

fn subscriber<F, W>(format: LogFormat, filter: F, writer: W) -> impl Subscriber + Send + Sync
where
    F: Layer<Registry> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = match format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines(Format::default().json().flatten_event(true)))
            .with_writer(writer)
            .boxed(),
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .event_format(TextLines(Format::default().compact()))
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

struct JsonLines(Format<tracing_subscriber::fmt::format::Json>);
struct TextLines(Format<tracing_subscriber::fmt::format::Compact>);

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() == access_log::TARGET {
            access_line(&mut writer, event, |out, record| {
                writeln!(out, "{record:?}")
            })
        } else {
            self.0.format_event(ctx, writer, event)
        }
    }
}

impl<S> FormatEvent<S, DefaultFields> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    DefaultFields: for<'w> FormatFields<'w>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() == access_log::TARGET {
            access_line(&mut writer, event, |out, record| {
                writeln!(out, "{record:#?}")
            })
        } else {
            self.0.format_event(ctx, writer, event)
        }
    }
}

type Render = fn(&mut Writer<'_>, &dyn fmt::Debug) -> fmt::Result;

/// Writes the event's `record` and nothing else. The field was recorded by its `Display` form, so
/// `{:?}` reaches [`access_log::Record`]'s `Display` with the flags of `render`.
fn access_line(out: &mut Writer<'_>, event: &Event<'_>, render: Render) -> fmt::Result {
    struct Visitor<'a, 'w> {
        out: &'a mut Writer<'w>,
        render: Render,
        result: fmt::Result,
    }
    impl tracing::field::Visit for Visitor<'_, '_> {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
            if field.name() == "record" {
                self.result = (self.render)(self.out, value);
            }
        }
    }
    let mut visitor = Visitor {
        out,
        render,
        result: Ok(()),
    };
    event.record(&mut visitor);
    visitor.result
}

/// Access lines to standard output, everything else to standard error.
struct Split;

impl<'w> MakeWriter<'w> for Split {
    type Writer = Box<dyn io::Write + 'w>;

    fn make_writer(&'w self) -> Self::Writer {
        Box::new(io::stderr().lock())
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Self::Writer {
        if metadata.target() == access_log::TARGET {
            Box::new(io::stdout().lock())
        } else {
            self.make_writer()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::access_log::Record;
    use crate::telemetry::labels::Dialect;
    use crate::telemetry::level::filter;
    use parking_lot::Mutex;
    use std::sync::Arc;

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

    fn record() -> Record {
        Record::new("id".into(), "GET", "/x", Dialect::Native)
    }

    #[test]
    fn access_lines_are_the_record_alone() {
        let record = record();
        let json = logged(LogFormat::Json, "info", || record.emit());
        assert_eq!(json, format!("{record}\n"));
        let text = logged(LogFormat::Text, "info", || record.emit());
        assert_eq!(text, format!("{record:#}\n"));
    }

    #[test]
    fn access_lines_survive_a_quiet_level_but_not_off() {
        assert!(!logged(LogFormat::Json, "error", || record().emit()).is_empty());
        assert!(!logged(LogFormat::Json, "drover=warn", || record().emit()).is_empty());
        assert!(logged(LogFormat::Json, "off", || record().emit()).is_empty());
        assert!(logged(LogFormat::Json, "info,access=off", || record().emit()).is_empty());
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
            record().emit();
        });
        let lines = String::from_utf8(buffer.0.lock().clone()).unwrap();
        let said = ["first", "second", "third", "fourth"].map(|text| lines.contains(text));
        assert_eq!(said, [false, true, true, false], "{lines}");
        assert_eq!(lines.lines().count(), 3, "access lines go on: {lines}");
    }
}
