//! What outlives the process, and what a store that fails does to a rollout.

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::config;
use crate::spec::rollout::{Capacity, Mode, What};
use crate::store::{self, Entry};

fn plan(more: serde_json::Value) -> Rollout {
    let mut plan = json!({
        "name": "r", "pool": "p", "baseline": "none", "candidate": "ngram-mod", "control": "c",
        "steps": ["25%", "50%"], "hardware_equal": true,
    });
    for (key, value) in more.as_object().unwrap() {
        plan[key] = value.clone();
    }
    serde_json::from_value(plan).unwrap()
}

fn look(trouble: Option<&str>) -> Look {
    let capacity = Capacity {
        candidate: 4,
        all: 8,
    };
    Look {
        trouble: trouble.map(str::to_owned),
        ..Look::fair(capacity, "one server")
    }
}

/// A store that can be told to fail.
struct Fails {
    inner: std::sync::Arc<dyn Store>,
    now: Mutex<bool>,
}

#[async_trait]
impl Store for Fails {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<&[u8]>,
        expires_in: Option<Duration>,
    ) -> Result<Swap, StoreError> {
        if *self.now.lock() {
            return Err(StoreError::Closed);
        }
        self.inner.swap(key, expected, value, expires_in).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, StoreError> {
        self.inner.list(prefix).await
    }
}

fn store() -> Fails {
    Fails {
        inner: store::open(&config::Store::Memory).unwrap(),
        now: Mutex::new(false),
    }
}

async fn restored(store: &dyn Store) -> Keeper {
    Keeper::restore(store, &plan(json!({})), 1).await.unwrap()
}

/// Between any two writings the process may be gone: whoever comes next finds what the last writing said.
#[tokio::test]
async fn every_change_is_there_after_a_restart() {
    let store = store();
    let mut keeper = restored(&store).await;
    let orders = [
        Command::Start,
        Command::Pause,
        Command::Resume,
        Command::Promote,
        Command::Abort,
    ];
    for command in orders {
        keeper.order(&store, command, 5).await.unwrap();
        assert_eq!(restored(&store).await.state(), keeper.state());
        keeper = restored(&store).await;
        if command != Command::Pause {
            keeper.look(&store, &look(None)).await;
            assert_eq!(restored(&store).await.state(), keeper.state());
        }
    }
    let routing = restored(&store).await.state().routing(keeper.plan());
    assert_eq!(routing.mode, Mode::Baseline);
}

#[tokio::test]
async fn nothing_takes_effect_that_is_not_written_down() {
    let store = store();
    let mut keeper = restored(&store).await;
    *store.now.lock() = true;
    let refused = keeper.order(&store, Command::Start, 5).await;
    assert!(matches!(refused, Err(OrderError::Store(_))));
    assert_eq!(keeper.state().phase(), Phase::Pending);
    *store.now.lock() = false;
    keeper.order(&store, Command::Start, 5).await.unwrap();
    *store.now.lock() = true;
    assert!(keeper.look(&store, &look(None)).await.is_empty());
    assert_eq!(keeper.state().phase(), Phase::WaitingCapacity);
}

/// Harm does not wait for a disk.
#[tokio::test]
async fn a_rollback_holds_though_it_cannot_be_written_down() {
    let store = store();
    let mut keeper = restored(&store).await;
    keeper.order(&store, Command::Start, 5).await.unwrap();
    keeper.look(&store, &look(None)).await;
    *store.now.lock() = true;
    let events = keeper.look(&store, &look(Some("gone"))).await;
    assert!(matches!(events[1].what, What::RolledBack { .. }));
    assert_eq!(keeper.state().phase(), Phase::RolledBack);
}

#[tokio::test]
async fn of_two_processes_one_is_faster_and_the_other_follows() {
    let store = store();
    let (mut one, mut other) = (restored(&store).await, restored(&store).await);
    one.order(&store, Command::Start, 5).await.unwrap();
    let late = other.order(&store, Command::Start, 6).await;
    assert!(matches!(late, Err(OrderError::Conflict)));
    assert_eq!(other.state(), one.state());
    other.order(&store, Command::Abort, 7).await.unwrap();
}

#[tokio::test]
async fn another_configuration_or_another_version_begins_anew() {
    let store = store();
    let mut keeper = restored(&store).await;
    keeper.order(&store, Command::Start, 5).await.unwrap();
    let other = plan(json!({"candidate": "ngram-cache"}));
    let keeper = Keeper::restore(&store, &other, 9).await.unwrap();
    assert_eq!(keeper.state().phase(), Phase::Pending);
    let entry = store.get("rollout/r").await.unwrap().unwrap();
    let swapped = store.swap("rollout/r", Some(entry.version), Some(b"{}"), None);
    assert!(matches!(swapped.await.unwrap(), Swap::Done(_)));
    assert_eq!(restored(&store).await.state().phase(), Phase::Pending);
}
