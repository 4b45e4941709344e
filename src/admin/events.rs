//! `/api/events`: what the console shows, as server-sent events.
//!
//! `fleet` (whenever it has changed) and `live` (the turns under way) once a second; `request`,
//! `intervention`, `policy`, `finding` and `backend_changed` as they happen; `missed` when this reader was too slow for all of them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_http::ResponseHeader;
use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::State;
use super::view::BackendView;
use crate::server::drain::Phase;
use crate::telemetry::feed::{Feed, News};

/// Readers at the same time.
pub(super) const MOST_READERS: usize = 32;

const EVERY: Duration = Duration::from_secs(1);
/// News of so long are sent together: a busy gateway has thousands a second, and each writing costs as much as all of
/// them at once.
const GATHER: Duration = Duration::from_millis(50);
/// Bytes of news after which they are sent, whatever else there is.
const MOST_AT_ONCE: usize = 256 << 10;
/// A reader that takes nothing for so long has gone.
const WRITE: Duration = Duration::from_secs(10);
/// Turns shown of those under way.
const MOST_TURNS: usize = 200;

/// Data of `fleet`.
#[derive(Serialize)]
struct FleetNow {
    version: &'static str,
    draining: bool,
    sessions: usize,
    backends: Vec<BackendView>,
    queues: Vec<Waiting>,
}

#[derive(Serialize)]
struct Waiting {
    pool: String,
    class: &'static str,
    waiting: u64,
}

impl FleetNow {
    fn of(state: &State) -> Self {
        let queues = state.metrics.fleet_sample().queues.into_iter();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            draining: state.inflight.phase() == Phase::Draining,
            sessions: state.sessions.len(),
            backends: state.fleet.backends(),
            queues: queues
                .map(|queue| Waiting {
                    pool: queue.pool.to_string(),
                    class: queue.class,
                    waiting: queue.waiting,
                })
                .collect(),
        }
    }
}

/// Serves one reader until it leaves or the process ends.
pub(super) async fn serve(state: &State, http: &mut ServerSession, shutdown: &ShutdownWatch) {
    http.set_keepalive(None);
    http.set_write_timeout(Some(WRITE));
    let Ok(head) = head() else { return };
    if http.write_response_header(Box::new(head)).await.is_ok() {
        send_all(state, http, shutdown.clone()).await;
    }
}

fn head() -> pingora_core::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(4))?;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::TRANSFER_ENCODING, "chunked"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        head.insert_header(name, HeaderValue::from_static(value))?;
    }
    Ok(head)
}

async fn send_all(state: &State, http: &mut ServerSession, mut shutdown: ShutdownWatch) {
    let feed = Feed::global();
    let mut news = feed.watch();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fleet = String::new();
    loop {
        let text = tokio::select! {
            _ = shutdown.changed() => return,
            told = news.recv() => {
                let mut text = String::new();
                if !push(&mut text, told) {
                    return;
                }
                sleep(GATHER).await;
                while text.len() < MOST_AT_ONCE && !news.is_empty() {
                    if !push(&mut text, news.recv().await) {
                        return;
                    }
                }
                text
            }
            _ = ticks.tick() => state_of(state, feed, &mut fleet),
        };
        let sent = http.write_response_body(Bytes::from(text), false);
        if sent.await.is_err() {
            return;
        }
    }
}

/// Appends a piece of news. Whether there can be more.
fn push(text: &mut String, told: Result<News, RecvError>) -> bool {
    match told {
        Ok(news) => write_event(text, news.kind, &news.json),
        Err(RecvError::Lagged(missed)) => {
            text.push_str(&event("missed", &json!({ "events": missed }).to_string()));
        }
        Err(RecvError::Closed) => return false,
    }
    true
}

/// `live`, and `fleet` if it is not what was sent `before`.
fn state_of(state: &State, feed: &Feed, before: &mut String) -> String {
    let live = json!({ "turns": feed.underway(MOST_TURNS) }).to_string();
    let mut text = event("live", &live);
    if let Ok(now) = serde_json::to_string(&FleetNow::of(state))
        && now != *before
    {
        text.push_str(&event("fleet", &now));
        *before = now;
    }
    text
}

fn event(kind: &str, json: &str) -> String {
    let mut text = String::new();
    write_event(&mut text, kind, json);
    text
}

fn write_event(text: &mut String, kind: &str, json: &str) {
    for part in ["event: ", kind, "\ndata: ", json, "\n\n"] {
        text.push_str(part);
    }
}
