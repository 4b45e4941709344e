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
