//! What is known of the gateway, bounded.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::told::{Fleet, Happened, Live, Request, Turn};

/// Rates and times are those of the last minute.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Requests and happenings kept.
const MOST: usize = 10_000;
const MOST_HAPPENED: usize = 500;

/// Whether the gateway answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing was tried yet.
    Connecting,
    Up,
    /// Why not.
    Down(String),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) link: Link,
    /// None until it was told.
    pub(super) fleet: Option<Fleet>,
    pub(super) turns: Vec<Turn>,
    /// The latest first.
    pub(super) happened: VecDeque<Happened>,
    /// News that came too fast to be told.
    pub(super) missed: u64,
    /// The latest first, with the time each came.
    requests: VecDeque<(Instant, Request)>,
    /// Sums of the seconds of the window, the latest first: of a fast gateway not every request of it is kept.
    seconds: VecDeque<Second>,
    since: Instant,
}

/// What came within one second.
#[derive(Debug)]
struct Second {
    began: Instant,
    requests: u64,
    failed: u64,
    tokens_in: u64,
    cached: u64,
    tokens_out: u64,
}

impl Second {
    fn new(began: Instant) -> Self {
        Self {
            began,
            requests: 0,
            failed: 0,
            tokens_in: 0,
            cached: 0,
            tokens_out: 0,
        }
    }

    fn add(&mut self, request: &Request) {
        self.requests += 1;
        self.failed += u64::from(!request.is_well());
        self.tokens_in += request.tokens_in.unwrap_or(0);
        self.cached += request.tokens_cached.unwrap_or(0);
        self.tokens_out += request.tokens_out.unwrap_or(0);
    }
}

/// The last minute, or less if less is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Requests a second.
    pub(super) requests: f64,
    /// Share of them that did not end well.
    pub(super) failed: f64,
    /// Generated tokens a second.
    pub(super) tokens_out: f64,
    /// Share of prompt tokens that were found in caches.
    pub(super) cached: Option<f64>,
    /// Milliseconds to the first token: median and 95th percentile.
    pub(super) first: Option<(u64, u64)>,
}

impl Known {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            link: Link::Connecting,
            fleet: None,
            turns: Vec::new(),
            happened: VecDeque::new(),
            missed: 0,
            requests: VecDeque::new(),
            seconds: VecDeque::new(),
            since: now,
        }
    }

    /// Takes an event in. Kinds that are not known, and data that cannot be read, are left out: the gateway may be of
    /// another version.
    pub(super) fn take(&mut self, kind: &str, data: &[u8], now: Instant) {
        match kind {
            "fleet" => {
                self.fleet = serde_json::from_slice::<Fleet>(data)
                    .ok()
                    .or(self.fleet.take())
            }
            "live" => {
                if let Ok(live) = serde_json::from_slice::<Live>(data) {
                    self.turns = live.turns;
                }
            }
            "request" => {
                if let Ok(request) = serde_json::from_slice(data) {
                    self.count(&request, now);
                    self.requests.push_front((now, request));
                    self.requests.truncate(MOST);
                }
            }
            "intervention" | "policy" => {
                if let Ok(happened) = serde_json::from_slice(data) {
                    self.happened.push_front(happened);
                    self.happened.truncate(MOST_HAPPENED);
                }
            }
            "missed" => {
                let told = serde_json::from_slice::<serde_json::Value>(data);
                let count = told.ok().and_then(|told| told["events"].as_u64());
                self.missed = self.missed.saturating_add(count.unwrap_or(0));
            }
            _ => {}
        }
    }

    /// The gateway no longer tells anything: what was under way is not known to be so.
    pub(super) fn lost(&mut self, why: String) {
        self.link = Link::Down(why);
        self.turns.clear();
    }

    /// The latest first.
    pub(super) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().map(|(_, request)| request)
    }

    fn count(&mut self, request: &Request, now: Instant) {
        let is_over =
            |second: &Second| now.saturating_duration_since(second.began) >= Duration::from_secs(1);
        if self.seconds.front().is_none_or(is_over) {
            self.seconds.push_front(Second::new(now));
            self.seconds.truncate(WINDOW.as_secs() as usize + 1);
        }
        if let Some(second) = self.seconds.front_mut() {
            second.add(request);
        }
    }

    pub(super) fn rates(&self, now: Instant) -> Rates {
        let lately = |at: Instant| now.saturating_duration_since(at) <= WINDOW;
        let seconds = self.seconds.iter().take_while(|s| lately(s.began));
        let sum = |of: fn(&Second) -> u64| seconds.clone().map(of).sum::<u64>();
        let requests = sum(|s| s.requests);
        if requests == 0 {
            return Rates::default();
        }
        let known = now.saturating_duration_since(self.since).min(WINDOW);
        let known = known.as_secs_f64().max(1.0);
        let read = sum(|s| s.tokens_in);
        let kept = self.requests.iter().take_while(|(at, _)| lately(*at));
        let mut firsts: Vec<u64> = kept.filter_map(|(_, r)| r.ttft_ms).collect();
        firsts.sort_unstable();
        Rates {
            requests: requests as f64 / known,
            failed: sum(|s| s.failed) as f64 / requests as f64,
            tokens_out: sum(|s| s.tokens_out) as f64 / known,
            cached: (read > 0).then(|| sum(|s| s.cached) as f64 / read as f64),
            first: quantile(&firsts, 50).zip(quantile(&firsts, 95)),
        }
    }
}

