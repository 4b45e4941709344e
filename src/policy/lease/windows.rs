//! How long a lease lasts at most.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Action;

/// Shortest window: less would be over before the call is made.
const MIN: Duration = Duration::from_millis(100);

/// Longest window.
const MAX: Duration = Duration::from_secs(3600);

/// How long a deploy-like call has its target alone at most; its result ends that earlier. Those not
/// given are of the set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Windows {
    /// Windows that go together: `default` (commit 30 s, push 5 s, merge 10 s, workflow 5 s, deploy 60 s),
    /// `urgent` (2, 1, 2, 1, 5), `fast` (5, 1, 2, 1, 10) or `safe` (60, 10, 30, 10, 120).
    pub set: Set,
    /// Of a commit, 100ms to 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Window>,
    /// Of a push.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<Window>,
    /// Of a merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<Window>,
    /// Of a workflow that is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Window>,
    /// Of everything else that is deployed or published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Window>,
}

/// Windows that go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// The usual ones.
    #[default]
    Default,
    /// As short as can be.
    Urgent,
    /// Short ones.
    Fast,
    /// Long ones.
    Safe,
}

impl Windows {
    /// That of `action`.
    pub fn of(&self, action: Action) -> Duration {
        let own = match action {
            Action::Commit => self.commit,
            Action::Push => self.push,
            Action::Merge => self.merge,
            Action::Workflow => self.workflow,
            Action::Deploy => self.deploy,
        };
        own.map_or_else(|| self.set.of(action), |window| window.0)
    }
}

impl Set {
    fn of(self, action: Action) -> Duration {
        let [commit, push, merge, workflow, deploy] = match self {
            Self::Default => [30, 5, 10, 5, 60],
            Self::Urgent => [2, 1, 2, 1, 5],
            Self::Fast => [5, 1, 2, 1, 10],
            Self::Safe => [60, 10, 30, 10, 120],
        };
        Duration::from_secs(match action {
            Action::Commit => commit,
            Action::Push => push,
            Action::Merge => merge,
            Action::Workflow => workflow,
            Action::Deploy => deploy,
        })
    }
}

/// A time between 100 ms and an hour, written `500ms`, `30s`, `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(Duration);

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = humantime::parse_duration(&text).map_err(|error| {
            de::Error::custom(format!(
                "`{text}` is not a duration such as 500ms or 30s: {error}"
            ))
        })?;
        match (MIN..=MAX).contains(&span) {
            true => Ok(Self(span)),
            false => Err(de::Error::custom(format!(
                "`{text}` is not between 100ms and 1h"
            ))),
        }
    }
}

impl JsonSchema for Window {
    fn schema_name() -> Cow<'static, str> {
        "Window".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_windows_go_before_those_of_the_set() {
        let windows: Windows = serde_saphyr::from_str("{set: safe, push: 700ms}").unwrap();
        assert_eq!(windows.of(Action::Push), Duration::from_millis(700));
        assert_eq!(windows.of(Action::Deploy), Duration::from_secs(120));
        assert_eq!(Windows::default().of(Action::Commit).as_secs(), 30);
        for wrong in [
            "{push: 1ms}",
            "{push: 5}",
            "{push: 2h}",
            "{set: slow}",
            "{pull: 5s}",
        ] {
            assert!(serde_saphyr::from_str::<Windows>(wrong).is_err(), "{wrong}");
        }
    }
}
