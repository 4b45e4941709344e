//! The access records of the last requests, to get from a spike in a chart to the requests behind it.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::access_log::Record;

/// The records of the last requests, the newest at the end.
pub struct Recent {
    keep: usize,
    ring: Mutex<VecDeque<Arc<Record>>>,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The latest to end.
    #[default]
    Latest,
    /// The longest.
    Total,
    /// The longest to its first token.
    Ttft,
    /// The one with most time of the gateway itself.
    Overhead,
}

impl Order {
    /// `latest`, `total`, `ttft` or `overhead`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "latest" => Self::Latest,
            "total" => Self::Total,
            "ttft" => Self::Ttft,
            "overhead" => Self::Overhead,
            _ => return None,
        })
    }

    fn of(self, record: &Record) -> Option<Duration> {
        match self {
            Self::Latest => None,
            Self::Total => Some(record.total),
            Self::Ttft => record.ttft,
            Self::Overhead => record.overhead,
        }
    }
}

/// Which records, and how many. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// What comes first.
    pub order: Order,
    /// At most so many.
    pub limit: usize,
    /// With this outcome.
    pub outcome: Option<String>,
    /// Of this pool.
    pub pool: Option<String>,
    /// Whose last attempt was on this backend.
    pub backend: Option<String>,
    /// Of this session.
    pub session: Option<String>,
    /// Whose backend ran this speculative profile.
    pub profile: Option<String>,
    /// Whose backend had this build.
    pub build: Option<String>,
    /// Of this kind of turn.
    pub class: Option<String>,
    /// That ended then or later.
    pub from: Option<SystemTime>,
    /// That began then or earlier.
    pub to: Option<SystemTime>,
}

impl Query {
    fn wants(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, has: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == has)
        };
        is(&self.outcome, Some(record.outcome.as_str()))
            && is(&self.pool, record.pool.as_deref())
            && is(&self.backend, record.backend.as_deref())
            && is(&self.session, record.session.as_deref())
            && is(&self.profile, record.spec.as_ref().map(|s| &*s.profile))
            && is(&self.build, record.build.as_deref())
            && is(&self.class, record.spec.as_ref().map(|s| s.class.as_str()))
            && self
                .from
                .is_none_or(|from| record.time + record.total >= from)
            && self.to.is_none_or(|to| record.time <= to)
    }
}

impl Recent {
    /// Remembers `keep` requests.
    #[must_use]
    pub fn new(keep: usize) -> Arc<Self> {
        Arc::new(Self {
            keep,
            ring: Mutex::default(),
        })
    }

    /// A request has ended.
    pub fn push(&self, record: Arc<Record>) {
        if self.keep == 0 {
            return;
        }
        let mut ring = self.ring.lock();
        let oldest = if ring.len() == self.keep {
            ring.pop_front()
        } else {
            None
        };
        ring.push_back(record);
        drop(ring);
        // Freed outside the lock.
        drop(oldest);
    }

    /// The request called `id`.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Record>> {
        let ring = self.ring.lock();
        ring.iter().rev().find(|r| r.request_id == id).cloned()
    }

    /// The requests that `query` asks for.
    #[must_use]
    pub fn list(&self, query: &Query) -> Vec<Arc<Record>> {
        let all: Vec<_> = self.ring.lock().iter().rev().cloned().collect();
        let mut found: Vec<_> = all.into_iter().filter(|r| query.wants(r)).collect();
        // Stable: among equals the latest stays first.
        found.sort_by_key(|record| Reverse(query.order.of(record)));
        found.truncate(query.limit);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::{Dialect, Outcome};

    fn record(n: u64) -> Record {
        let mut record = Record::new(n.to_string(), "POST", "/v1/messages", Dialect::Anthropic);
        record.time = SystemTime::UNIX_EPOCH + Duration::from_secs(n);
        record.total = Duration::from_secs(n % 7);
        record.ttft = n.is_multiple_of(2).then(|| Duration::from_secs(n % 5));
        record.outcome = if n.is_multiple_of(10) {
            Outcome::Timeout
        } else {
            Outcome::Ok
        };
        record.pool = Some("p".into());
        record
    }

    fn recent() -> Arc<Recent> {
        let recent = Recent::new(100);
        (0..150).for_each(|n| recent.push(record(n).into()));
        recent
    }

    fn ids(recent: &Recent, query: Query) -> Vec<String> {
        let query = Query { limit: 3, ..query };
        let found = recent.list(&query);
        found.iter().map(|r| r.request_id.clone()).collect()
    }

    #[test]
    fn the_newest_stay() {
        let recent = recent();
        assert!(recent.find("49").is_none());
        assert_eq!(recent.find("50").unwrap().request_id, "50");
        assert_eq!(ids(&recent, Query::default()), ["149", "148", "147"]);
        let none = Recent::new(0);
        none.push(record(1).into());
        assert!(none.find("1").is_none());
    }

    #[test]
    fn a_spike_leads_to_its_requests() {
        let recent = recent();
        let by = |order| Query {
            order,
            ..Query::default()
        };
        assert_eq!(ids(&recent, by(Order::Total)), ["146", "139", "132"]);
        assert_eq!(ids(&recent, by(Order::Ttft)), ["144", "134", "124"]);
        let failed = Query {
            outcome: Some("timeout".into()),
            ..Query::default()
        };
        assert_eq!(ids(&recent, failed), ["140", "130", "120"]);
        let second = |n| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(n));
        let then = Query {
            from: second(62),
            to: second(61),
            pool: Some("p".into()),
            ..Query::default()
        };
        // Under way at both: began by 61, ended after 62.
        assert_eq!(ids(&recent, then), ["61", "60", "59"]);
        let elsewhere = Query {
            backend: Some("b".into()),
            ..Query::default()
        };
        assert!(ids(&recent, elsewhere).is_empty());
    }
}
