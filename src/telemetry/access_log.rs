//! The access log: one line a request, a stable schema.
//!
//! As JSON a line is exactly a serialised [`Record`], as text the same fields in the order that reads
//! best. Fields are only ever added. There is no field for prompts, generated text, header values other
//! than the client's name, or credentials.
//!
//! Lines do not go through `tracing`, whose events would be formatted by the thread that serves the client,
//! and written by it one by one. Filter directives rule them all the same, by the target [`TARGET`].

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::Metrics;
pub use super::client_text::ClientText;
use super::labels::{Dialect, Outcome};
use super::lines::Lines;
use crate::config::{LogFormat, RequestClass};

/// What access lines are called in filter directives.
pub const TARGET: &str = "access";

/// The process's access log, once its logger is set up.
static LOG: once_cell::sync::OnceCell<AccessLog> = once_cell::sync::OnceCell::new();

/// Longest wait for a line to be written when the process ends.
const LAST_LINES: Duration = Duration::from_secs(2);

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
            LogFormat::Json => self.lines.push(line.json()),
            LogFormat::Text => self.lines.push(&line.record.text()),
        };
        if !is_kept {
            Metrics::global().access_line_lost();
        }
    }
}

/// Waits for the last lines to be written; the process ends.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.lines.flush(LAST_LINES);
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

/// What happened in one request.
///
/// Absent values are left out of the line. Times are whole numbers in the unit of the name.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// When the request header was complete: RFC 3339, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// The value of `x-request-id`.
    pub request_id: String,
    /// Request method.
    pub method: ClientText,
    /// Path without the query, which may carry credentials.
    pub path: ClientText,
    /// How the client spoke to us.
    pub dialect: Dialect,
    /// The client's `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientText>,
    /// Trace of the turn, where it is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Name of the API key used, from the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The derived session key (a hash), not a client's header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The model the client asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ClientText>,
    /// Name of the pool that served it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Name of the backend of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// llama.cpp build of the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Arc<str>>,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// HTTP status sent; 0 when the client left before one was sent.
    pub status: u16,
    /// How the request ended, the label of `drover_requests_total`.
    pub outcome: Outcome,
    /// Why generation stopped, in the words of the turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<&'static str>,
    /// Upstream requests made.
    pub attempts: u32,
    /// Prompt tokens, cached ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_in: Option<u64>,
    /// Prompt tokens found in the prefix cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_cached: Option<u64>,
    /// Generated tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_out: Option<u64>,
    /// Milliseconds to the first content event.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "opt_millis",
        rename = "ttft_ms"
    )]
    pub ttft: Option<Duration>,
    /// Milliseconds to the end of the request.
    #[serde(serialize_with = "millis", rename = "total_ms")]
    pub total: Duration,
    /// Microseconds of own time, the value of `x-drover-overhead-us`.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "opt_micros",
        rename = "overhead_us"
    )]
    pub overhead: Option<Duration>,
    /// Of a turn: its class, and what came of speculation.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Speculation>,
    /// What guards changed, by kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interventions: Vec<&'static str>,
    /// What policy decided, but for calls that no rule concerned: decision, rule and mode.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy: Vec<String>,
    /// Kind of the error, when there was one: a fixed word, never a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// Request body bytes read.
    pub bytes_in: u64,
    /// Response body bytes sent.
    pub bytes_out: u64,
}

/// A turn as the statistics of speculation count it (docs/speculative.md).
#[derive(Clone, Debug, Serialize)]
pub struct Speculation {
    /// Class of the request.
    pub class: RequestClass,
    /// What the backend of the last attempt ran: a profile, `none`, or `unknown`.
    pub profile: Arc<str>,
    /// Draft tokens proposed in that attempt.
    pub drafted: u64,
    /// Draft tokens accepted.
    pub accepted: u64,
    /// Drafts verified.
    pub verify_steps: u64,
}

impl Record {
    /// A record of a request that has just begun; the other fields are filled in as they become
    /// known.
    #[must_use]
    pub fn new(request_id: String, method: &str, path: &str, dialect: Dialect) -> Self {
        Self {
            time: SystemTime::now(),
            request_id,
            method: ClientText::new(method),
            path: ClientText::new(path.split('?').next().unwrap_or_default()),
            dialect,
            client: None,
            trace_id: None,
            principal: None,
            session: None,
            model: None,
            pool: None,
            backend: None,
            build: None,
            stream: false,
            status: 0,
            outcome: Outcome::Internal,
            stop_reason: None,
            attempts: 0,
            tokens_in: None,
            tokens_cached: None,
            tokens_out: None,
            ttft: None,
            total: Duration::ZERO,
            overhead: None,
            spec: None,
            interventions: Vec::new(),
            policy: Vec::new(),
            error: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// One line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // A record is made of texts, numbers and lists of texts, all of which serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// One line for people.
    #[must_use]
    pub fn text(&self) -> String {
        struct Text<'a>(&'a Record);
        impl fmt::Display for Text<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt_text(f)
            }
        }
        Text(self).to_string()
    }

    fn fmt_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {}ms",
            humantime::format_rfc3339_millis(self.time),
            self.method,
            self.path,
            self.status,
            self.outcome.as_str(),
            self.total.as_millis(),
        )?;
        let mut pair = |name: &str, value: Option<&dyn fmt::Display>| match value {
            Some(value) => write!(f, " {name}={value}"),
            None => Ok(()),
        };
        pair(
            "ttft_ms",
            self.ttft.map(|t| t.as_millis()).as_ref().map(display),
        )?;
        pair("model", self.model.as_ref().map(display))?;
        pair("pool", self.pool.as_ref().map(display))?;
        pair("backend", self.backend.as_ref().map(display))?;
        let ran = self.spec.as_ref().map(|spec| &spec.profile);
        pair("profile", ran.map(display))?;
        pair(
            "attempts",
            (self.attempts > 1).then_some(&self.attempts).map(display),
        )?;
        pair("tokens_in", self.tokens_in.as_ref().map(display))?;
        pair("tokens_cached", self.tokens_cached.as_ref().map(display))?;
        pair("tokens_out", self.tokens_out.as_ref().map(display))?;
        pair("stop", self.stop_reason.as_ref().map(display))?;
        pair("error", self.error.as_ref().map(display))?;
        let interventions = self.interventions.join(",");
        pair(
            "interventions",
            (!interventions.is_empty())
                .then_some(&interventions)
                .map(display),
        )?;
        let policy = self.policy.join(",").replace(' ', ":");
        pair(
            "policy",
            (!policy.is_empty()).then_some(&policy).map(display),
        )?;
        pair(
            "overhead_us",
            self.overhead.map(|t| t.as_micros()).as_ref().map(display),
        )?;
        pair("principal", self.principal.as_ref().map(display))?;
        pair("session", self.session.as_ref().map(display))?;
        pair("trace_id", self.trace_id.as_ref().map(display))?;
        write!(f, " request_id={}", self.request_id)
    }
}

