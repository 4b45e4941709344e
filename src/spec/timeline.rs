//! What changed on backends, and when: builds, models, flags, slots, profiles.
//!
//! A finding says that something is worse; this says what happened at that time. Times are seconds since 1970, told by
//! whoever looks.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Events remembered; the oldest goes first.
const MOST: usize = 256;

/// Backends whose last state is remembered, so that they may be away for a while.
const MOST_BACKENDS: usize = 1024;

/// Longest value that is kept: what a backend says is its own word.
const MOST_CHARS: usize = 200;

/// What a backend shows of itself, as names and values. What it does not show is not in it.
pub type Shown = BTreeMap<String, String>;

/// Something that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turned {
    /// What: `build`, `model`, `profile`, `slots`, or the name of a setting.
    pub what: String,
    /// What it was; none: it is seen for the first time.
    pub from: Option<String>,
    /// What it is now; none: it is no longer shown.
    pub to: Option<String>,
}

/// What changed on one backend at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since 1970.
    pub at: u64,
    /// The backend's pool.
    pub pool: String,
    /// The backend.
    pub backend: String,
    /// All of it.
    pub changes: Vec<Turned>,
}

impl Event {
    /// Whether the backend is seen for the first time.
    pub fn is_first(&self) -> bool {
        self.changes.iter().all(|change| change.from.is_none())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    at: u64,
    shown: Shown,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Timeline {
    known: BTreeMap<String, Known>,
    events: VecDeque<Event>,
    #[serde(skip)]
    is_new: bool,
}

impl Timeline {
    /// Looks at a backend. What is new there, unless nothing is. What is not shown now may be shown again: it
    /// counts as it was.
    pub fn look(&mut self, at: u64, pool: &str, backend: &str, shown: &Shown) -> Option<Event> {
        let cut = |text: &String| text.chars().take(MOST_CHARS).collect::<String>();
        let before = self.known.get(backend).map(|known| &known.shown);
        let changes: Vec<Turned> = shown
            .iter()
            .filter_map(|(what, value)| {
                let (to, from) = (cut(value), before.and_then(|known| known.get(what)));
                (from != Some(&to)).then(|| Turned {
                    what: what.clone(),
                    from: from.cloned(),
                    to: Some(to),
                })
            })
            .collect();
        if changes.is_empty() {
            return None;
        }
        let known = self.known.entry(backend.to_owned());
        let known = known.or_insert_with(|| Known {
            at,
            shown: Shown::new(),
        });
        known.at = at;
        for change in &changes {
            if let Some(to) = &change.to {
                known.shown.insert(change.what.clone(), to.clone());
            }
        }
        self.forget();
        let event = Event {
            at,
            pool: pool.to_owned(),
            backend: backend.to_owned(),
            changes,
        };
        self.events.push_back(event.clone());
        self.is_new = true;
        Some(event)
    }

    fn forget(&mut self) {
        while self.events.len() >= MOST {
            self.events.pop_front();
        }
        if self.known.len() > MOST_BACKENDS {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.at);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.known.remove(&name);
            }
        }
    }

    /// What happened, the latest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().rev()
    }

    /// Whether it has changed since this was last asked.
    pub fn take_new(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pairs: &[(&str, &str)]) -> Shown {
        let owned = |(what, value): &(&str, &str)| ((*what).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn changes_are_told_once_with_what_it_was() {
        let mut timeline = Timeline::default();
        let old = shown(&[("build", "b1"), ("n_ctx", "4096")]);
        let first = timeline.look(1, "p", "g0", &old).unwrap();
        assert!(first.is_first() && first.changes.len() == 2);
        assert_eq!(timeline.look(2, "p", "g0", &old), None);
        assert_eq!(
            timeline.look(3, "p", "g0", &shown(&[])),
            None,
            "it restarts"
        );
        let event = timeline
            .look(4, "p", "g0", &shown(&[("build", "b2"), ("n_ctx", "4096")]))
            .unwrap();
        let turned = Turned {
            what: "build".into(),
            from: Some("b1".into()),
            to: Some("b2".into()),
        };
        assert_eq!((event.at, event.changes.as_slice()), (4, &[turned][..]));
        assert!(!event.is_first());
        let times: Vec<u64> = timeline.events().map(|event| event.at).collect();
        assert_eq!(times, [4, 1]);
    }

    #[test]
    fn a_change_during_a_restart_of_the_gateway_is_seen() {
        let mut timeline = Timeline::default();
        timeline.look(1, "p", "g0", &shown(&[("build", "b1")]));
        assert!(timeline.take_new() && !timeline.take_new());
        let text = serde_json::to_string(&timeline).unwrap();
        let mut next: Timeline = serde_json::from_str(&text).unwrap();
        let event = next.look(9, "p", "g0", &shown(&[("build", "b2")])).unwrap();
        assert_eq!(event.changes[0].from.as_deref(), Some("b1"));
        assert_eq!(next.events().count(), 2);
    }

    #[test]
    fn it_is_bounded_whatever_backends_say() {
        let mut timeline = Timeline::default();
        let long = "x".repeat(10_000);
        for n in 0..3 * MOST_BACKENDS {
            let build = format!("{n} {long}");
            timeline.look(n as u64, "p", &n.to_string(), &shown(&[("build", &build)]));
        }
        assert_eq!(timeline.events().count(), MOST);
        assert!(timeline.known.len() <= MOST_BACKENDS);
        assert!(
            timeline
                .events()
                .all(|e| e.changes[0].to.as_ref().unwrap().len() <= MOST_CHARS)
        );
    }
}