/// Nearest rank.
fn quantile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let began = Instant::now();
        let mut known = Known::new(began);
        let at = |seconds| began + Duration::from_secs(seconds);
        let old = br#"{"outcome":"timeout","tokens_out":900000,"total_ms":1}"#;
        known.take("request", old, at(1));
        for n in 1..=20 {
            let request = format!(
                r#"{{"outcome":"{}","tokens_in":100,"tokens_cached":75,"tokens_out":30,"ttft_ms":{},"total_ms":9}}"#,
                if n % 4 == 0 { "timeout" } else { "ok" },
                n * 10
            );
            known.take("request", request.as_bytes(), at(100));
        }
        let rates = known.rates(at(120));
        assert!((rates.requests - 20.0 / 60.0).abs() < 1e-9);
        assert!((rates.tokens_out - 10.0).abs() < 1e-9);
        assert_eq!((rates.failed, rates.cached), (0.25, Some(0.75)));
        assert_eq!(rates.first, Some((100, 190)));
        assert_eq!(known.rates(at(300)), Rates::default());
    }

    /// More requests in a minute than are kept.
    #[test]
    fn a_fast_gateway_is_not_told_to_be_slower_than_it_is() {
        let began = Instant::now();
        let mut known = Known::new(began);
        for ms in (0..90_000u64).filter(|ms| ms % 2 == 0) {
            let at = began + Duration::from_millis(ms);
            known.take("request", br#"{"outcome":"ok","tokens_out":3}"#, at);
        }
        let rates = known.rates(began + Duration::from_secs(90));
        assert!((rates.requests - 500.0).abs() < 10.0, "{rates:?}");
        assert!((rates.tokens_out - 1500.0).abs() < 30.0, "{rates:?}");
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let now = Instant::now();
        let mut known = Known::new(now);
        known.take(
            "fleet",
            br#"{"sessions":3,"backends":[{"id":"a"}],"new":1}"#,
            now,
        );
        for (kind, data) in [
            ("fleet", "[1]"),
            ("fleet", "{"),
            ("live", "x"),
            ("request", ""),
            ("new", "{}"),
        ] {
            known.take(kind, data.as_bytes(), now);
        }
        let fleet = known.fleet.clone().unwrap();
        assert_eq!((fleet.sessions, fleet.backends[0].id.as_str()), (3, "a"));
        assert_eq!(known.requests().count(), 0);
        known.take("missed", br#"{"events":7}"#, now);
        assert_eq!(known.missed, 7);
    }

    #[test]
    fn what_is_kept_is_bounded_and_turns_of_a_lost_gateway_are_not_shown() {
        let now = Instant::now();
        let mut known = Known::new(now);
        for _ in 0..MOST + 5 {
            known.take("request", b"{}", now);
            known.take("policy", b"{}", now);
        }
        assert_eq!(
            (known.requests.len(), known.happened.len()),
            (MOST, MOST_HAPPENED)
        );
        known.take("live", br#"{"turns":[{"request_id":"r"}]}"#, now);
        assert_eq!(known.turns.len(), 1);
        known.lost("gone".to_owned());
        assert!(known.turns.is_empty() && known.link == Link::Down("gone".to_owned()));
    }
}