fn display<T: fmt::Display>(value: &T) -> &dyn fmt::Display {
    value
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

fn millis<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}

fn opt_millis<S: Serializer>(took: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    millis(&took.unwrap_or_default(), serializer)
}

fn opt_micros<S: Serializer>(took: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let micros = took.unwrap_or_default().as_micros();
    serializer.serialize_u64(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record = Record::new(
            "01J".to_owned(),
            "POST",
            "/v1/chat/completions?api_key=sk-secret",
            Dialect::OpenAi,
        );
        record.time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        record.client = Some(ClientText::new("OpenAI/Python 1.0"));
        record.model = Some(ClientText::new("qwen"));
        record.pool = Some("default".to_owned());
        record.backend = Some("gpu0".to_owned());
        record.stream = true;
        record.status = 200;
        record.outcome = Outcome::Ok;
        record.stop_reason = Some("stop");
        record.attempts = 2;
        record.tokens_in = Some(100);
        record.tokens_cached = Some(60);
        record.tokens_out = Some(7);
        record.ttft = Some(Duration::from_millis(42));
        record.total = Duration::from_millis(310);
        record.overhead = Some(Duration::from_micros(180));
        record.bytes_in = 2048;
        record.bytes_out = 900;
        record
    }

    #[test]
    fn json_schema_is_stable() {
        assert_eq!(
            record().json(),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.123Z","request_id":"01J","method":"POST","#,
                r#""path":"/v1/chat/completions","dialect":"openai","client":"OpenAI/Python 1.0","#,
                r#""model":"qwen","pool":"default","backend":"gpu0","stream":true,"status":200,"#,
                r#""outcome":"ok","stop_reason":"stop","attempts":2,"tokens_in":100,"#,
                r#""tokens_cached":60,"tokens_out":7,"ttft_ms":42,"total_ms":310,"#,
                r#""overhead_us":180,"bytes_in":2048,"bytes_out":900}"#
            )
        );
    }

    #[test]
    fn text_form_is_one_readable_line() {
        assert_eq!(
            record().text(),
            "2023-11-14T22:13:20.123Z POST /v1/chat/completions 200 ok 310ms ttft_ms=42 model=qwen \
             pool=default backend=gpu0 attempts=2 tokens_in=100 tokens_cached=60 tokens_out=7 \
             stop=stop overhead_us=180 request_id=01J"
        );
    }

    #[test]
    fn a_query_never_reaches_the_log() {
        assert!(!record().json().contains("sk-secret"));
        assert!(!record().text().contains("sk-secret"));
    }

    /// Other programs read these lines: what is in them is written down, all of it.
    #[test]
    fn the_schema_is_documented() {
        let mut full = record();
        full.trace_id = Some("4b".to_owned());
        full.principal = Some("team".to_owned());
        full.session = Some("s".to_owned());
        full.interventions = vec!["reask"];
        full.policy = vec!["block house.tests enforce".to_owned()];
        full.build = Some("b1".into());
        full.spec = Some(Speculation {
            class: RequestClass::Prose,
            profile: "none".into(),
            drafted: 0,
            accepted: 0,
            verify_steps: 0,
        });
        full.error = Some("timeout");
        let line: serde_json::Value = serde_json::from_str(&full.json()).unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/access-log.md");
        let page = std::fs::read_to_string(path).unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        let fields: Vec<&str> = line.as_object().unwrap().keys().map(|k| &**k).collect();
        for field in &fields {
            assert!(documented.contains(field), "{field} is not in {path}");
        }
        for outcome in Outcome::ALL {
            let outcome = format!("`{}`", outcome.as_str());
            assert!(page.contains(&outcome), "{outcome} is not in {path}");
        }
        assert_eq!(documented.len(), fields.len(), "{documented:?}");
    }

    #[test]
    fn an_unfinished_record_says_so() {
        let record = Record::new("r".into(), "GET", "/health", Dialect::Native);
        assert_eq!(
            record.outcome,
            Outcome::Internal,
            "an early drop must not look like success"
        );
        assert_eq!(record.status, 0);
    }
}
