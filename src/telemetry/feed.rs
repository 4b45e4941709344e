//! What happens, as it happens, for whoever watches: turns under way, and news of those that end.
//!
//! While nobody watches, news are not even written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use dashmap::DashMap;
use once_cell::sync::Lazy;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast;

/// News that a slow watcher may be behind; then it misses the oldest.
const BEHIND: usize = 512;

static GLOBAL: Lazy<Feed> = Lazy::new(Feed::new);

/// One piece of news: its kind, and what there is to tell as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// `request`, `intervention`, `policy`, `finding` or `backend_changed`.
    pub kind: &'static str,
    /// One line of JSON.
    pub json: Arc<str>,
}

/// See the module's documentation.
pub struct Feed {
    news: broadcast::Sender<News>,
    underway: DashMap<u64, Arc<Shown>>,
    count: AtomicU64,
}

/// A turn under way.
#[derive(Debug, Serialize)]
pub struct Turn {
    /// `x-request-id`.
    pub request_id: String,
    /// When its header was complete, in milliseconds since 1970.
    #[serde(serialize_with = "millis", rename = "since_ms")]
    pub since: SystemTime,
    /// The client's dialect.
    pub dialect: &'static str,
    /// The model it asked for.
    pub model: String,
    /// The pool that serves it.
    pub pool: String,
    /// Its session.
    pub session: Option<String>,
}

/// A turn under way, and where it is.
#[derive(Debug, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    turn: Turn,
    /// The backend of its last attempt, and how many there were.
    #[serde(flatten, serialize_with = "locked")]
    place: Mutex<Place>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Place {
    backend: Option<Box<str>>,
    attempts: u32,
}

/// Ends the turn in the feed when dropped.
#[derive(Debug)]
pub struct Underway {
    number: u64,
    turn: Arc<Shown>,
    feed: &'static Feed,
}

impl Feed {
    /// The process's feed.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    fn new() -> Self {
        Self {
            news: broadcast::channel(BEHIND).0,
            underway: DashMap::new(),
            count: AtomicU64::new(0),
        }
    }

    /// A turn begins.
    pub fn begin(&'static self, turn: Turn) -> Underway {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let place = Mutex::default();
        let turn = Arc::new(Shown { turn, place });
        self.underway.insert(number, Arc::clone(&turn));
        Underway {
            number,
            turn,
            feed: self,
        }
    }

    /// At most `most` turns under way, the longest first.
    pub fn underway(&self, most: usize) -> Vec<Arc<Shown>> {
        let mut turns: Vec<_> = self
            .underway
            .iter()
            .map(|t| Arc::clone(t.value()))
            .collect();
        turns.sort_by_key(|shown| shown.turn.since);
        turns.truncate(most);
        turns
    }

    /// News for those who watch; `what` is asked only if somebody does.
    pub fn tell<T: Serialize>(&self, kind: &'static str, what: impl FnOnce() -> T) {
        if self.news.receiver_count() == 0 {
            return;
        }
        if let Ok(json) = serde_json::to_string(&what()) {
            self.send(kind, json.into());
        }
    }

    /// The same for what is JSON already, or will be.
    pub fn tell_json(&self, kind: &'static str, json: impl FnOnce() -> Arc<str>) {
        if self.news.receiver_count() > 0 {
            self.send(kind, json());
        }
    }

    fn send(&self, kind: &'static str, json: Arc<str>) {
        // Nobody left meanwhile is no error.
        let _ = self.news.send(News { kind, json });
    }

    /// Everything told from now on.
    pub fn watch(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Those who watch.
    pub fn watchers(&self) -> usize {
        self.news.receiver_count()
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Feed")
    }
}

impl Underway {
    /// A further attempt goes to `backend`.
    pub fn goes_to(&self, backend: &str) {
        let mut place = self.turn.place.lock();
        place.backend = Some(backend.into());
        place.attempts += 1;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.feed.underway.remove(&self.number);
    }
}

fn locked<S: serde::Serializer>(place: &Mutex<Place>, serializer: S) -> Result<S::Ok, S::Error> {
    place.lock().serialize(serializer)
}

/// The time of a piece of news: RFC 3339, UTC.
pub fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

fn millis<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn feed() -> &'static Feed {
        Box::leak(Box::new(Feed::new()))
    }

    #[test]
    fn a_turn_is_seen_while_it_lasts() {
        let feed = feed();
        let turn = Turn {
            request_id: "r1".to_owned(),
            since: SystemTime::UNIX_EPOCH,
            dialect: "openai",
            model: "m".to_owned(),
            pool: "p".to_owned(),
            session: None,
        };
        let underway = feed.begin(turn);
        underway.goes_to("gpu0");
        underway.goes_to("gpu1");
        let seen = serde_json::to_value(feed.underway(9)).unwrap();
        assert_eq!(seen[0]["backend"], "gpu1");
        assert_eq!(seen[0]["attempts"], 2);
        assert_eq!(feed.underway(0).len(), 0);
        drop(underway);
        assert!(feed.underway(9).is_empty());
    }

    #[test]
    fn news_are_written_for_those_who_watch() {
        let feed = feed();
        feed.tell("request", || -> u8 { panic!("nobody watches") });
        let mut watcher = feed.watch();
        feed.tell("request", || json!({"a": 1}));
        let news = watcher.try_recv().unwrap();
        assert_eq!((news.kind, &*news.json), ("request", r#"{"a":1}"#));
    }
}
