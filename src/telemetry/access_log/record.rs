//! What happened in one request: the schema of the access log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::ClientText;
use crate::config::RequestClass;
use crate::telemetry::labels::{Dialect, Outcome};

/// Room for nearly every line, in bytes.
const LINE: usize = 1024;

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
        let mut line = Vec::with_capacity(LINE);
        // A record is made of texts, numbers and lists of texts, all of which serialise, as UTF-8.
        let written = serde_json::to_writer(&mut line, self).ok();
        let text = written.and_then(|()| String::from_utf8(line).ok());
        text.unwrap_or_default()
    }
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
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn record() -> Record {
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
